"""aiokafka: everything runs in one event loop, in a thread of its own."""
import asyncio
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError, for_code
from driver import WAIT, Buffer, raw, record, serve

STRATEGIES = {"range": RangePartitionAssignor, "sticky": StickyPartitionAssignor}


def checked(code):
    if code:
        raise for_code(code)(f"error code {code}")


class Member:
    def __init__(self, consumer):
        self.consumer, self.buffer = consumer, Buffer()

    async def run(self):
        try:
            while True:
                for messages in (await self.consumer.getmany(timeout_ms=50)).values():
                    self.buffer.add([
                        record(item.topic, item.partition, item.offset, item.timestamp, item.key,
                               item.value, item.headers)
                        for item in messages
                    ])
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001: the next taker gets it
            self.buffer.fail(error)


class Aiokafka:
    abilities = ["gzip", "snappy", "lz4", "zstd", "idempotent", "static", "sticky"]

    def __init__(self, bootstrap):
        self._common = {"bootstrap_servers": bootstrap, "metadata_max_age_ms": 2000}
        self._members, self._loop = {}, asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._admin = self._run(self._make_admin())

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT)

    async def _make_admin(self):
        admin = AIOKafkaAdminClient(**self._common)
        await admin.start()
        return admin

    def code(self, error):
        return getattr(error, "errno", None) if isinstance(error, KafkaError) else None

    def produce(self, topic, records, codec="none", idempotent=False, acks="all"):
        async def work():
            producer = AIOKafkaProducer(
                **self._common, compression_type=None if codec == "none" else codec, linger_ms=5,
                enable_idempotence=idempotent, acks=acks if acks == "all" else int(acks),
            )
            await producer.start()
            try:
                sent = [
                    await producer.send(
                        topic, raw(item.get("value")), raw(item.get("key")), item.get("partition"),
                        item.get("timestamp"),
                        [(name, raw(value)) for name, value in item.get("headers", [])],
                    )
                    for item in records
                ]
                done = await asyncio.gather(*sent)
                # With acks=0 nobody tells where a record went.
                return [item and [item.partition, item.offset] for item in done]
            finally:
                await producer.stop()

        return self._run(work())

    def join(self, member, group, topics, session_ms=6000, instance=None, strategy="range"):
        async def work():
            consumer = AIOKafkaConsumer(
                **self._common, group_id=group, client_id=member, auto_offset_reset="earliest",
                enable_auto_commit=False, session_timeout_ms=session_ms, heartbeat_interval_ms=500,
                group_instance_id=instance, partition_assignment_strategy=[STRATEGIES[strategy]],
            )
            joined = Member(consumer)
            consumer.subscribe(topics)
            await consumer.start()
            joined.task = asyncio.ensure_future(joined.run())
            self._members[member] = joined

        self._run(work())

    def take(self, member, count, ms):
        return self._members[member].buffer.take(count, ms)

    def assigned(self, member):
        return [list(place) for place in self._members[member].consumer.assignment()]

    def commit(self, member, offsets):
        self._run(self._members[member].consumer.commit({
            TopicPartition(topic, partition): OffsetAndMetadata(offset, "")
            for topic, partition, offset in offsets
        }))

    def leave(self, member):
        async def work():
            left = self._members.pop(member)
            left.task.cancel()
            await left.consumer.stop()

        self._run(work())

    def times(self, topic, partition, at):
        async def work():
            consumer, place = AIOKafkaConsumer(**self._common), TopicPartition(topic, partition)
            await consumer.start()
            try:
                if at == "earliest":
                    return (await consumer.beginning_offsets([place]))[place]
                if at == "latest":
                    return (await consumer.end_offsets([place]))[place]
                found = (await consumer.offsets_for_times({place: at}))[place]
                return -1 if found is None else found.offset
            finally:
                await consumer.stop()

        return self._run(work())

    def topics(self):
        return self._run(self._admin.list_topics())

    def create_topic(self, topic, partitions, configs=None, replicas=1):
        made = self._run(self._admin.create_topics(
            [NewTopic(topic, partitions, replicas, topic_configs=configs or {})]
        ))
        for _, code, *_ in made.topic_errors:
            checked(code)

    def delete_topic(self, topic):
        for _, code, *_ in self._run(self._admin.delete_topics([topic])).topic_error_codes:
            checked(code)

    def partitions(self, topic):
        (found,) = self._run(self._admin.describe_topics([topic]))
        checked(found["error_code"])
        return len(found["partitions"])

    def add_partitions(self, topic, count):
        made = self._run(self._admin.create_partitions({topic: NewPartitions(count)}))
        for _, code, *_ in made.topic_errors:
            checked(code)

    def configs(self, topic):
        (found,) = self._run(self._admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic)]
        ))
        (resource,) = found.resources
        checked(resource[0])
        # name, value, read only, source (from version 1 on; 4 and 5 are defaults), ...
        return {entry[0]: [entry[1], entry[3] in (4, 5)] for entry in resource[4]}

    def replace_configs(self, topic, configs):
        answers = self._run(self._admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, configs)]
        ))
        for answer in answers:
            for code, *_ in answer.resources:
                checked(code)

    def delete_records(self, topic, partition, before):
        place = TopicPartition(topic, partition)
        return self._run(self._admin.delete_records({place: RecordsToDelete(before)}))[place]

    def groups(self):
        return [group for group, *_ in self._run(self._admin.list_consumer_groups())]

    def describe_group(self, group):
        (answer,) = self._run(self._admin.describe_consumer_groups([group]))
        (found,) = answer.groups
        code, _, state, _, _, members, *_ = found
        checked(code)
        return {
            "state": state.lower(),
            "members": sorted(
                [client_id, sorted(
                    [topic, number]
                    for topic, numbers in ConsumerProtocolMemberAssignment.decode(assignment).assignment
                    for number in numbers
                )]
                for _, client_id, _, _, assignment in members
            ),
        }

    def group_offsets(self, group, topic):
        found = self._run(self._admin.list_consumer_group_offsets(group))
        return sorted([place.partition, at.offset] for place, at in found.items() if place.topic == topic)

    def cluster(self):
        found = self._run(self._admin.describe_cluster())
        return {
            "id": found["cluster_id"],
            "nodes": sorted(f"{node['host']}:{node['port']}" for node in found["brokers"]),
        }


serve(Aiokafka)
