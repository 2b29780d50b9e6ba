"""What can happen between a node and its store, with real processes: nothing acknowledged is lost, doubled or reordered.

The proxies of `harness.faults` do it. WEIR_FAULTS_SEED repeats a run.
"""
import os
import random
import shutil
import threading
import time
import urllib.error
import urllib.request

import pytest

from harness.faults import FaultyStore
from harness.storm import Cluster, fsck, read_log
from harness.traffic import Stream
from harness.wire import Closed, Connection, batch
from local.process import ProcessDied, wait_until

SEED = int(os.environ.get("WEIR_FAULTS_SEED") or random.SystemRandom().randrange(1_000_000))
MINIO = pytest.mark.parametrize("store", ["minio"])
SECONDS = 8
LATE = 10  # seconds: longer than a node waits for a request about the log
START = 30  # seconds that a start may take, whatever the store does

WAYS = {
    "cut off in the middle of a PUT": (["cut"], 0.1),
    "lost one way": (["hang", "deaf"], 0.03),
    "late and doubled": (["late", "twice", "twice late"], 0.06),
    "answered by others": (["gateway", "page", "portal"], 0.1),
}


def is_commit(method, path):
    return method == "PUT" and ".commit" in path


def count(stream, log):
    """What became of a stream's records: (acknowledged, lost, duplicated, out of order)."""
    told = stream.told
    lost = sum(log[part].get(offset) != value for part, offset, value in told.placed)
    values = [value for part in log.values() for value in part.values()]
    numbers = [[int(part[offset].split()[0]) for offset in sorted(part)] for part in log.values()]
    wrong = sum(later <= former for part in numbers for former, later in zip(part, part[1:]))
    return len(told.placed), lost, len(values) - len(set(values)), wrong


@pytest.mark.slow
@pytest.mark.timeout(180)
@MINIO
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_doubled_or_reordered_whatever_is_between(make_node, stores, drivers, names, store, way):
    print(f"\nseed {SEED}, {way}")
    cluster = Cluster(stores(store), make_node, SEED)
    kinds, rate = WAYS[way]
    try:
        topic = names("topic")
        drivers("librdkafka", cluster.addresses).create_topic(topic=topic, partitions=4)
        stream = Stream(cluster.addresses, topic, 4)
        stream.start()
        for proxy in cluster.proxies:
            proxy.kinds, proxy.late_by, proxy.rate = kinds, LATE, rate
        for kind in kinds * 2:
            # And for a moment with every commit. Most are stored by one of the nodes, for all.
            for proxy in cluster.proxies:
                proxy.break_all(kind, 0.5, is_commit)
            time.sleep(SECONDS / len(kinds * 2))
        for proxy in cluster.proxies:
            proxy.calm()
        stream.finish()
        done = {kind: sum(proxy.done.get(kind, 0) for proxy in cluster.proxies) for kind in kinds}
        logs = [read_log(node.kafka, topic, 4) for node in cluster.nodes]
        assert all(log == logs[0] for log in logs), f"seed {SEED}: the nodes give different records"
        acknowledged, *bad = count(stream, logs[0])
        print(f"{acknowledged} acknowledged; {done}")
        assert bad == [0, 0, 0], f"lost, duplicated, out of order: {bad}; seed {SEED}"
        assert acknowledged > 300 and min(done.values()) >= 1, (acknowledged, done)
        assert all(node.running for node in cluster.nodes), "nothing between ends a node"
        assert not (damage := cluster.fsck()), damage
    finally:
        cluster.stop()


class Churn(threading.Thread):
    """Creates topics through one node, writes to them, deletes records of a topic that all write to, and deletes the topics
    again; each step also through the others."""

    def __init__(self, number, nodes, shared, until):
        super().__init__(daemon=True)
        self.number, self.nodes, self.shared, self.until = number, nodes, shared, until
        self.dice, self.topics, self.placed, self.failure = random.Random(SEED + number), 0, {}, None

    def run(self):
        try:
            wires = [Connection(node.kafka, 30) for node in self.nodes]
            while time.monotonic() < self.until:
                self.live(wires)
        except (AssertionError, Closed, OSError) as error:
            self.failure = error

    def live(self, wires):
        name = f"churn-{self.number}-{self.topics}"
        self.topics += 1
        wire = lambda: self.dice.choice(wires)  # noqa: E731
        assert wire().create_topic(name, self.dice.randint(1, 3)) == 0
        for number in range(self.dice.randint(1, 6)):
            code, _ = wire().produce(name, 0, batch([b"%d" % number]))
            assert code in (0, 3), f"{name}: produce {code}"  # another node may not know it yet
            value = b"%d %d %d" % (self.number, self.topics, number)
            part = self.dice.randint(0, 1)
            code, offset = wire().produce(self.shared, part, batch([value]))
            assert code == 0, f"{self.shared}: produce {code}"
            self.placed[part, offset] = value
            if self.dice.random() < 0.3:
                # To the end, wherever that is by now: of a partition of which nothing is to be kept.
                code = wire().produce(self.shared, 2, batch([value]))[0]
                assert code == 0 and wire().delete_records(self.shared, 2, -1) in (0, 1)
        code = wire().delete_topic(name)
        assert code in (0, 3), f"{name}: delete {code}"


