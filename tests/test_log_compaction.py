"""Compacted topics: what is left of them, to a client that rebuilds a table from the start."""
import time

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness.traffic import Acknowledged, produce_all, producer
from local import wait_until

# Compaction soon after the records, whatever part of the log they are: with any ratio above 0, a few records that come
# last may stay beside what they replace for ever.
EAGER = {"cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0"}


def create(bootstrap, topic, partitions=1, config=None):
    new = NewTopic(topic, partitions, config=config or {})
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([new]).values():
        made.result(30)


def read_from_start(bootstrap, topic, partitions, start=OFFSET_BEGINNING, seconds=120):
    """Every record up to the end of each partition: {partition: [(offset, key, value, time)]}."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "reads-without-a-group", "enable.auto.commit": False,
        "enable.partition.eof": True, "auto.offset.reset": "error", "log_level": 0,
    })
    consumer.assign([TopicPartition(topic, partition, start) for partition in range(partitions)])
    found, ended, deadline = {partition: [] for partition in range(partitions)}, set(), time.monotonic() + seconds
    while len(ended) < partitions:
        assert time.monotonic() < deadline, f"not at the end after {seconds} s, only {ended}"
        for message in consumer.consume(10_000, 0.2):
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ended.add(message.partition())
                continue
            _, milliseconds = message.timestamp()
            found[message.partition()].append((message.offset(), message.key(), message.value(), milliseconds))
    consumer.close()
    return found


def assert_compacted(found, told, table, alive):
    """Each key of `table` once, where its last record was acknowledged; deleted ones as tombstones or not at all."""
    seen = {}
    for partition, records in found.items():
        offsets = [offset for offset, *_ in records]
        assert offsets == sorted(set(offsets)), f"partition {partition}: offsets are not in order"
        for offset, key, value, milliseconds in records:
            assert key not in seen, f"{key} at {seen[key]} and at {(partition, offset)}"
            seen[key] = (partition, offset)
            assert table[key] == value, f"{key} is {value}, not {table[key]}"
            stands = (partition, offset, milliseconds)
            assert told[key] == stands, f"{key} was at {told[key]} and is at {stands}"
    missing = [key for key in alive if key not in seen]
    assert not missing, f"{len(missing)} keys are lost, among them {missing[:5]}"


class Told(Acknowledged):
    """Where the last record of each key is, and its time."""

    def __init__(self):
        super().__init__()
        self.last = {}

    def __call__(self, error, message):
        if error:
            self.errors.append(f"{error}")
        else:
            self.last[message.key()] = (message.partition(), message.offset(), message.timestamp()[1])


def update(bootstrap, topic, told, table, records, **config):
    """Produces (key, value) pairs; the table has what a reader should see in the end."""
    sender = producer(bootstrap, **{"queue.buffering.max.kbytes": 65536, **config})
    for key, value in records:
        while True:
            try:
                sender.produce(topic, value, key, on_delivery=told)
                break
            except BufferError:
                sender.poll(0.1)
        table[key] = value
        sender.poll(0)
    left = sender.flush(90)
    assert not left and not told.errors, (left, told.errors[:5])


@pytest.mark.kafka
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_record_without_a_key_is_refused_and_those_beside_it_are_not_stored(bootstrap, names, codec):
    topic, errors = names("keyless"), []
    create(bootstrap, topic, config={"cleanup.policy": "compact"})
    sender = producer(bootstrap, **{"linger.ms": 200, "compression.type": codec, "enable.idempotence": False})
    for key in (b"a", None, b"b"):
        sender.produce(topic, b"value", key, partition=0, on_delivery=lambda error, _: errors.append(error))
    assert not sender.flush(30)
    assert [error.code() for error in errors] == [KafkaError.INVALID_RECORD] * 3, errors
    assert read_from_start(bootstrap, topic, 1) == {0: []}
    produce_all(bootstrap, topic, [(b"a", b"1"), (b"", b"2")])
    stored = [record[:3] for record in read_from_start(bootstrap, topic, 1)[0]]
    assert stored == [(0, b"a", b"1"), (1, b"", b"2")]


@pytest.mark.kafka
@pytest.mark.slow
def test_the_last_record_of_each_key_is_left(bootstrap, names):
    topic, told, table = names("table"), Told(), {}
    create(bootstrap, topic, config=EAGER)
    keys = [b"key-%d" % number for number in range(200)]
    for round in range(3):
        update(bootstrap, topic, told, table, ((key, b"%s %d" % (key, round)) for key in keys))
    update(bootstrap, topic, told, table, ((key, None) for key in keys[:50]))
    found = {}

    def compacted():
        # Kafka compacts no segment to which it still writes, and begins another only for a further record.
        update(bootstrap, topic, told, table, [(b"other", b"%d" % time.time_ns())])
        found.update(read_from_start(bootstrap, topic, 1))
        return len([key for _, key, *_ in found[0] if key != b"other"]) <= len(keys)

    wait_until(compacted, 100, "the log to be compacted", every=2)
    left = {0: [record for record in found[0] if record[1] != b"other"]}
    assert_compacted(left, told.last, table, keys)
    middle = left[0][len(left[0]) // 2]
    again = read_from_start(bootstrap, topic, 1, start=middle[0] - 1)[0]
    assert middle in again and not any(offset < middle[0] - 1 for offset, *_ in again)


def rebuild(make_node, place, names, count, rounds):
    """Updates a table of `count` keys while it is compacted, and rebuilds it from the start."""
    partitions = 4
    node = make_node(place, env={"WEIR_MAINTENANCE_INTERVAL": "500ms"}).start()
    topic, told, table = names("table"), Told(), {}
    create(node.kafka, topic, partitions, EAGER)

    def cleanings():
        return node.metrics()["weir_maintenance_runs_total"]['task="log_compaction"']

    def records(round):
        for number in range(count):
            yield b"key-%d" % number, b"%d of round %d, %s" % (number, round, b"x" * (number % 50))

    before = 0

    def idle():
        nonlocal before
        former, before = before, cleanings()
        return former == before

    for round in range(rounds):
        update(node.kafka, topic, told, table, records(round), **{"compression.type": "lz4"})
        wait_until(lambda: cleanings() > before, 60, "a log to be compacted", every=0.2)
        before = cleanings()
    deleted = [b"key-%d" % number for number in range(0, count, 10)]
    update(node.kafka, topic, told, table, ((key, None) for key in deleted))
    found = {}

    def all_compacted():
        found.update(read_from_start(node.kafka, topic, partitions))
        return sum(map(len, found.values())) <= count

    # To read everything takes a while: only when no log has been compacted for a moment.
    wait_until(lambda: idle() and all_compacted(), 100, "all partitions to be compacted", every=2)
    assert_compacted(found, told.last, table, table)
    # Another node that never saw the records gives the same.
    node.stop()
    other = make_node(place).start()
    assert read_from_start(other.kafka, topic, partitions) == found
    rebuilt = {key: value for records in found.values() for _, key, value, _ in records if value is not None}
    assert rebuilt == {key: value for key, value in table.items() if value is not None}
    failures = other.metrics()["weir_maintenance_failures_total"]
    assert not any(failures.values()), failures


@pytest.mark.parametrize("store", ["file"])
def test_a_table_is_rebuilt_from_a_compacted_topic(make_node, place, names):
    rebuild(make_node, place, names, 5_000, 3)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", ["file", "minio"])
def test_a_table_of_a_million_keys_is_rebuilt_from_a_compacted_topic(make_node, place, names):
    rebuild(make_node, place, names, 1_000_000, 2)
