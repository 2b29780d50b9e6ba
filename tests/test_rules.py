"""Rules of Kafka's in which Weir once differed. Each was found by somebody's tool or client; Apache Kafka itself passes
every test here."""
import struct

import pytest

from harness.wire import AT, Connection, array, batch, i8, i16, i32, i64, string
from local import wait_until

pytestmark = pytest.mark.kafka

INVALID_TOPIC, UNKNOWN, EXISTS = 17, 3, 36
INVALID_TIMESTAMP, UNSUPPORTED_VERSION = 32, 35


@pytest.fixture
def wire(bootstrap):
    with Connection(bootstrap) as connection:
        yield connection


@pytest.fixture
def make(wire, names):
    """Makes a topic whose partitions have a leader."""
    def made(name="topic", partitions=1, **configs):
        name = names(name)
        assert wire.create_topic(name, partitions, configs=configs) == 0
        for partition in range(partitions):
            wait_until(lambda p=partition: wire.list_offsets(name, p, -1)[0] == 0, 10, "a leader")
        return name

    return made


# Names.

def test_a_topic_that_begins_with_underscores_is_an_ordinary_one(wire, make, client, names):
    """Debezium's heartbeats."""
    topic = make("__debezium-heartbeat.x")
    assert wire.produce(topic, 0, batch([b"beat"])) == (0, 0)
    assert wire.metadata()[topic] == (0, False, 1)
    assert topic in client.topics()
    if "pattern" in client.can:
        client.join(member="any", group=names("group"), pattern=f"__debezium-heartbeat.*{topic[-10:]}")
        found = client.take(member="any", count=1, ms=15_000)
        assert [record["value"] for record in found] == ["beat"]
        client.leave(member="any")
    client.delete_topic(topic=topic)


def test_an_internal_topic_cannot_be_written(wire, names):
    # Kafka makes it for the first group; until then it says that there is none.
    wire.answer("find_coordinator", 1, string(names("group")) + i8(0))

    def refused():
        return wire.produce("__consumer_offsets", 0, batch([b"x"]))[0] == INVALID_TOPIC

    wait_until(refused, 20, "the internal topic to refuse records")
    assert wire.metadata().get("__consumer_offsets", (0, True, 1))[1]


def test_names_that_differ_only_in_dots_and_underscores_collide(wire, make):
    name = make("c07.a.X")
    colliding = [name.replace("c07.a", "c07_a"), name.replace(".", "_")]
    for other in colliding:
        assert wire.create_topic(other) == INVALID_TOPIC
        assert wire.plan_topic(other, {})[0] == INVALID_TOPIC
        wire.metadata(other, create=True)
        assert other not in wire.metadata()
    assert wire.create_topic(name) == EXISTS
    assert wire.delete_topic(name) == 0
    wait_until(lambda: wire.create_topic(colliding[0]) == 0, 10, "the name to be free")


# What each request says of a name that no topic can have. Where a topic is only looked up it is just unknown.
ILLEGAL = {
    "metadata": (INVALID_TOPIC, lambda wire, name: wire.metadata(name)[name][0]),
    "metadata that may create": (INVALID_TOPIC, lambda wire, name: wire.metadata(name, create=True)[name][0]),
    "describing partitions": (INVALID_TOPIC, lambda wire, name: wire.describe_topic_partitions(name)),
    "creating": (INVALID_TOPIC, lambda wire, name: wire.create_topic(name)),
    "planning": (INVALID_TOPIC, lambda wire, name: wire.plan_topic(name, {})[0]),
    "deleting": (UNKNOWN, lambda wire, name: wire.delete_topic(name)),
    "growing": (UNKNOWN, lambda wire, name: wire.create_partitions(name, 4)),
    "settings": (INVALID_TOPIC, lambda wire, name: wire.describe_configs(name)),
    "changing settings": (INVALID_TOPIC, lambda wire, name: wire.alter_configs(name, {"retention.ms": "1"})),
    "replacing settings": (
        INVALID_TOPIC, lambda wire, name:
        wire.alter_configs(name, {"retention.ms": "1"}, api="alter_configs"),
    ),
    "producing": (UNKNOWN, lambda wire, name: wire.produce(name, 0, batch([b"x"]))[0]),
    "fetching": (UNKNOWN, lambda wire, name: wire.fetch(name, 0, 0)[0]),
    "offsets": (UNKNOWN, lambda wire, name: wire.list_offsets(name, 0, -1)[0]),
    "epochs": (UNKNOWN, lambda wire, name: wire.leader_epoch(name, 0, 0)),
    "deleting records": (UNKNOWN, lambda wire, name: wire.delete_records(name, 0, 0)),
    "committing": (UNKNOWN, lambda wire, name: wire.offset_commit("rules", -1, "", name, 0, 1)),
}


