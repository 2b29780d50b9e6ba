"""A cluster whose data gets old: what is written, what must be there, and what the bucket holds.

A `Ledger` knows what a producer was told of one topic. A `Writer` produces at a steady rate, a `Tail` reads what comes, a
`Walker` reads whole topics from their log start again and again, and a `Gauge` asks what the bucket holds. Each counts what
it finds wrong. Records carry their number and so are told apart.
"""
import json
import os
import random
import subprocess
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from harness.traffic import producer
from local.node import binary

MARGIN = 2  # seconds by which clocks and clients may be late when it is judged whether a record has expired


class Ledger:
    """What was acknowledged in a topic: by place, and the last record of each key."""

    def __init__(self):
        self.lock, self.placed, self.last, self.errors = threading.Lock(), {}, {}, []
        self.acknowledged = self.longest = 0
        self.newest = time.monotonic()

    def told(self, error, message):
        if error:
            self.errors.append(f"{error}")
            return
        with self.lock:
            place, moment = (message.partition(), message.offset()), time.monotonic()
            self.placed[place] = (message.timestamp()[1] / 1000, message.value())
            key = message.key()
            if key not in self.last or self.last[key][0] < place:  # a key has one partition
                self.last[key] = (place, message.value(), message.timestamp()[1] / 1000)
            self.acknowledged += 1
            self.longest, self.newest = max(self.longest, moment - self.newest), moment

    def copy(self):
        with self.lock:
            return dict(self.placed), dict(self.last)

    def forget(self, before):
        """What is older than that is not asked for any more."""
        with self.lock:
            self.placed = {place: found for place, found in self.placed.items() if found[0] >= before}


class Writer(threading.Thread):
    """An idempotent producer of numbered records, some each second."""

    def __init__(self, bootstrap, topic, keys, each_second, size, seed):
        super().__init__(daemon=True)
        self.topic, self.keys, self.pause, self.ledger = topic, keys, 10 / each_second, Ledger()
        self.dice, self.stopping, self.sent = random.Random(seed), threading.Event(), 0
        self.filler = self.dice.randbytes(size)
        self.producer = producer(bootstrap, **{
            "delivery.timeout.ms": 200_000, "queue.buffering.max.messages": 1_000_000, "partitioner": "murmur2_random",
        })

    def run(self):
        due = time.monotonic()
        while not self.stopping.is_set():
            for _ in range(10):
                key = b"%d" % self.dice.randrange(self.keys) if self.keys else None
                value = b"%d " % self.sent + self.filler
                if self.keys and self.dice.random() < 0.02:
                    value = None  # a tombstone
                self.producer.produce(self.topic, value, key, on_delivery=self.ledger.told)
                self.sent += 1
            self.producer.poll(0)
            due += self.pause
            time.sleep(max(0, due - time.monotonic()))

    def finish(self, seconds=120):
        self.stopping.set()
        self.join(30)
        return self.producer.flush(seconds)


def consumer(bootstrap, **config):
    return Consumer({
        "bootstrap.servers": bootstrap, "group.id": "reads-without-a-group", "enable.auto.commit": False,
        "topic.metadata.refresh.interval.ms": 2000, "reconnect.backoff.max.ms": 500, "log_level": 0,
        **config,
    })


class Tail(threading.Thread):
    """Reads what comes: every record once and in order. What it leaves out must have expired before it came to it."""

    def __init__(self, bootstrap, topic, partitions, ledger, retention):
        super().__init__(daemon=True)
        self.topic, self.partitions, self.ledger, self.retention = topic, partitions, ledger, retention
        self.consumer = consumer(bootstrap, **{"auto.offset.reset": "earliest"})
        self.stopping = threading.Event()
        self.next, self.read, self.missed, self.wrong, self.waiting = {}, 0, 0, [], {}

    def run(self):
        self.consumer.assign([TopicPartition(self.topic, part, 0) for part in range(self.partitions)])
        while not self.stopping.is_set():
            for message in self.consumer.consume(1000, 0.2):
                if not message.error():
                    self.take(message)
        self.consumer.close()

    def take(self, message):
        part, offset = message.partition(), message.offset()
        expected = self.next.get(part, 0)
        if offset < expected:
            self.wrong.append(f"partition {part}: {offset} after {expected - 1}")
        if offset > expected:
            placed, _ = self.ledger.copy()
            expired = time.time() - self.retention
            for left_out in range(expected, offset):
                at, _ = placed.get((part, left_out), (expired, None))
                if at > expired + MARGIN:
                    self.wrong.append(f"partition {part}: {left_out} was left out")
                self.missed += 1
        self.next[part] = offset + 1
        self.read += 1
        # Acknowledged before it was read, or soon: what is not is compared with the next.
        self.waiting[part, offset] = message.value()
        if len(self.waiting) > 2000:
            self.settle()

    def settle(self):
        with self.ledger.lock:
            for place in list(self.waiting):
                if place in self.ledger.placed:
                    if self.ledger.placed[place][1] != self.waiting.pop(place):
                        self.wrong.append(f"at {place} was read what is not there")


def read_all(bootstrap, topic, partitions, seconds=60):
    """Every record from the log start to the end: {(partition, offset): (key, value, time in seconds)}.

    A node that was killed costs an error and another attempt. So does a log start that moves on while the reader is before it.
    """
    deadline = time.monotonic() + seconds
    reader, found, ended = consumer(bootstrap, **{"enable.partition.eof": True, "auto.offset.reset": "earliest"}), {}, set()
    reader.assign([TopicPartition(topic, part, OFFSET_BEGINNING) for part in range(partitions)])
    while len(ended) < partitions and time.monotonic() < deadline:
        for message in reader.consume(5000, 0.2):
            if not message.error():
                found[message.partition(), message.offset()] = (
                    message.key(), message.value(), message.timestamp()[1] / 1000,
                )
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
    reader.close()
    return found if len(ended) == partitions else None


