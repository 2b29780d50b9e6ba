"""Kafka frames by hand, so that they can be wrong in every way. Old, non-flexible versions mostly.

Each request gives the error code of the thing it asks about; `answer` gives the bytes of any request.
"""
import socket
import struct
import time

import crc32c

APIS = {
    "produce": 0, "fetch": 1, "list_offsets": 2, "metadata": 3, "offset_commit": 8, "offset_fetch": 9,
    "find_coordinator": 10, "join_group": 11, "heartbeat": 12, "leave_group": 13, "sync_group": 14,
    "describe_groups": 15, "list_groups": 16, "api_versions": 18, "create_topics": 19,
    "delete_topics": 20, "delete_records": 21, "init_producer_id": 22, "offset_for_leader_epoch": 23,
    "describe_configs": 32, "alter_configs": 33, "describe_log_dirs": 35, "create_partitions": 37, "delete_groups": 42,
    "incremental_alter_configs": 44, "offset_delete": 47, "describe_cluster": 60,
}


class Closed(Exception):
    """The broker closed the connection."""


def i8(value):
    return struct.pack(">b", value)


def i16(value):
    return struct.pack(">h", value)


def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def string(value):
    return i16(-1) if value is None else i16(len(value.encode())) + value.encode()


def data(value):
    return i32(-1) if value is None else i32(len(value)) + value


def array(items):
    return i32(len(items)) + b"".join(items)


def varint(value):
    value = (value << 1) ^ (value >> 63)
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def uvarint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def compact(value):
    return uvarint(0) if value is None else uvarint(len(value.encode()) + 1) + value.encode()


# Younger than any retention, and the same for all of a run.
AT = int(time.time() * 1000) - 60_000


def batch(values, producer=-1, epoch=-1, sequence=-1, magic=2, attributes=0, crc=None, count=None,
          length=None, timestamp=AT, max_timestamp=None, deltas=None):
    """A record batch; what is given instead of left out need not be true."""
    records = b""
    for number, value in enumerate(values):
        delta = deltas[number] if deltas else 0
        body = i8(0) + varint(delta) + varint(number) + varint(-1) + varint(len(value)) + value + varint(0)
        records += varint(len(body)) + body
    count = len(values) if count is None else count
    after_crc = (
        i16(attributes) + i32(len(values) - 1) + i64(timestamp)
        + i64(timestamp + max(deltas or [0]) if max_timestamp is None else max_timestamp) + i64(producer)
        + i16(epoch) + i32(sequence) + i32(count) + records
    )
    checksum = crc32c.crc32c(after_crc) if crc is None else crc
    rest = i32(-1) + i8(magic) + struct.pack(">I", checksum) + after_crc
    return i64(0) + i32(len(rest) if length is None else length) + rest


class Reader:
    """The fields of an answer, one after the other."""

    def __init__(self, content):
        self.content, self.at = content, 0

    def take(self, count):
        piece = self.content[self.at:self.at + count]
        assert len(piece) == count, f"the answer ends after {len(self.content)} bytes"
        self.at += count
        return piece

    def i8(self):
        return struct.unpack(">b", self.take(1))[0]

    def i16(self):
        return struct.unpack(">h", self.take(2))[0]

    def i32(self):
        return struct.unpack(">i", self.take(4))[0]

    def i64(self):
        return struct.unpack(">q", self.take(8))[0]

    def string(self):
        length = self.i16()
        return None if length < 0 else self.take(length).decode()

    def data(self):
        length = self.i32()
        return None if length < 0 else self.take(length)

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def compact(self):
        length = self.uvarint()
        return None if length == 0 else self.take(length - 1).decode()

    def tags(self):
        for _ in range(self.uvarint()):
            self.uvarint()
            self.take(self.uvarint())


