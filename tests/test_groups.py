"""What tools and administrators see of consumer groups: `__consumer_offsets`, groups of which nothing is left, the group
without a name, timeouts to the moment, the settings of groups."""
import struct
import time

import pytest

from harness.wire import Connection, Reader, array, i8, i16, i32, i64, string
from local import wait_until

pytestmark = pytest.mark.kafka

OFFSETS = "__consumer_offsets"


@pytest.fixture
def wire(bootstrap):
    with Connection(bootstrap) as connection:
        # Apache Kafka makes the topic of offsets when somebody first asks for a coordinator, and loads its partitions.
        def ready():
            assert connection.answer("find_coordinator", 0, string("a")) is not None
            return all(described(connection, group)[0] == 0 for group in "abcd")

        wait_until(ready, 30, "the coordinator")
        yield connection


@pytest.fixture
def topic(wire, names):
    name = names("topic")
    assert wire.create_topic(name, 2) == 0
    for partition in range(2):
        wait_until(lambda: wire.list_offsets(name, partition, -1)[0] == 0, 10, "a leader")
    return name


def described(wire, group):
    """(error, state, number of members)"""
    answer = wire.answer("describe_groups", 0, array([string(group)]))
    assert answer.i32() == 1
    error = answer.i16()
    assert answer.string() == group
    state = answer.string()
    answer.string()
    answer.string()
    return error, state, answer.i32()


def listed(wire):
    answer = wire.answer("list_groups", 0, b"")
    assert answer.i16() == 0
    return {answer.string(): answer.string() for _ in range(answer.i32())}


def committed(wire, group, topic, partition=0):
    answer = wire.answer("offset_fetch", 1, string(group) + array([string(topic) + array([i32(partition)])]))
    assert answer.i32() == 1
    answer.string()
    answer.take(4 + 4)
    return answer.i64()


def metadata(wire, topic):
    """(error, whether it is internal, how many partitions)"""
    answer = wire.answer("metadata", 1, array([string(topic)]))
    for _ in range(answer.i32()):
        answer.i32()
        answer.string()
        answer.i32()
        answer.string()
    answer.i32()
    assert answer.i32() == 1
    error = answer.i16()
    assert answer.string() == topic
    internal = answer.take(1) == b"\1"
    return error, internal, answer.i32()


def configs(wire, kind, name, *keys):
    """{name: value} of the settings asked for"""
    asked = i8(kind) + string(name) + array([string(key) for key in keys])
    answer = wire.answer("describe_configs", 1, array([asked]) + i8(0))
    answer.i32()
    assert answer.i32() == 1
    assert answer.i16() == 0
    answer.string()
    answer.take(1)
    answer.string()
    found = {}
    for _ in range(answer.i32()):
        key = answer.string()
        found[key] = answer.string()
        answer.take(3)
        assert answer.i32() == 0, "synonyms were not asked for"
    return found


def java_hash(text):
    units = text.encode("utf-16-be")
    found = 0
    for (unit,) in struct.iter_unpack(">H", units):
        found = (31 * found + unit) & 0xFFFFFFFF
    return found - (1 << 32) if found >= 1 << 31 else found


def place_of(wire, group):
    """The partition of `__consumer_offsets` in which the group is."""
    error, internal, partitions = metadata(wire, OFFSETS)
    assert (error, internal) == (0, True)
    return abs(java_hash(group)) % partitions


def uvarint(reader):
    shift = value = 0
    while True:
        byte = reader.take(1)[0]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1)


