"""kafka-python."""
from driver import WAIT, Member, raw, record, serve
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, OffsetSpec
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka import errors
from kafka.errors import KafkaError, NoError
from kafka.structs import OffsetAndMetadata

STRATEGIES = {"range": RangePartitionAssignor, "cooperative-sticky": CooperativeStickyAssignor}


def poll(consumer):
    return [
        record(item.topic, item.partition, item.offset, item.timestamp, item.key, item.value, item.headers)
        for items in consumer.poll(timeout_ms=50).values() for item in items
    ]


class KafkaPython:
    abilities = [
        "gzip", "snappy", "lz4", "zstd", "idempotent", "static", "cooperative-sticky", "incremental",
    ]

    def __init__(self, bootstrap):
        self._common = {"bootstrap_servers": bootstrap, "metadata_max_age_ms": 2000}
        self._admin, self._members = KafkaAdminClient(**self._common), {}

    def code(self, error):
        return getattr(error, "errno", None) if isinstance(error, KafkaError) else None

    def produce(self, topic, records, codec="none", idempotent=False, acks="all"):
        producer = KafkaProducer(
            **self._common, compression_type=None if codec == "none" else codec, linger_ms=5,
            enable_idempotence=idempotent, acks=acks if acks == "all" else int(acks),
        )
        try:
            sent = [
                producer.send(
                    topic, raw(item.get("value")), raw(item.get("key")),
                    [(name, raw(value)) for name, value in item.get("headers", [])],
                    item.get("partition"), item.get("timestamp"),
                )
                for item in records
            ]
            producer.flush(WAIT)
            return [[done.partition, done.offset] for done in (future.get(WAIT) for future in sent)]
        finally:
            producer.close(WAIT)

    def join(self, member, group, topics, session_ms=6000, instance=None, strategy="range"):
        def make():
            consumer = KafkaConsumer(
                **self._common, group_id=group, client_id=member, auto_offset_reset="earliest",
                enable_auto_commit=False, session_timeout_ms=session_ms, heartbeat_interval_ms=500,
                group_instance_id=instance, partition_assignment_strategy=[STRATEGIES[strategy]],
            )
            consumer.subscribe(topics)
            return consumer

        self._members[member] = Member(make, poll)

    def take(self, member, count, ms):
        return self._members[member].buffer.take(count, ms)

    def assigned(self, member):
        return [list(place) for place in self._members[member].ask(lambda consumer: consumer.assignment())]

    def commit(self, member, offsets):
        wanted = {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
            for topic, partition, offset in offsets
        }
        self._members[member].ask(lambda consumer: consumer.commit(wanted))

    def leave(self, member):
        self._members.pop(member).leave()

    def times(self, topic, partition, at):
        spec = {"earliest": OffsetSpec.EARLIEST, "latest": OffsetSpec.LATEST}.get(at, at)
        place = TopicPartition(topic, partition)
        return self._admin.list_partition_offsets({place: spec})[place].offset

    def topics(self):
        return list(self._admin.list_topics())

    def create_topic(self, topic, partitions, configs=None, replicas=1):
        self._admin.create_topics({topic: {
            "num_partitions": partitions, "replication_factor": replicas, "configs": configs or {},
        }})

    def delete_topic(self, topic):
        self._admin.delete_topics([topic])

    def partitions(self, topic):
        (found,) = self._admin.describe_topics([topic])
        self._raise(found.get("error_code", 0))
        return len(found["partitions"])

    def add_partitions(self, topic, count):
        self._admin.create_partitions({topic: count})

    def configs(self, topic):
        found = self._admin.describe_configs([ConfigResource("topic", topic)], config_filter="all")
        return {
            name: [entry["value"], "DEFAULT" in str(entry["config_source"]).upper()
                   or "STATIC" in str(entry["config_source"]).upper()]
            for name, entry in found["topic"][topic].items()
        }

    def alter_configs(self, topic, configs):
        self._altered(self._admin.alter_configs(
            [ConfigResource("topic", topic, configs)], raise_on_unknown=False, incremental=True,
        ))

    def _altered(self, answers):
        for resources in answers.values():
            for answer in resources.values():
                if answer not in (None, "OK", NoError) and "NoError" not in str(answer):
                    raise answer if isinstance(answer, Exception) else KafkaError(str(answer))

    def delete_records(self, topic, partition, before):
        place = TopicPartition(topic, partition)
        return self._admin.delete_records({place: before})[place]["low_watermark"]

    def groups(self):
        return [group["group_id"] for group in self._admin.list_groups()]

    def describe_group(self, group):
        found = self._admin.describe_groups([group])[group]
        return {
            "state": found["group_state"].lower(),
            "members": sorted(
                [member["client_id"], sorted(
                    [part["topic"], number]
                    for part in member["member_assignment"]["assigned_partitions"]
                    for number in part["partitions"]
                )]
                for member in found["members"]
            ),
        }

    def delete_group(self, group):
        answer = self._admin.delete_groups([group])[group]
        if answer != "OK":
            raise getattr(errors, answer)(group)

    def group_offsets(self, group, topic):
        found = self._admin.list_group_offsets([group])[group]
        return sorted([place.partition, at.offset] for place, at in found.items() if place.topic == topic)

    def alter_group_offsets(self, group, offsets):
        wanted = {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
            for topic, partition, offset in offsets
        }
        for error in self._admin.alter_group_offsets(group, wanted).values():
            self._raise(error)

    def delete_group_offsets(self, group, topic, partitions):
        places = [TopicPartition(topic, partition) for partition in partitions]
        for error in self._admin.delete_group_offsets(group, places).values():
            self._raise(error)

    def cluster(self):
        found = self._admin.describe_cluster()
        return {
            "id": found["cluster_id"],
            "nodes": sorted(f"{node['host']}:{node['port']}" for node in found["brokers"]),
        }

    def _raise(self, error):
        if isinstance(error, int):
            if error:
                failure = KafkaError(f"error code {error}")
                failure.errno = error
                raise failure
        elif error is not None and error is not NoError and not isinstance(error, NoError):
            raise error if isinstance(error, Exception) else error()


serve(KafkaPython)