class Connection:
    """One connection, which sends what it is told to."""

    def __init__(self, address, seconds=15):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=seconds)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_raw(self, content):
        try:
            self.socket.sendall(content)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def send(self, api, version, body, flexible=False):
        self.correlation += 1
        frame = i16(APIS.get(api, api)) + i16(version) + i32(self.correlation) + string("wire")
        frame += (b"\0" if flexible else b"") + body
        self.send_raw(i32(len(frame)) + frame)

    def receive(self):
        """The next answer after its correlation id, which must be that of the last request."""
        length = struct.unpack(">i", self.exactly(4))[0]
        content = self.exactly(length)
        assert struct.unpack(">i", content[:4])[0] == self.correlation, "answers keep the order"
        return content[4:]

    def any_answer(self):
        """The correlation id of the next answer."""
        content = self.exactly(struct.unpack(">i", self.exactly(4))[0])
        return struct.unpack(">i", content[:4])[0]

    def exactly(self, count):
        content = b""
        while len(content) < count:
            try:
                piece = self.socket.recv(count - len(content))
            except ConnectionResetError as error:
                raise Closed from error
            if not piece:
                raise Closed
            content += piece
        return content

    def closed(self):
        """Whether the broker closes the connection without an answer."""
        try:
            self.exactly(1)
        except Closed:
            return True
        return False

    def answer(self, api, version, body, flexible=False):
        self.send(api, version, body, flexible)
        return Reader(self.receive())

    # Requests. Each gives an error code, or (error code, more).

    def api_versions(self, version=0):
        """(error, {api key: (oldest, newest)})"""
        answer = self.answer("api_versions", version, b"", flexible=version >= 3)
        error = answer.i16()
        return error, {answer.i16(): (answer.i16(), answer.i16()) for _ in range(answer.i32())}

    def produce(self, topic, partition, records, acks=-1, transactional_id=None):
        """(error, base offset)"""
        body = string(transactional_id) + i16(acks) + i32(5000)
        body += array([string(topic) + array([i32(partition) + data(records)])])
        answer = self.answer("produce", 7, body)
        assert answer.i32() == 1 and answer.string() == topic and answer.i32() == 1
        assert answer.i32() == partition
        return answer.i16(), answer.i64()

    def fetch(self, topic, partition, offset, max_bytes=1 << 20, max_wait=100, session=(0, -1)):
        """(error, high watermark, log start offset, the batches)"""
        body = i32(-1) + i32(max_wait) + i32(1) + i32(max_bytes) + i8(0) + i32(session[0]) + i32(session[1])
        place = i32(partition) + i32(-1) + i64(offset) + i64(-1) + i32(max_bytes)
        body += array([string(topic) + array([place])]) + array([]) + string("")
        answer = self.answer("fetch", 11, body)
        answer.i32()
        error = answer.i16()
        answer.i32()
        if error or not answer.i32():
            return error, -1, -1, b""
        assert answer.string() == topic and answer.i32() == 1 and answer.i32() == partition
        error, high, _, start = answer.i16(), answer.i64(), answer.i64(), answer.i64()
        for _ in range(max(0, answer.i32())):
            answer.take(16)
        answer.i32()
        return error, high, start, answer.data()

    def list_offsets(self, topic, partition, at):
        """(error, offset)"""
        place = i32(partition) + i32(-1) + i64(at)
        answer = self.answer("list_offsets", 4, i32(-1) + i8(0) + array([string(topic) + array([place])]))
        answer.take(4 + 4)
        answer.string()
        answer.take(4 + 4)
        error = answer.i16()
        answer.i64()
        return error, answer.i64()

    def create_topics(self, *topics):
        """{name: error}; a topic is (name, partitions, replicas, {setting: value})."""
        body = array([
            string(name) + i32(partitions) + i16(replicas) + array([])
            + array([string(key) + string(value) for key, value in configs.items()])
            for name, partitions, replicas, configs in topics
        ])
        answer = self.answer("create_topics", 2, body + i32(10_000) + i8(0))
        answer.i32()
        errors = {}
        for _ in range(answer.i32()):
            name = answer.string()
            errors[name] = answer.i16()
            answer.string()
        return errors

    def create_topic(self, name, partitions=1, replicas=1, configs=None):
        return self.create_topics((name, partitions, replicas, configs or {}))[name]

    def delete_topic(self, name):
        answer = self.answer("delete_topics", 1, array([string(name)]) + i32(10_000))
        answer.i32()
        assert answer.i32() == 1
        answer.string()
        return answer.i16()

    def create_partitions(self, name, count):
        answer = self.answer("create_partitions", 0, array([string(name) + i32(count) + i32(-1)]) + i32(10_000) + i8(0))
        answer.i32()
        assert answer.i32() == 1
        answer.string()
        return answer.i16()

    def delete_records(self, topic, partition, before):
        body = array([string(topic) + array([i32(partition) + i64(before)])]) + i32(10_000)
        answer = self.answer("delete_records", 0, body)
        answer.i32()
        assert answer.i32() == 1
        answer.string()
        answer.take(4 + 4 + 8)
        return answer.i16()

    def alter_configs(self, topic, configs, api="incremental_alter_configs", kind=2):
        """Sets settings; `api` is the incremental request or "alter_configs", which replaces them all."""
        incremental = api == "incremental_alter_configs"
        entries = [
            string(name) + (i8(0) if incremental else b"") + string(value) for name, value in configs.items()
        ]
        answer = self.answer(api, 0 if incremental else 1, array([i8(kind) + string(topic) + array(entries)]) + i8(0))
        answer.i32()
        assert answer.i32() == 1
        return answer.i16()

    def alter_config_ops(self, topic, ops, kind=2):
        """IncrementalAlterConfigs; an operation is (setting, 0 set, 1 delete, 2 append, 3 subtract, value)."""
        entries = [string(name) + i8(operation) + string(value) for name, operation, value in ops]
        answer = self.answer("incremental_alter_configs", 0, array([i8(kind) + string(topic) + array(entries)]) + i8(0))
        answer.i32()
        assert answer.i32() == 1
        return answer.i16()

    def metadata(self, *topics, create=False):
        """{name: (error, internal, number of partitions)} of these topics, or of all."""
        wanted = array([string(topic) for topic in topics]) if topics else i32(-1)
        answer = self.answer("metadata", 8, wanted + i8(create) + i8(0) + i8(0))
        answer.i32()
        for _ in range(answer.i32()):
            answer.i32(), answer.string(), answer.i32(), answer.string()
        answer.string(), answer.i32()
        found = {}
        for _ in range(answer.i32()):
            error, name, internal, partitions = answer.i16(), answer.string(), answer.i8(), answer.i32()
            for _ in range(partitions):
                answer.take(2 + 4 + 4 + 4)
                for _ in range(3):
                    answer.take(4 * answer.i32())
            answer.i32()
            found[name] = error, bool(internal), partitions
        return found

    def produce_named(self, topic, partition, records, acks=-1, timeout=5000):
        """(error, base offset, {index of a record that is refused: why})"""
        body = string(None) + i16(acks) + i32(timeout)
        body += array([string(topic) + array([i32(partition) + data(records)])])
        answer = self.answer("produce", 8, body)
        answer.i32(), answer.string(), answer.i32(), answer.i32()
        error, offset = answer.i16(), answer.i64()
        answer.take(8 + 8)
        return error, offset, {answer.i32(): answer.string() for _ in range(answer.i32())}

    def plan_topic(self, name, configs):
        """CreateTopics 7 that only validates: (error, partitions, replicas, {setting: value or None})."""
        entries = b"".join(compact(key) + compact(value) + b"\0" for key, value in configs.items())
        topic = compact(name) + i32(3) + i16(1) + uvarint(1) + uvarint(len(configs) + 1) + entries + b"\0"
        body = uvarint(2) + topic + i32(10_000) + i8(1) + b"\0"
        answer = self.answer("create_topics", 7, body, flexible=True)
        answer.tags()
        answer.i32()
        assert answer.uvarint() == 2
        assert answer.compact() == name
        answer.take(16)
        error = answer.i16()
        answer.compact()
        partitions, replicas, count = answer.i32(), answer.i16(), answer.uvarint()
        found = None if count == 0 else {}
        for _ in range(count - 1):
            key, value = answer.compact(), answer.compact()
            answer.take(1 + 1 + 1)
            answer.tags()
            found[key] = value
        return error, partitions, replicas, found

    def describe_topic_partitions(self, name):
        body = uvarint(2) + compact(name) + b"\0" + i32(100) + i8(-1) + b"\0"
        answer = self.answer(75, 0, body, flexible=True)
        answer.tags()
        answer.i32()
        assert answer.uvarint() == 2
        return answer.i16()

    def log_dirs(self, topics=None):
        """[(error, directory, {topic: {partition: bytes}})]; topics are {name: [partition]}, or all."""
        body = i32(-1) if topics is None else array([
            string(topic) + array([i32(partition) for partition in partitions])
            for topic, partitions in topics.items()
        ])
        answer = self.answer("describe_log_dirs", 1, body)
        answer.i32()
        found = []
        for _ in range(answer.i32()):
            error, directory, held = answer.i16(), answer.string(), {}
            for _ in range(answer.i32()):
                partitions = held[answer.string()] = {}
                for _ in range(answer.i32()):
                    partition, size = answer.i32(), answer.i64()
                    assert (answer.i64(), answer.i8()) == (0, 0), "it is not behind, and no future one"
                    partitions[partition] = size
            found.append((error, directory, held))
        return found

    def describe_configs(self, topic, kind=2):
        answer = self.answer("describe_configs", 1, array([i8(kind) + string(topic) + i32(-1)]) + i8(0))
        answer.i32()
        assert answer.i32() == 1
        return answer.i16()

    def init_producer_id(self):
        """(error, producer id, epoch)"""
        answer = self.answer("init_producer_id", 0, string(None) + i32(60_000))
        answer.i32()
        return answer.i16(), answer.i64(), answer.i16()

    def join_group(self, group, member="", session_ms=10_000, protocols=("range",), kind="consumer",
                   instance=None, version=5, rebalance_ms=3000):
        """(error, generation, member id)"""
        body = string(group) + i32(session_ms) + i32(rebalance_ms) + string(member)
        body += (string(instance) if version >= 5 else b"") + string(kind)
        body += array([string(protocol) + data(b"\0\0\0\0\0\0\0\0\0\0") for protocol in protocols])
        answer = self.answer("join_group", version, body)
        answer.i32()
        error, generation = answer.i16(), answer.i32()
        answer.string()
        answer.string()
        return error, generation, answer.string()

    def sync_group(self, group, generation, member, assignments=(), instance=None):
        body = string(group) + i32(generation) + string(member) + string(instance)
        body += array([string(name) + data(content) for name, content in assignments])
        answer = self.answer("sync_group", 3, body)
        answer.i32()
        return answer.i16()

    def in_group(self, group, **options):
        """Joins and syncs as the only member: (generation, member id)."""
        error, generation, member = self.join_group(group, **options)
        if error == 79:  # the broker wants the member to come back with the id it gave it
            error, generation, member = self.join_group(group, member, **options)
        assert error == 0, error
        error = self.sync_group(group, generation, member, [(member, b"")], options.get("instance"))
        assert error == 0, error
        return generation, member

    def heartbeat(self, group, generation, member, instance=None):
        body = string(group) + i32(generation) + string(member) + string(instance)
        answer = self.answer("heartbeat", 3, body)
        answer.i32()
        return answer.i16()

    def leave_group(self, group, member):
        answer = self.answer("leave_group", 1, string(group) + string(member))
        answer.i32()
        return answer.i16()

    def offset_commit(self, group, generation, member, topic, partition, offset, metadata=""):
        place = i32(partition) + i64(offset) + i32(-1) + string(metadata)
        body = string(group) + i32(generation) + string(member) + string(None)
        answer = self.answer("offset_commit", 7, body + array([string(topic) + array([place])]))
        answer.take(4 + 4)
        answer.string()
        answer.take(4 + 4)
        return answer.i16()

    def offset_fetch(self, group, topic, partition):
        """(error, offset); the offset is -1 if none is committed."""
        answer = self.answer("offset_fetch", 5, string(group) + array([string(topic) + array([i32(partition)])]))
        answer.take(4 + 4)
        answer.string()
        answer.take(4 + 4)
        offset = answer.i64()
        answer.take(4)
        answer.string()
        error = answer.i16()
        return error or answer.i16(), offset

    def delete_group(self, group):
        answer = self.answer("delete_groups", 0, array([string(group)]))
        answer.take(4 + 4)
        answer.string()
        return answer.i16()

    def offset_delete(self, group, topic, partition):
        answer = self.answer("offset_delete", 0, string(group) + array([string(topic) + array([i32(partition)])]))
        error = answer.i16()
        if error:
            return error
        answer.take(4 + 4)
        answer.string()
        answer.take(4 + 4)
        return answer.i16()

    def leader_epoch(self, topic, partition, epoch):
        place = i32(partition) + i32(-1) + i32(epoch)
        answer = self.answer("offset_for_leader_epoch", 3, i32(-1) + array([string(topic) + array([place])]))
        answer.take(4 + 4)
        answer.string()
        answer.take(4)
        return answer.i16()
