"""Traffic of librdkafka in this process: fast, and it remembers what the broker acknowledged."""
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition


class Acknowledged:
    """What a producer was told: every record with its partition and offset, or its error."""

    def __init__(self):
        self.placed, self.errors, self.times = [], [], []

    def __call__(self, error, message):
        if error:
            self.errors.append(f"{error}")
        else:
            self.placed.append((message.partition(), message.offset(), message.value()))
            self.times.append(time.monotonic())

    def by_partition(self):
        """{partition: [value at offset 0, at offset 1, ...]}; offsets must be dense and unique."""
        partitions = {}
        for partition, offset, value in sorted(self.placed, key=lambda item: item[:2]):
            values = partitions.setdefault(partition, [])
            assert offset == len(values), (
                f"partition {partition}: acknowledged offset {offset} follows {len(values) - 1}"
            )
            values.append(value)
        return partitions


def producer(bootstrap, **config):
    return Producer({
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 10,
        "topic.metadata.refresh.interval.ms": 2000, "reconnect.backoff.max.ms": 500,
        "delivery.timeout.ms": 90_000, "log_level": 0, **config,
    })


def produce_all(bootstrap, topic, records, **config):
    """Produces (key, value) pairs as fast as they are taken; everything must be acknowledged."""
    told, sender = Acknowledged(), producer(bootstrap, **config)
    for key, value in records:
        while True:
            try:
                sender.produce(topic, value, key, on_delivery=told)
                break
            except BufferError:
                sender.poll(0.1)
        sender.poll(0)
    left = sender.flush(90)
    assert not left and not told.errors, (left, told.errors[:5])
    return told


class Stream(threading.Thread):
    """Produces numbered records to each partition in turn, some each second, until it is told to stop."""

    def __init__(self, bootstrap, topic, partitions, each_second=400, first=0, filler=b"", **config):
        super().__init__(daemon=True)
        self.topic, self.partitions, self.pause = topic, partitions, 10 / each_second
        self.told, self.sent, self.stopping = Acknowledged(), [], threading.Event()
        self.first, self.filler = first, filler
        self.producer = producer(bootstrap, **config)

    def run(self):
        while not self.stopping.is_set():
            for _ in range(10):
                number = len(self.sent)
                value = b"%d %d" % (self.first + number, time.time_ns()) + self.filler
                try:
                    self.producer.produce(
                        self.topic, value, partition=number % self.partitions, on_delivery=self.told
                    )
                except BufferError:
                    break
                self.sent.append(value)
            self.producer.poll(0)
            time.sleep(self.pause)

    def finish(self):
        """Ends it and waits until everything is acknowledged: {partition: [values in order]}."""
        self.stopping.set()
        self.join(30)
        left = self.producer.flush(90)
        assert not left and not self.told.errors, (left, self.told.errors[:5])
        assert len(self.told.placed) == len(self.sent)
        return self.told.by_partition()


def read_all(bootstrap, topic, ends, seconds=60):
    """Reads partitions from offset 0 up to their ends, {partition: end}: {partition: [values]}."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "reads-without-a-group", "enable.auto.commit": False,
        "topic.metadata.refresh.interval.ms": 2000, "reconnect.backoff.max.ms": 500,
        "log_level": 0,
    })
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    values, deadline = {partition: [] for partition in ends}, time.monotonic() + seconds
    while any(len(values[partition]) < end for partition, end in ends.items()):
        assert time.monotonic() < deadline, (
            f"after {seconds} s: {({partition: len(found) for partition, found in values.items()})} of {ends}"
        )
        for message in consumer.consume(1000, 0.2):
            if message.error():
                continue
            found = values[message.partition()]
            assert message.offset() == len(found), (
                f"partition {message.partition()}: offset {message.offset()} after {len(found) - 1}"
            )
            found.append(message.value())
    consumer.close()
    return values
