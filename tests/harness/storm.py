"""What faults do to a cluster under traffic: the schedule of faults, the readers, and the counts.

A `Cluster` is some nodes on one store, each behind a proxy of its own. A `Traffic` is an idempotent
producer and a consumer group on it, and counts what became of every record. A `Schedule` is what goes
wrong when, made from a seed.
"""
import dataclasses
import os
import random
import subprocess
import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from harness.clients import ClientError
from harness.faults import FaultyStore
from harness.traffic import Stream, producer
from local.node import binary

CALM = 6  # seconds between two rounds of faults
GROUP_SESSION = 10  # seconds


@dataclasses.dataclass(frozen=True)
class Fault:
    """`kind` on node `node` (None: on all) from `start` seconds on, for `seconds`."""

    kind: str
    node: int | None
    start: float
    seconds: float

    def __str__(self):
        where = "all nodes" if self.node is None else f"node {self.node + 1}"
        return f"{self.start:5.1f} s  {self.kind:<12} {where}, {self.seconds:.1f} s"


class Schedule:
    """Rounds of one to three faults that overlap, and some calm after each. The same for a seed."""

    KINDS = ["kill", "pause", "refuse", "fail", "reset", "refuse after", "fail after", "reset after", "hang"]

    def __init__(self, seed, nodes, seconds):
        dice, self.rounds, at, self.seed = random.Random(seed), [], 2.0, seed
        deck = []
        while at < seconds:
            faults, victims = [], list(range(nodes))
            dice.shuffle(victims)
            for node in victims[:dice.randint(1, min(3, nodes))]:
                if not deck:  # every kind comes up before one comes again
                    deck = dice.sample(self.KINDS, len(self.KINDS))
                kind = deck.pop()
                everywhere = kind not in ("kill", "pause") and dice.random() < 0.3
                start = at + dice.uniform(0, 2)
                faults.append(Fault(kind, None if everywhere else node, start, dice.uniform(1, 8)))
            self.rounds.append(sorted(faults, key=lambda fault: fault.start))
            at = max(fault.start + fault.seconds for fault in faults) + CALM

    def __str__(self):
        return "\n".join(f"  {fault}" for faults in self.rounds for fault in faults)


class Cluster:
    """Nodes on one store, each behind a proxy of its own, and what they needed of memory."""

    def __init__(self, store, make_node, seed, nodes=3, arguments=()):
        from conftest import Place

        self.proxies = [FaultyStore(store, seed + number) for number in range(nodes)]
        self.url, self.nodes, self.peak = store.bucket(f"storm-{seed}-{time.time_ns()}"), [], 0
        for number, proxy in enumerate(self.proxies):
            place = Place.__new__(Place)
            place.url, place.env = self.url, proxy.env
            node = make_node(place, f"{store.name}-{number + 1}", arguments=arguments)
            self.nodes.append(node.start())

    @property
    def addresses(self):
        return ",".join(node.kafka for node in self.nodes)

    def note_memory(self):
        for node in self.nodes:
            if node.running:
                self.peak = max(self.peak, node.peak_memory())

    def begin(self, fault):
        if fault.kind == "kill":
            self.note_memory()
            self.nodes[fault.node].kill()
        elif fault.kind == "pause":
            self.nodes[fault.node].pause()
        else:
            for proxy in self.proxies if fault.node is None else [self.proxies[fault.node]]:
                proxy.break_all(fault.kind, fault.seconds)

    def end(self, fault):
        if fault.kind == "kill":
            self.nodes[fault.node].start(wait=False)
        elif fault.kind == "pause":
            self.nodes[fault.node].resume()

    def run(self, schedule):
        """Carries the schedule out: the moments at which each round was over.

        In one thread, which must live on: a process dies with the thread that started it.
        """
        begun, over = time.monotonic(), []
        for faults in schedule.rounds:
            moments = [(fault.start, self.begin, fault) for fault in faults]
            moments += [(fault.start + fault.seconds, self.end, fault) for fault in faults]
            for at, what, fault in sorted(moments, key=lambda moment: moment[0]):
                time.sleep(max(0, begun + at - time.monotonic()))
                what(fault)
            over.append(time.monotonic())
            self.note_memory()
            time.sleep(CALM)
        return over

    def fsck(self):
        """What `weir fsck --deep` finds wrong with the bucket: nothing, or its report."""
        return fsck(self.url, self.proxies[0].env)

    def stop(self):
        for proxy in self.proxies:
            proxy.stop()