@pytest.mark.parametrize("request_name", ILLEGAL)
@pytest.mark.parametrize("name", ["a b", "ä", "..", "a/b", "x" * 250])
def test_a_name_that_no_topic_can_have_gets_its_code(wire, request_name, name):
    expected, work = ILLEGAL[request_name]
    assert work(wire, name) == expected


@pytest.mark.parametrize("request_name, code", [
    ("settings", INVALID_TOPIC), ("changing settings", 42), ("replacing settings", 42), ("metadata", INVALID_TOPIC),
    ("creating", INVALID_TOPIC), ("deleting", UNKNOWN), ("growing", UNKNOWN), ("producing", UNKNOWN),
])
def test_no_name_at_all_gets_its_code(wire, request_name, code):
    assert ILLEGAL[request_name][1](wire, "") == code


def test_the_log_of_the_controllers_is_nobodys_to_create(wire):
    assert wire.create_topic("__cluster_metadata") == 42
    assert wire.metadata("__cluster_metadata", create=True)["__cluster_metadata"] == (UNKNOWN, False, 0)


# Validation and settings.

def test_a_topic_that_is_only_validated_is_shown_with_its_settings(wire, names):
    topic = names("planned")
    error, partitions, replicas, configs = wire.plan_topic(topic, {"retention.ms": "5000"})
    assert (error, partitions, replicas) == (0, 3, 1)
    assert configs["retention.ms"] == "5000"
    assert configs["cleanup.policy"] == "delete"
    assert topic not in wire.metadata()


def test_a_client_can_plan_a_topic(client, names):
    if "plan_topic" not in client.can:
        pytest.skip("this client cannot only validate")
    plan = client.plan_topic(topic=names("planned"), partitions=5, configs={"retention.ms": "5000"})
    assert plan["partitions"] == 5
    assert plan["configs"]["retention.ms"] == ["5000", False]


@pytest.mark.parametrize("kind", [2, 4])
def test_what_there_is_not_can_be_unset_beside_what_is_set(wire, make, kind):
    of, setting = (make(), "retention.ms") if kind == 2 else ("", "log.cleaner.delete.retention.ms")
    try:
        assert wire.alter_config_ops(of, [(setting, 0, "86400001"), ("no.such.thing", 1, None)], kind) == 0
        assert wire.alter_config_ops(of, [("no.such.thing", 1, None)], kind) == 0
    finally:
        assert wire.alter_config_ops(of, [(setting, 1, None)], kind) == 0


def test_null_is_no_value(wire, make):
    topic = make()
    assert wire.alter_configs(topic, {"retention.ms": None}) == 42
    assert wire.alter_configs(topic, {"retention.ms": None}, api="alter_configs") == 42


@pytest.mark.parametrize("operation", [0, 2, 3])
def test_what_there_is_not_cannot_be_set_or_be_a_list(wire, make, operation):
    assert wire.alter_config_ops(make(), [("no.such.thing", operation, "1")]) == 40


# Offsets by special times.