class Walker(threading.Thread):
    """Reads topics from their log start, again and again, and compares what is there with what was acknowledged.

    `topics` are (name, partitions, ledger, retention in seconds or None, whether it is compacted).
    """

    def __init__(self, bootstrap, topics, pause):
        super().__init__(daemon=True)
        self.bootstrap, self.topics, self.pause = bootstrap, topics, pause
        self.stopping, self.walks, self.gave_up = threading.Event(), 0, 0
        self.wrong, self.failure, self.oldest = [], None, 0.0

    def run(self):
        try:
            while not self.stopping.wait(self.pause):
                for topic in self.topics:
                    self.walk(*topic)
        except Exception as error:  # noqa: BLE001: shown with the counts
            self.failure = repr(error)

    def walk(self, topic, partitions, ledger, retention, compacted):
        began = time.time()
        placed, last = ledger.copy()
        try:
            found = read_all(self.bootstrap, topic, partitions)
        except KafkaException:
            found = None
        if found is None:
            self.gave_up += 1
            return None
        self.walks += 1
        ended = time.time()
        self.judge(topic, placed, last, found, retention, compacted, began, ended)
        if retention:
            ledger.forget(began - 3 * retention)
        return found

    def say(self, what):
        if len(self.wrong) < 50:
            self.wrong.append(what)

    def judge(self, topic, placed, last, found, retention, compacted, began, ended):
        def alive(at):
            return retention is None or at + retention > ended + MARGIN

        if compacted:
            # A key that was written again during the walk may be at its newer place only.
            newest = {}
            for (part, offset), (key, value, at) in found.items():
                if key not in newest or newest[key][0] < (part, offset):
                    newest[key] = (part, offset), value
            for key, (place, value, at) in last.items():
                if not alive(at) or value is None and key not in newest:
                    continue
                if key not in newest or newest[key][0] < place:
                    self.say(f"{topic}: {key} was acknowledged at {place}, the last found is {newest.get(key)}")
                elif newest[key][0] == place and newest[key][1] != value:
                    self.say(f"{topic}: {key} at {place} has another value")
        else:
            for place, (at, value) in placed.items():
                if alive(at) and place not in found:
                    self.say(f"{topic}: {place}, {ended - at:.0f} s old, is lost")
        values = [value for _, value, _ in found.values() if value is not None]
        if len(values) != len(set(values)):
            self.say(f"{topic}: {len(values) - len(set(values))} records are there twice")
        for place, (at, value) in placed.items():
            if place in found and found[place][1] != value:
                self.say(f"{topic}: at {place} is another record than was acknowledged")
        if retention and found:
            self.oldest = max(self.oldest, began - min(at for _, _, at in found.values()))


class Gauge(threading.Thread):
    """What the bucket holds, every now and then, as `weir store usage` tells it."""

    def __init__(self, url, env, pause):
        super().__init__(daemon=True)
        self.url, self.env, self.pause, self.stopping = url, env, pause, threading.Event()
        self.samples, self.failures, self.begun = [], [], time.monotonic()

    def run(self):
        while not self.stopping.wait(self.pause):
            self.sample()

    def sample(self):
        done = subprocess.run(
            [binary(), "store", "usage", "--store", self.url, "--output", "json"],
            env={**os.environ, **self.env}, capture_output=True, text=True, timeout=120,
        )
        if done.returncode:
            self.failures.append(done.stderr.strip())
            return
        usage = json.loads(done.stdout)
        self.samples.append({
            "seconds": time.monotonic() - self.begun, "objects": usage["objects"], "bytes": usage["bytes"],
            "slices": sum(topic["slices"] for topic in usage["topics"]),
            **{share["reason"]: share["bytes"] for share in usage["reasons"]},
        })

    def most(self, figure, start, end):
        """The highest of a figure in a part of the time, given as fractions of it."""
        whole = self.samples[-1]["seconds"]
        part = [sample[figure] for sample in self.samples if start * whole <= sample["seconds"] <= end * whole]
        return max(part, default=0)


class Killer:
    """Kills nodes and starts them again, from a seed. Runs in the thread that owns the processes.

    All but one at a time: what a node deletes it must itself have known to be dead for the grace period, so where every node
    is killed each minute nothing is deleted. Half-way through it is that one's turn, and another is spared.
    """

    def __init__(self, nodes, seed):
        self.nodes, self.dice, self.kills = nodes, random.Random(seed), 0

    def run(self, until, watch):
        """Until that moment; `watch` is called about every second."""

        def pause(seconds):
            over = min(until, time.monotonic() + seconds)
            while time.monotonic() < over:
                watch()
                time.sleep(min(1, max(0, over - time.monotonic())))

        begun, spared = time.monotonic(), self.dice.sample(self.nodes, 2)
        while True:
            pause(self.dice.uniform(4, 20))
            if time.monotonic() >= until:
                break
            late = time.monotonic() - begun > (until - begun) / 2
            victims = [node for node in self.nodes if node is not spared[late]]
            victims = self.dice.sample(victims, self.dice.choice([1, 1, 2]))
            for node in victims:
                node.kill()
                self.kills += 1
            pause(self.dice.uniform(0.5, 5))
            for node in victims:
                node.start(wait=False)
