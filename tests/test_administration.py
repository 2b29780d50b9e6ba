"""What those who administer a cluster set, delete and are shown."""
import time

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewTopic, OffsetSpec,
)

BROKER = ConfigResource.Type.BROKER


def admin(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def create(bootstrap, topic, partitions=1, **options):
    client = admin(bootstrap)
    for made in client.create_topics([NewTopic(topic, partitions, **options)]).values():
        made.result(30)


def read(bootstrap, topic, partition=0):
    """All values of a partition."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "reads-without-a-group", "enable.auto.commit": False,
        "enable.partition.eof": True, "auto.offset.reset": "error", "log_level": 0,
    })
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    found, deadline = [], time.monotonic() + 30
    while time.monotonic() < deadline:
        for message in consumer.consume(10_000, 0.2):
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                consumer.close()
                return found
            found.append(message.value())
    raise AssertionError(f"not at the end after 30 s, only {len(found)} records")


def described(bootstrap, kind, name):
    client, resource = admin(bootstrap), ConfigResource(kind, name)
    return client.describe_configs([resource])[resource].result(30)


@pytest.mark.kafka
def test_a_setting_of_one_broker_is_set_shown_and_taken_back(bootstrap):
    broker = str(min(admin(bootstrap).list_topics(timeout=30).brokers))
    name = "log.flush.interval.messages"

    def alter(operation, value=None):
        entry = ConfigEntry(name, value, incremental_operation=operation)
        client, resource = admin(bootstrap), ConfigResource(BROKER, broker, incremental_configs=[entry])
        client.incremental_alter_configs([resource])[resource].result(30)

    def shown():
        entry = described(bootstrap, BROKER, broker)[name]
        return entry.value, ConfigSource(entry.source)

    default = shown()
    assert default[1] == ConfigSource.DEFAULT_CONFIG
    alter(AlterConfigOpType.SET, "123456")
    deadline = time.monotonic() + 10
    while shown() != ("123456", ConfigSource.DYNAMIC_BROKER_CONFIG):
        assert time.monotonic() < deadline, shown()
        time.sleep(0.1)
    alter(AlterConfigOpType.DELETE)
    while shown() != default:
        assert time.monotonic() < deadline, shown()
        time.sleep(0.1)


@pytest.mark.kafka
def test_records_of_1970_can_be_read_after_they_were_written(bootstrap, names):
    topic = names("long-ago")
    create(bootstrap, topic)
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    values = [b"%d" % number for number in range(12)]
    for value in values:
        producer.produce(topic, value, partition=0, timestamp=1111)
        assert not producer.flush(30)
        time.sleep(1)
    assert read(bootstrap, topic) == values


def test_the_newest_record_is_none_that_was_deleted(bootstrap, names):
    topic = names("newest")
    create(bootstrap, topic)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 500, "log_level": 0})
    for timestamp in (90, 10, 30):
        producer.produce(topic, b"value", partition=0, timestamp=timestamp)
    assert not producer.flush(30)
    client, partition = admin(bootstrap), TopicPartition(topic, 0)

    def newest():
        found = client.list_offsets({partition: OffsetSpec.max_timestamp()})[partition].result(30)
        return found.offset, found.timestamp

    assert newest() == (0, 90)
    client.delete_records([TopicPartition(topic, 0, 1)])[TopicPartition(topic, 0, 1)].result(30)
    assert newest() == (2, 30)


def test_the_replication_factor_is_the_one_that_was_asked_for(make_node, place, names):
    nodes = [make_node(place).start()]
    topic = names("replicated")
    create(nodes[0].kafka, topic, 4, replication_factor=3)

    def replicas(node):
        partitions = admin(node.kafka).list_topics(topic, timeout=30).topics[topic].partitions.values()
        assert all(partition.isrs == partition.replicas for partition in partitions)
        assert all(partition.leader == partition.replicas[0] for partition in partitions)
        return [partition.replicas for partition in partitions]

    # As many as were asked for, on as many nodes as there are.
    assert replicas(nodes[0]) == [[0, 0, 0]] * 4
    nodes += [make_node(place).start() for _ in range(2)]
    for node in nodes:
        assert all(sorted(ids) == [0, 1, 2] for ids in replicas(node))


def test_any_node_tells_the_settings_of_any_other(make_node, place):
    nodes = [make_node(place, env={"WEIR_RACK": rack}).start() for rack in ("a", "b")]
    for node in nodes:
        for broker in ("0", "1"):
            assert described(node.kafka, BROKER, broker)["node.id"].value == broker
    racks = {described(nodes[0].kafka, BROKER, broker)["broker.rack"].value for broker in ("0", "1")}
    assert racks == {"a", "b"}