@pytest.mark.parametrize("time", [-6, -7, -1000, -1001, -(1 << 62)])
def test_a_time_that_means_nothing_is_refused(wire, make, time):
    topic = make()
    assert wire.produce(topic, 0, batch([b"x"]))[0] == 0
    assert wire.list_offsets(topic, 0, time) == (UNSUPPORTED_VERSION, -1)


# Producing.

@pytest.mark.parametrize("timeout", [0, 1])
def test_a_producer_that_gives_no_time_for_replicas_is_answered_that_its_records_are_stored(wire, make, timeout):
    assert wire.produce_named(make(), 0, batch([b"x"]), timeout=timeout) == (0, 0, {})


LOG_APPEND = 8


def header(found):
    """(attributes, base time stamp, largest time stamp) of a batch."""
    return struct.unpack(">h", found[21:23]) + struct.unpack(">qq", found[27:43])


def test_a_batch_that_says_log_append_time_is_taken_where_records_have_create_time(wire, make):
    topic = make()
    sent = batch([b"a", b"b"], attributes=LOG_APPEND, deltas=[0, 1000])
    assert wire.produce_named(topic, 0, sent) == (0, 0, {})
    found = wire.fetch(topic, 0, 0)[3]
    assert header(found) == (0, AT, AT + 1000), "and the records have their own times again"


@pytest.mark.parametrize("max_timestamp, configs", [
    (AT, {"message.timestamp.type": "LogAppendTime"}),
    (-1, {}),
    (AT + 100 * 3_600_000, {}),
], ids=["as the topic says", "no time", "a time to come"])
def test_a_batch_that_says_log_append_time_is_refused_and_its_records_named(wire, make, max_timestamp, configs):
    sent = batch([b"a", b"b"], attributes=LOG_APPEND, max_timestamp=max_timestamp)
    error, offset, named = wire.produce_named(make(**configs), 0, sent)
    assert (error, offset, sorted(named)) == (INVALID_TIMESTAMP, -1, [0, 1])


def test_records_whose_times_are_out_of_bounds_are_named(wire, make):
    topic = make(**{"message.timestamp.before.max.ms": "3600000"})
    day = 86_400_000
    sent = batch([b"early", b"right", b"late"], deltas=[-day, 0, day])
    error, _, named = wire.produce_named(topic, 0, sent)
    assert (error, sorted(named)) == (INVALID_TIMESTAMP, [0, 2])
    assert all(named.values()), "and it is said why"


def test_records_without_a_key_are_named(wire, make):
    topic = make(**{"cleanup.policy": "compact"})
    error, _, named = wire.produce_named(topic, 0, batch([b"a", b"b"]))
    assert (error, sorted(named)) == (87, [0, 1])


# Sizes: AKHQ's and Kafka UI's lists of topics.

def test_log_directories_tell_how_large_topics_are(wire, make):
    topic = make(partitions=2)
    sent = batch([b"x" * 1000])
    for _ in range(3):
        assert wire.produce(topic, 0, sent)[0] == 0
    size = wire.fetch(topic, 0, 0)[3]
    assert len(size) == 3 * len(sent)
    [(error, directory, held)] = wire.log_dirs()
    assert error == 0 and directory
    assert held[topic] == {0: 3 * len(sent), 1: 0}
    [(_, _, held)] = wire.log_dirs({topic: [1, 9], topic + "-absent": [0]})
    assert held == {topic: {1: 0}}
    [(_, _, held)] = wire.log_dirs({})
    assert held == {}


def test_a_client_is_told_how_large_topics_are(client, wire, make):
    if "topic_sizes" not in client.can:
        pytest.skip("this client has no log directories")
    topic = make(partitions=3)
    for partition in range(3):
        assert wire.produce(topic, partition, batch([b"x" * 500]))[0] == 0
    assert client.topic_sizes()[topic] == 3 * len(batch([b"x" * 500]))