def records_of(batches):
    """(offset, key, value) of each record, which are not compressed"""
    found, at = [], 0
    while at < len(batches):
        base, length = struct.unpack(">qi", batches[at:at + 12])
        body = Reader(batches[at + 12:at + 12 + length])
        if len(body.content) < length:
            break  # the answer ends in the middle of a batch
        at += 12 + length
        body.take(4 + 1 + 4)
        attributes = body.i16()
        assert attributes & 7 == 0, "offsets are not compressed"
        body.take(4 + 8 + 8 + 8 + 2 + 4)
        for _ in range(body.i32()):
            uvarint(body)
            body.take(1)
            uvarint(body)
            delta = uvarint(body)
            key, value = [None if size < 0 else body.take(size) for size in [uvarint(body)]] + [None]
            size = uvarint(body)
            value = None if size < 0 else body.take(size)
            uvarint(body)
            found.append((base + delta, key, value))
    return found


def decoded(key, value):
    """A record in words: ("offset", group, topic, partition, value) or ("group", group, value)"""
    reader = Reader(key)
    version = reader.i16()
    if version in (0, 1):
        name = ("offset", reader.string(), reader.string(), reader.i32())
        if value is None:
            return (*name, None)
        reader = Reader(value)
        assert reader.i16() == 4
        offset, epoch, size = reader.i64(), reader.i32(), reader.take(1)[0] - 1
        assert size < 127
        metadata, at = reader.take(size).decode(), reader.i64()
        assert reader.take(3) == b"\1\0\x10", "one tagged field, the id of the topic"
        assert reader.take(16) != b"\0" * 16 and reader.at == len(value)
        return (*name, (offset, epoch, metadata, at))
    if version != 2:
        return ("other", version)
    name = ("group", reader.string())
    if value is None:
        return (*name, None)
    reader = Reader(value)
    assert reader.i16() == 3
    kind, generation, protocol, leader, at = (
        reader.string(), reader.i32(), reader.string(), reader.string(), reader.i64(),
    )
    members = []
    for _ in range(reader.i32()):
        member = {"id": reader.string(), "instance": reader.string(), "client": reader.string(),
                  "host": reader.string(), "rebalance": reader.i32(), "session": reader.i32(),
                  "subscription": reader.data(), "assignment": reader.data()}
        members.append(member)
    assert reader.at == len(value)
    return (*name, {"kind": kind, "generation": generation, "protocol": protocol, "leader": leader, "at": at,
                    "members": members})


def tail(wire, partition, offset):
    """What is found from an offset on, and where to read on."""
    found = []
    while True:
        error, end, _, batches = wire.fetch(OFFSETS, partition, offset)
        assert error == 0
        if offset >= end:
            return found, offset
        records = records_of(batches)
        found += [decoded(key, value) for _, key, value in records]
        last = offset
        at = 0
        while at + 12 <= len(batches):
            base, length = struct.unpack(">qi", batches[at:at + 12])
            if at + 12 + length > len(batches):
                break
            last = base + struct.unpack(">i", batches[at + 23:at + 27])[0] + 1
            at += 12 + length
        assert last > offset, "a reader gets on"
        offset = last


def of_group(found, group):
    return [record for record in found if record[0] != "other" and record[1] == group]


def test_tools_read_what_groups_commit(wire, topic, names):
    group = names("group")
    before = int(time.time() * 1000)
    assert wire.offset_commit(group, -1, "", topic, 0, 5, "first") == 0
    assert wire.offset_commit(group, -1, "", topic, 1, 7) == 0
    assert wire.offset_commit(group, -1, "", topic, 0, 6, "ü") == 0
    partition = place_of(wire, group)
    found, at = tail(wire, partition, 0)
    last = {}
    for record in of_group(found, group):
        last[record[2:4]] = record[4]
    assert {key: value[:3] for key, value in last.items()} == {
        (topic, 0): (6, -1, "ü"), (topic, 1): (7, -1, ""),
    }
    assert all(before - 60_000 < value[3] < before + 60_000 for value in last.values())
    # Who reads on finds each later change once, and what goes.
    assert wire.offset_commit(group, -1, "", topic, 1, 8) == 0
    assert wire.offset_delete(group, topic, 0) == 0
    found, at = tail(wire, partition, at)
    found = of_group(found, group)
    assert [(record[2:4], record[4] and record[4][0]) for record in found] == [((topic, 1), 8), ((topic, 0), None)]
    assert wire.delete_group(group) == 0
    found, at = tail(wire, partition, at)
    assert ("offset", group, topic, 1, None) in found
    assert tail(wire, partition, at) == ([], at)