@pytest.mark.slow
@pytest.mark.timeout(180)
@MINIO
def test_topics_come_and_go_through_three_nodes_and_the_bucket_stays_sound(make_node, place, names):
    print(f"\nseed {SEED}")
    nodes = [make_node(place).start() for _ in range(3)]
    shared = names("shared")
    with Connection(nodes[0].kafka) as wire:
        assert wire.create_topic(shared, 3) == 0
    churns = [Churn(number, nodes, shared, time.monotonic() + 30) for number in range(6)]
    for churn in churns:
        churn.start()
    for churn in churns:
        churn.join(90)
        assert churn.failure is None and not churn.is_alive(), f"{churn.failure!r}; seed {SEED}"
    placed = {place_: value for churn in churns for place_, value in churn.placed.items()}
    print(f"{sum(churn.topics for churn in churns)} topics, {len(placed)} records that stay")
    assert len(placed) == sum(len(churn.placed) for churn in churns), "two records have one offset"
    # Somebody who comes now sees the same, and can start at all.
    for node in [nodes[0], make_node(place).start()]:
        log = read_log(node.kafka, shared, 2)
        assert {(part, offset): value for part in log for offset, value in log[part].items()} == placed, f"seed {SEED}"
    assert not (damage := fsck(place.url, place.env)), damage


@pytest.mark.slow
@pytest.mark.timeout(150)
@MINIO
@pytest.mark.parametrize("trouble", ["three of ten requests refused", "two seconds for each request"])
def test_a_node_starts_though_its_store_is_in_trouble(make_node, place, names, trouble):
    """With some hundred commits to read. (While others write, the log is read to its end: `node/tests/starting.rs`.)"""
    other, topic = make_node(place, arguments=["--commit-interval", "0"]).start(), names("topic")
    with Connection(other.kafka) as wire:
        assert wire.create_topic(topic) == 0
        for number in range(200):
            assert wire.produce(topic, 0, batch([b"%d" % number]))[0] == 0
    proxy = FaultyStore(place.store, SEED, kinds=["refuse"])
    if trouble.startswith("two"):
        proxy.latency = 2.0
    else:
        proxy.rate = 0.3
    try:
        third = make_node(place, "in-trouble", env=proxy.env)
        third.start(wait=False)
        began = time.monotonic()
        while not stated(third):
            assert third.running, third.tail()
            assert time.monotonic() - began < START, f"not started after {START} s\n{third.tail()}"
            time.sleep(0.2)
        print(f"\n{trouble}: started after {time.monotonic() - began:.1f} s, {proxy.done}")
    finally:
        proxy.stop()


def stated(node):
    """Whether a node says that it has started."""
    return "ready" in node.output().splitlines()


def unready(node):
    """Why a node says that it is not ready; empty if it is."""
    try:
        urllib.request.urlopen(f"http://{node.http}/readyz", timeout=10).close()
        return ""
    except urllib.error.HTTPError as error:
        return error.read().decode()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("store", ["file"])
def test_a_directory_that_is_emptied_under_a_node_is_noticed(make_node, place, names):
    directory, node = place.url.removeprefix("file://"), make_node(place).start()
    topic = names("topic")
    with Connection(node.kafka, 30) as wire:
        assert wire.create_topic(topic) == 0 and wire.produce(topic, 0, batch([b"a"]))[0] == 0
        for name in os.listdir(directory):
            if not name.startswith("."):  # what `rm -rf DIR/*` takes
                path = f"{directory}/{name}"
                os.remove(path) if os.path.isfile(path) else shutil.rmtree(path)
        why = wait_until(lambda: unready(node), 10, "the node notices that its directory was emptied")
        assert "was emptied" in why and "cluster.json" in why, why
        code, _ = wire.produce(topic, 0, batch([b"b"]))
        assert code in (7, 56), f"a record is acknowledged in an empty directory: {code}"
    assert node.running and "was emptied" in node.output()
    assert not os.path.exists(f"{directory}/manifest/log") or not os.listdir(f"{directory}/manifest/log")
    node.kill()
    # A log, and no cluster.
    os.makedirs(f"{directory}/manifest/log", exist_ok=True)
    with open(f"{directory}/manifest/log/{7:020}.commit", "wb") as commit:
        commit.write(b"WEIR")
    with pytest.raises(ProcessDied):
        node.start()
    said = node.output()
    assert "no cluster.json" in said and "put cluster.json back" in said, said
    assert not os.path.exists(f"{directory}/cluster.json")