def fsck(url, env):
    done = subprocess.run(
        [binary(), "fsck", "--store", url, "--deep"], env={**os.environ, **env}, capture_output=True, text=True,
        timeout=240,
    )
    return "" if done.returncode == 0 else f"exit {done.returncode}\n{done.stdout}{done.stderr}"


class Member(threading.Thread):
    """A member of a group in one of the clients: takes records, notes when, and commits every second."""

    def __init__(self, client, name, group, topic):
        super().__init__(daemon=True)
        self.client, self.name_, self.topic = client, name, topic
        self.seen, self.times, self.redelivered = {}, {}, 0
        self.changed, self.commits, self.refused, self.failure = [], 0, {}, None
        self.stopping = threading.Event()
        client.join(member=name, group=group, topics=[topic], session_ms=GROUP_SESSION * 1000)

    def run(self):
        next_commit = time.monotonic()
        try:
            while not self.stopping.is_set():
                self.take()
                if time.monotonic() > next_commit:
                    self.commit()
                    next_commit = time.monotonic() + 1
        except Exception as error:  # noqa: BLE001: shown with the counts
            self.failure = error

    def take(self):
        for item in self.client.take(member=self.name_, count=1, ms=50):
            place = item["partition"], item["offset"]
            if place in self.seen:
                self.redelivered += 1
                if self.seen[place] != item["value"]:
                    self.changed.append((place, self.seen[place], item["value"]))
            self.seen[place] = item["value"]
            self.times.setdefault(item["partition"], []).append(time.monotonic())

    def places(self):
        """The (partition, offset) seen so far. A list is copied from a dict in one step, so the thread may go on."""
        return list(self.seen)

    def commit(self):
        """Commits what it has seen of what is assigned. A refusal that may be repeated is counted."""
        try:
            ends = {}
            mine = {part for _, part in self.client.assigned(member=self.name_)}
            for part, offset in self.seen:
                if part in mine:
                    ends[part] = max(ends.get(part, 0), offset + 1)
            if ends:
                offsets = [[self.topic, part, end] for part, end in ends.items()]
                self.client.commit(member=self.name_, offsets=offsets)
                self.commits += 1
        except ClientError as error:
            text = error.text.partition(":")[0].rpartition(".")[2] + f" {error.code}"
            self.refused[text] = self.refused.get(text, 0) + 1


class Traffic:
    """An idempotent producer and a group of two members of different clients, and the ledger of it all."""

    def __init__(self, cluster, drivers, names, partitions, each_second=300):
        self.cluster, self.topic, self.partitions = cluster, names("storm"), partitions
        clients = {name: drivers(name, cluster.addresses) for name in ("librdkafka", "java")}
        clients["librdkafka"].create_topic(topic=self.topic, partitions=partitions)
        group = names("storm-group")
        self.members = [Member(client, name, group, self.topic) for name, client in clients.items()]
        self.stream = Stream(cluster.addresses, self.topic, partitions, each_second, **{
            "delivery.timeout.ms": 200_000, "queue.buffering.max.messages": 1_000_000,
        })
        for thread in [*self.members, self.stream]:
            thread.start()
        deadline = time.monotonic() + 40
        while len({part for member in self.members for part, _ in member.places()}) < partitions:
            assert time.monotonic() < deadline, "the group does not begin to read"
            time.sleep(0.1)

    def finish(self, over, seconds=60):
        """Ends the traffic and counts: a row of the table. `over` are the moments when faults were over."""
        stream = self.stream
        stream.stopping.set()
        stream.join(30)
        left = stream.producer.flush(seconds)
        total = len(stream.told.placed)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if len({place for member in self.members for place in member.places()}) >= total:
                break
            time.sleep(0.1)
        for member in self.members:
            member.stopping.set()
            member.join(60)
        self.cluster.note_memory()
        log = read_log(self.cluster.nodes[0].kafka, self.topic, self.partitions)
        return self.count(log, over, left)

    def count(self, log, over, left):
        told = self.stream.told
        lost = sum(log[part].get(offset) != value for part, offset, value in told.placed)
        values = [value for part in log.values() for value in part.values()]
        wrong_order = 0
        for part in log.values():
            numbers = [int(part[offset].split()[0]) for offset in sorted(part)]
            wrong_order += sum(later <= former for former, later in zip(numbers, numbers[1:]))
        gaps = sum(sorted(part) != list(range(len(part))) for part in log.values())
        seen = {}
        for member in self.members:
            seen.update(member.seen)
        stored = {(part, offset): value.decode() for part, found in log.items() for offset, value in found.items()}
        acknowledged, consumed = {}, {}
        for (part, _, _), at in zip(told.placed, told.times):
            acknowledged.setdefault(part, []).append(at)
        for member in self.members:
            for part, times in member.times.items():
                consumed.setdefault(part, []).extend(times)
        return {
            "acknowledged": len(told.placed), "lost": lost, "duplicated": len(values) - len(set(values)),
            "out of order": wrong_order, "gaps": gaps, "failed": len(told.errors) + left,
            "unread": len(stored.keys() - seen.keys()),
            "read wrong": sum(stored.get(place) != value for place, value in seen.items())
            + sum(len(member.changed) for member in self.members),
            "redelivered": sum(member.redelivered for member in self.members),
            "offset commits": sum(member.commits for member in self.members),
            "commits refused": {key: value for member in self.members for key, value in member.refused.items()},
            "writes back s": back(over, acknowledged, self.partitions),
            "reads back s": back(over, consumed, self.partitions),
            "peak MiB": self.cluster.peak >> 20,
            "failures": [repr(member.failure) for member in self.members if member.failure],
            "errors": told.errors[:3],
        }