def test_tools_read_who_is_in_a_group(wire, topic, names):
    group = names("group")
    generation, member = wire.in_group(group, session_ms=7000)
    partition = place_of(wire, group)

    def last():
        found, _ = tail(wire, partition, 0)
        found = [record for record in of_group(found, group) if record[0] == "group"]
        return found and found[-1][2]

    shown = wait_until(lambda: (last() or {}).get("members") and last(), 10, "the group to be written")
    assert (shown["kind"], shown["generation"], shown["protocol"]) == ("consumer", generation, "range")
    assert shown["leader"] == member
    assert [(one["id"], one["client"], one["session"], one["rebalance"]) for one in shown["members"]] == [
        (member, "wire", 7000, 3000)
    ]
    assert shown["members"][0]["subscription"] == b"\0" * 10
    assert wire.leave_group(group, member) == 0
    shown = wait_until(lambda: not last()["members"] and last(), 10, "the empty group to be written")
    assert (shown["kind"], shown["protocol"], shown["leader"]) == ("consumer", None, None)
    assert shown["generation"] > generation


def test_the_topic_of_offsets_is_shown_and_cannot_be_changed(wire, topic, names):
    group = names("group")
    assert wire.offset_commit(group, -1, "", topic, 0, 5) == 0
    partition = place_of(wire, group)
    found = configs(wire, 2, OFFSETS, "cleanup.policy", "compression.type", "segment.bytes")
    assert found == {"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": "104857600"}
    assert wire.list_offsets(OFFSETS, partition, -2) == (0, 0)
    error, end = wire.list_offsets(OFFSETS, partition, -1)
    assert error == 0 and end > 0
    error, at = wire.list_offsets(OFFSETS, partition, int(time.time() * 1000) - 600_000)
    assert error == 0 and 0 <= at < end
    assert wire.fetch(OFFSETS, partition, end + 1000)[0] == 1
    assert wire.delete_records(OFFSETS, partition, 0) in (17, 44)
    assert wire.create_topic(OFFSETS) == 36
    # Its readers can be in groups and commit, too.
    assert wire.offset_commit(names("reader"), -1, "", OFFSETS, partition, end) == 0


def test_librdkafka_tails_the_topic_of_offsets(wire, bootstrap, topic, names):
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    group = names("group")
    assert wire.offset_commit(group, -1, "", topic, 0, 1) == 0
    partition = place_of(wire, group)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": names("reader"), "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(OFFSETS, partition, 0)])
        seen = []

        def read(wanted):
            end = time.monotonic() + 20
            while time.monotonic() < end and wanted not in seen:
                message = consumer.poll(0.5)
                if message is not None and not message.error():
                    record = decoded(message.key(), message.value())
                    if record[:2] == ("offset", group):
                        seen.append(record[4] and record[4][0])
            assert wanted in seen

        read(1)
        for offset in range(2, 6):
            assert wire.offset_commit(group, -1, "", topic, 0, offset) == 0
            read(offset)
        assert wire.offset_delete(group, topic, 0) == 0
        read(None)
        assert seen == [1, 2, 3, 4, 5, None]
        # What was last goes with its topic. The reader gets to the end, whatever stands there.
        other = names("other")
        assert wire.create_topic(other) == 0
        wait_until(lambda: wire.offset_commit(group, -1, "", other, 0, 1) == 0, 10, "the other topic")
        assert wire.delete_topic(other) == 0

        def at_the_end():
            message = consumer.poll(0.2)
            end = wire.list_offsets(OFFSETS, partition, -1)[1]
            ended = message is not None and message.error() and message.error().code() == KafkaError._PARTITION_EOF
            return ended and message.offset() == end

        wait_until(at_the_end, 20, "the end of the partition")
    finally:
        consumer.close()


