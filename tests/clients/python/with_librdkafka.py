"""confluent-kafka, which is librdkafka."""
import time

from confluent_kafka import (
    OFFSET_INVALID, Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec,
    ResourceType,
)
from driver import WAIT, Member, raw, record, serve


def poll(consumer):
    messages = consumer.consume(500, 0.05)
    for message in messages:
        if message.error() and message.error().fatal():
            raise KafkaException(message.error())
    return [
        record(message.topic(), message.partition(), message.offset(), message.timestamp()[1],
               message.key(), message.value(), message.headers())
        for message in messages if not message.error()
    ]


class Librdkafka:
    abilities = [
        "gzip", "snappy", "lz4", "zstd", "idempotent", "static", "cooperative-sticky", "incremental",
    ]

    def __init__(self, bootstrap):
        self._common = {"bootstrap.servers": bootstrap, "topic.metadata.refresh.interval.ms": 2000}
        self._admin, self._members = AdminClient(self._common), {}

    def code(self, error):
        known = isinstance(error, KafkaException) and isinstance(error.args[0], KafkaError)
        return error.args[0].code() if known else None

    def produce(self, topic, records, codec="none", idempotent=False, acks="all"):
        producer = Producer({
            **self._common, "compression.type": codec, "enable.idempotence": idempotent,
            "acks": acks, "linger.ms": 5, "delivery.timeout.ms": WAIT * 1000,
        })
        delivered = [None] * len(records)
        for index, item in enumerate(records):
            def done(error, message, index=index):
                delivered[index] = error or [message.partition(), message.offset()]
            producer.produce(
                topic, raw(item.get("value")), raw(item.get("key")), item.get("partition", -1),
                on_delivery=done, timestamp=item.get("timestamp", 0),
                headers=[(name, raw(value)) for name, value in item.get("headers", [])],
            )
        producer.flush(WAIT)
        for result in delivered:
            if not isinstance(result, list):
                raise KafkaException(result or KafkaError(KafkaError._TIMED_OUT))
        return delivered

    def join(self, member, group, topics, session_ms=6000, instance=None, strategy="range"):
        config = {
            **self._common, "group.id": group, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": 500, "partition.assignment.strategy": strategy,
            "client.id": member,
        }
        if instance:
            config["group.instance.id"] = instance

        def make():
            consumer = Consumer(config)
            consumer.subscribe(topics)
            return consumer

        self._members[member] = Member(make, poll)

    def take(self, member, count, ms):
        return self._members[member].buffer.take(count, ms)

    def assigned(self, member):
        owned = self._members[member].ask(lambda consumer: consumer.assignment())
        return [[part.topic, part.partition] for part in owned]

    def commit(self, member, offsets):
        wanted = [TopicPartition(*offset) for offset in offsets]
        results = self._members[member].ask(
            lambda consumer: consumer.commit(offsets=wanted, asynchronous=False)
        )
        for result in results:
            if result.error:
                raise KafkaException(result.error)

    def leave(self, member):
        self._members.pop(member).leave()

    def times(self, topic, partition, at):
        spec = {"earliest": OffsetSpec.earliest, "latest": OffsetSpec.latest}.get(at)
        place = TopicPartition(topic, partition)
        spec = spec() if spec else OffsetSpec.for_timestamp(at)
        for _ in range(5):
            found = self._one(self._admin.list_offsets({place: spec})).offset
            # When it finds that its connection to the broker is broken, it tells of no error and of no offset either.
            if found != OFFSET_INVALID:
                break
            time.sleep(0.5)
        return found

    def _one(self, futures):
        (future,) = futures.values()
        return future.result(WAIT)

    def topics(self):
        return list(self._admin.list_topics(timeout=WAIT).topics)

    def create_topic(self, topic, partitions, configs=None, replicas=1):
        self._one(self._admin.create_topics([NewTopic(topic, partitions, replicas, config=configs or {})]))

    def delete_topic(self, topic):
        self._one(self._admin.delete_topics([topic]))

    def partitions(self, topic):
        found = self._admin.list_topics(topic, timeout=WAIT).topics[topic]
        if found.error:
            raise KafkaException(found.error)
        return len(found.partitions)

    def add_partitions(self, topic, count):
        self._one(self._admin.create_partitions([NewPartitions(topic, count)]))

    def configs(self, topic):
        found = self._one(self._admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))
        return {entry.name: [entry.value, bool(entry.is_default)] for entry in found.values()}

    def alter_configs(self, topic, configs):
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in configs.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        self._one(self._admin.incremental_alter_configs([resource]))

    def replace_configs(self, topic, configs):
        self._one(self._admin.alter_configs([ConfigResource(ResourceType.TOPIC, topic, configs)]))

    def delete_records(self, topic, partition, before):
        place = TopicPartition(topic, partition, before)
        return self._one(self._admin.delete_records([place])).low_watermark

    def groups(self):
        return [group.group_id for group in self._admin.list_consumer_groups().result(WAIT).valid]

    def describe_group(self, group):
        found = self._one(self._admin.describe_consumer_groups([group]))
        return {
            "state": found.state.name.lower(),
            "members": sorted(
                [member.client_id,
                 sorted([part.topic, part.partition] for part in member.assignment.topic_partitions)]
                for member in found.members
            ),
        }

    def delete_group(self, group):
        self._one(self._admin.delete_consumer_groups([group]))

    def group_offsets(self, group, topic):
        found = self._one(self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
        return sorted([part.partition, part.offset] for part in found.topic_partitions
                      if part.topic == topic and part.offset >= 0)

    def alter_group_offsets(self, group, offsets):
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(*offset) for offset in offsets])
        for part in self._one(self._admin.alter_consumer_group_offsets([wanted])).topic_partitions:
            if part.error:
                raise KafkaException(part.error)

    def cluster(self):
        found = self._admin.describe_cluster().result(WAIT)
        return {"id": found.cluster_id, "nodes": sorted(f"{node.host}:{node.port}" for node in found.nodes)}


serve(Librdkafka)