def back(over, times, partitions):
    """The longest time from the end of faults until every partition went on."""
    longest = 0.0
    for moment in over:
        for part in range(partitions):
            later = [at for at in times.get(part, []) if at >= moment]
            longest = max(longest, (min(later) if later else float("inf")) - moment)
    return round(longest, 1)


def read_log(bootstrap, topic, partitions, seconds=90):
    """All that is in the log: {partition: {offset: value}}."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "reads-without-a-group", "enable.auto.commit": False,
        "topic.metadata.refresh.interval.ms": 2000, "reconnect.backoff.max.ms": 500, "log_level": 0,
    })
    found, ends, deadline = {part: {} for part in range(partitions)}, {}, time.monotonic() + seconds
    while len(ends) < partitions:
        part = len(ends)
        try:
            ends[part] = consumer.get_watermark_offsets(TopicPartition(topic, part), timeout=20)[1]
        except KafkaException:
            assert time.monotonic() < deadline, f"partition {part} cannot be asked for its end"
    consumer.assign([TopicPartition(topic, part, 0) for part in range(partitions)])
    while sum(map(len, found.values())) < sum(ends.values()) and time.monotonic() < deadline:
        for message in consumer.consume(2000, 0.2):
            if not message.error():
                found[message.partition()][message.offset()] = message.value()
    consumer.close()
    return found


COLUMNS = [
    "acknowledged", "lost", "duplicated", "out of order", "writes back s", "reads back s", "peak MiB",
    "redelivered", "offset commits", "failed", "unread", "read wrong", "gaps",
]


def table(name, row):
    """A row as a table of one line, for the log of a run."""
    cells = [[column, str(row[column])] for column in COLUMNS if column in row]
    widths = [max(map(len, cell)) for cell in cells]
    lines = [" | ".join(cell[at].rjust(width) for cell, width in zip(cells, widths)) for at in (0, 1)]
    return f"{name}\n" + "\n".join(lines)


def flood(bootstrap, topic, stop, told, mebibytes=90):
    """Produces 10 kB records as fast as they are taken, with a full queue, until `stop` is set."""
    sender = producer(bootstrap, **{
        "queue.buffering.max.kbytes": mebibytes << 10, "delivery.timeout.ms": 200_000, "linger.ms": 20,
    })
    number, filler = 0, random.Random(0).randbytes(10_000)
    while not stop.is_set():
        try:
            sender.produce(topic, b"%d " % number + filler, partition=0, on_delivery=told)
            number += 1
        except BufferError:
            sender.poll(0.1)
        sender.poll(0)
    left = sender.flush(120)
    return number, left