def test_a_group_of_which_nothing_is_left_is_empty_until_its_time_is_over(wire, topic, names):
    left, deleted = names("left"), names("deleted")
    _, member = wire.in_group(left)
    assert wire.leave_group(left, member) == 0
    assert wire.offset_commit(deleted, -1, "", topic, 0, 5) == 0
    assert wire.offset_delete(deleted, topic, 0) == 0
    for group, kind in ((left, "consumer"), (deleted, "")):
        assert described(wire, group) == (0, "Empty", 0)
        assert listed(wire).get(group) == kind
        assert wire.delete_group(group) == 0
        assert described(wire, group) == (0, "Dead", 0)
        assert wire.delete_group(group) == 69
        assert group not in listed(wire)


def test_the_generations_of_an_empty_group_go_on(wire, names):
    group = names("group")
    generation, member = wire.in_group(group)
    assert wire.leave_group(group, member) == 0
    again, _ = wire.in_group(group)
    assert again == generation + 2


def test_the_group_without_a_name_is_described_and_deleted(wire, topic):
    assert wire.offset_commit("", -1, "", topic, 0, 5) == 0
    assert committed(wire, "", topic) == 5
    assert described(wire, "") == (0, "Empty", 0)
    assert wire.offset_delete("", topic, 0) == 24
    assert wire.delete_group("") == 0
    assert committed(wire, "", topic) == -1
    assert wire.delete_group("") == 69
    assert wire.join_group("")[0] == 24


def test_metadata_of_offsets_is_measured_in_characters(wire, topic, names):
    group = names("group")
    assert wire.offset_commit(group, -1, "", topic, 0, 1, "ü" * 2048) == 0
    assert wire.offset_commit(group, -1, "", topic, 0, 2, "ü" * 4096) == 0
    assert wire.offset_commit(group, -1, "", topic, 0, 3, "ü" * 4097) == 12
    assert committed(wire, group, topic) == 2
    # A character outside of the basic plane counts twice.
    assert wire.offset_commit(group, -1, "", topic, 0, 4, "𝄞" * 2048) == 0
    assert wire.offset_commit(group, -1, "", topic, 0, 5, "𝄞" * 2049) == 12


@pytest.mark.parametrize("how", ["deleted", "described", "listed", "committed"])
def test_a_session_is_over_at_its_end(wire, topic, names, how):
    group = names("group")
    wire.in_group(group, session_ms=6000, instance="one")
    begun = time.monotonic()
    time.sleep(5.5)
    assert described(wire, group)[1:] == ("Stable", 1)
    assert wire.delete_group(group) == 68
    # The last sign of life was the sync, before `begun`.
    time.sleep(max(0, begun + 6.03 - time.monotonic()))
    if how == "deleted":
        assert wire.delete_group(group) == 0
    elif how == "described":
        assert described(wire, group)[1:] == ("Empty", 0)
    elif how == "listed":
        answer = wire.answer("list_groups", 4, b"\1\0", flexible=True)
        answer.take(1 + 4)
        assert answer.i16() == 0
        assert group.encode() + b"\x09consumer\x06Empty" in answer.content
    else:
        assert wire.offset_commit(group, -1, "", topic, 0, 5) == 0


def test_the_settings_of_groups_are_shown(wire):
    names = ["group.initial.rebalance.delay.ms", "group.max.session.timeout.ms", "group.max.size",
             "group.min.session.timeout.ms", "offset.metadata.max.bytes", "offsets.retention.minutes"]
    answer = wire.answer("metadata", 1, array([]))
    assert answer.i32() > 0
    node = answer.i32()
    found = configs(wire, 4, str(node), *names)
    assert sorted(found) == names
    assert found["group.min.session.timeout.ms"] == "6000"
    assert found["group.max.session.timeout.ms"] == "1800000"
    assert found["offset.metadata.max.bytes"] == "4096"
    assert found["offsets.retention.minutes"] == "10080"
