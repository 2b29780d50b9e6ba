"""Real nodes, real clients, real faults: counted, and nothing that was acknowledged may be missing.

The schedule of faults comes from a seed, which is printed: WEIR_FAULTS_SEED repeats it. WEIR_FAULTS_SECONDS
makes the storms longer than in CI (`make soak-faults SECONDS=3600`), WEIR_FAULTS_OUTAGE the outage.
WEIR_FAULTS_REPORT is a file that the counts are added to.
"""
import concurrent.futures
import os
import pathlib
import random
import subprocess
import threading
import time

import pytest

from harness.storm import GROUP_SESSION, Cluster, Schedule, Traffic, flood, fsck, read_log, table
from harness.traffic import Acknowledged, Stream
from harness.wire import Closed, Connection, batch
from local import LocalStack, MinIO

SEED = int(os.environ.get("WEIR_FAULTS_SEED") or random.SystemRandom().randrange(1_000_000))
SECONDS = float(os.environ.get("WEIR_FAULTS_SECONDS") or 24)
PARTITIONS = 6
MEMORY = 512  # MiB
# Seconds after the end of faults, at most, until every partition is written and read again. A member of a group
# that was cut off may have to be expired first, and the machine may be busy.
WRITES_BACK = 30
READS_BACK = GROUP_SESSION + 20


def judge(name, row):
    print("\n" + table(name, row))
    print(f"offset commits that were refused: {row['commits refused']}")
    report = pathlib.Path(os.environ.get("WEIR_FAULTS_REPORT", os.devnull))
    with open(report, "a") as lines:
        lines.write(f"seed {SEED}\n{table(name, row)}\n")
    bad = {what: row[what] for what in (
        "lost", "duplicated", "out of order", "gaps", "failed", "unread", "read wrong", "failures", "damage",
    ) if row[what]}
    assert not bad, (bad, row["errors"], f"seed {SEED}")
    assert row["acknowledged"] > 1000
    assert row["peak MiB"] < MEMORY
    assert row["writes back s"] < WRITES_BACK and row["reads back s"] < READS_BACK, f"seed {SEED}"


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 240)
@pytest.mark.parametrize("store", ["localstack", "minio"])
def test_a_storm_of_faults_loses_and_doubles_nothing(make_node, stores, drivers, names, store):
    """Nodes are killed and paused, their stores refuse, fail, hang and lose answers, all at once."""
    schedule = Schedule(SEED, 3, SECONDS)
    print(f"\nseed {SEED}, {store}\n{schedule}")
    cluster = Cluster(stores(store), make_node, SEED)
    try:
        traffic = Traffic(cluster, drivers, names, PARTITIONS)
        for proxy in cluster.proxies:
            proxy.rate = 0.02
        over = cluster.run(schedule)
        for proxy in cluster.proxies:
            proxy.rate = 0
        row = traffic.finish(over)
        done = {}
        for proxy in cluster.proxies:
            for kind, count in proxy.done.items():
                done[kind] = done.get(kind, 0) + count
        print("faults of requests to the store:", {kind: count for kind, count in done.items() if count})
        row["damage"] = cluster.fsck()
        judge(f"storm on {store}", row)
        assert all(node.running for node in cluster.nodes), "no fault of the store ends a node"
    finally:
        cluster.stop()


RETRIABLE = {  # Kafka's codes that clients answer with another attempt, for the requests they come in
    3: "UNKNOWN_TOPIC_OR_PARTITION", 5: "LEADER_NOT_AVAILABLE", 6: "NOT_LEADER_OR_FOLLOWER", 7: "REQUEST_TIMED_OUT",
    14: "COORDINATOR_LOAD_IN_PROGRESS", 15: "COORDINATOR_NOT_AVAILABLE", 16: "NOT_COORDINATOR",
    41: "NOT_CONTROLLER", 56: "KAFKA_STORAGE_ERROR",
}
ANSWERED = 25  # seconds, at most, until any request is answered while the store is gone
ASKED = {
    "produce": lambda wire, topic: wire.produce(topic, 1, batch([b"while it is gone"]))[0],
    "fetch": lambda wire, topic: wire.fetch(topic, 0, 0)[0],
    "list_offsets": lambda wire, topic: wire.list_offsets(topic, 0, -1)[0],
    "create_topics": lambda wire, topic: wire.create_topic(f"{topic}-another"),
    "delete_topics": lambda wire, topic: wire.delete_topic(f"{topic}-none"),
    "alter_configs": lambda wire, topic: wire.alter_configs(topic, {"retention.ms": "1000000000"}),
    "init_producer_id": lambda wire, topic: wire.init_producer_id()[0],
    "join_group": lambda wire, topic: wire.join_group(f"{topic}-group")[0],
    "offset_commit": lambda wire, topic: wire.offset_commit(f"{topic}-alone", -1, "", topic, 0, 1),
}


def ask_everything(address, topic):
    """Asks a node for each thing once, at the same time: {request: (what came, seconds)}."""

    def ask(request):
        begun = time.monotonic()
        try:
            with Connection(address, 60) as wire:
                code = ASKED[request](wire, topic)
            came = "OK" if code == 0 else RETRIABLE.get(code, f"error {code}")
        except Closed:
            came = "closed"
        except TimeoutError:
            came = "HANGS"
        return came, round(time.monotonic() - begun, 1)

    with concurrent.futures.ThreadPoolExecutor(len(ASKED)) as pool:
        return dict(zip(ASKED, pool.map(ask, ASKED)))


def outage(store, gone, back, make_node, drivers, names, seconds):
    """The store is gone for a while under full load: a row of the table, and how requests were answered."""
    cluster = Cluster(store, make_node, SEED, nodes=2)
    try:
        traffic = Traffic(cluster, drivers, names, PARTITIONS)
        # As much as the nodes take, so that their buffers are full when the store is gone.
        pressed, stop = names("pressed"), threading.Event()
        with Connection(cluster.nodes[0].kafka) as wire:
            assert wire.create_topic(pressed, 2) == 0
        told, result = Acknowledged(), []
        presses = threading.Thread(
            target=lambda: result.append(flood(cluster.addresses, pressed, stop, told)), daemon=True,
        )
        time.sleep(2)
        gone()
        presses.start()
        left = time.monotonic() + seconds
        answers = ask_everything(cluster.nodes[0].kafka, pressed)
        assert not cluster.nodes[0].ready(), "a node whose store is gone is not ready"
        while time.monotonic() < left:
            cluster.note_memory()
            time.sleep(0.5)
        stop.set()
        back()
        over = time.monotonic()
        time.sleep(15)
        row = traffic.finish([over], seconds=90)
        presses.join(150)
        assert result and result[0] == (len(told.placed), 0) and not told.errors, (result, told.errors[:3])
        log = read_log(cluster.nodes[1].kafka, pressed, 2)
        row["lost"] += sum(log[part].get(offset) != value for part, offset, value in told.placed)
        row["duplicated"] += len(log[0]) - len(set(log[0].values()))
        numbers = [int(log[0][offset].split()[0]) for offset in sorted(log[0])]
        row["out of order"] += sum(later <= former for former, later in zip(numbers, numbers[1:]))
        row["acknowledged"] += len(told.placed)
        cluster.note_memory()
        row["peak MiB"] = cluster.peak >> 20
        assert all(node.running for node in cluster.nodes)
        row["damage"] = cluster.fsck()
        return row, answers
    finally:
        cluster.stop()


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_store_that_is_gone_for_a_minute_loses_and_doubles_nothing(
    make_node, stores, drivers, names, tmp_path, logs, shown,
):
    """MinIO is killed and started again on its folder; LocalStack, which keeps nothing, is stopped and resumed."""
    from conftest import need

    need(MinIO.missing() or LocalStack.missing())
    gone_for = float(os.environ.get("WEIR_FAULTS_OUTAGE") or 60)
    minio = MinIO(tmp_path / "minio", logs / "minio.log").start()
    localstack = LocalStack(tmp_path / "localstack", logs / "localstack.log").start()
    shown += [minio.process, localstack.process]
    # MinIO starts in this thread: a process dies with the thread that started it.
    start_minio, started = threading.Event(), threading.Event()

    def minio_comes_back():
        start_minio.set()
        assert started.wait(60)

    try:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            runs = {
                "MinIO killed and started": pool.submit(
                    outage, minio, minio.process.kill, minio_comes_back, make_node, drivers, names, gone_for),
                "LocalStack stopped and resumed": pool.submit(
                    outage, localstack, localstack.process.pause, localstack.process.resume, make_node, drivers,
                    names, gone_for),
            }
            while not start_minio.wait(0.2):
                if all(run.done() for run in runs.values()):
                    break
            else:
                minio.start()
                started.set()
        print(f"\nseed {SEED}; the stores were gone for {gone_for:.0f} s")
        for name, run in runs.items():
            row, answers = run.result()
            print(f"{name}: requests to a node meanwhile: {answers}")
            for request, (came, seconds) in answers.items():
                # What the node has in memory (records, a block of producer ids) it still gives.
                known = request in ("fetch", "init_producer_id") and came == "OK"
                fine = came == "closed" or came in RETRIABLE.values() or known
                assert fine and seconds < ANSWERED, f"{name}: {request}: {came} after {seconds} s"
            judge(name, row)
    finally:
        localstack.process.resume()
        minio.process.kill()
        localstack.process.kill()


class Restless(threading.Thread):
    """Commits larger and larger offsets, waits a few seconds for each answer, and goes to another node when there is none.

    Whatever it was told is committed stays so: `back` lists what was found instead.
    """

    def __init__(self, cluster, group, topic, seed):
        super().__init__(daemon=True)
        self.addresses, self.group, self.topic = [node.kafka for node in cluster.nodes], group, topic
        self.dice, self.stopping = random.Random(seed), threading.Event()
        self.told, self.acknowledged, self.given_up, self.found, self.back = -1, 0, 0, 0, []

    def run(self):
        offset = 0
        while not self.stopping.is_set():
            offset += 1
            address = self.dice.choice(self.addresses)
            try:
                with Connection(address, self.dice.uniform(5.5, 8)) as wire:
                    if wire.offset_commit(self.group, -1, "", self.topic, 0, offset) == 0:
                        self.told, self.acknowledged = offset, self.acknowledged + 1
            except (Closed, OSError):
                self.given_up += 1
                continue
            if self.dice.random() < 0.3:
                self.look(self.dice.choice(self.addresses))
            self.stopping.wait(0.02)

    def look(self, address, seconds=6):
        try:
            with Connection(address, seconds) as wire:
                error, offset = wire.offset_fetch(self.group, self.topic, 0)
        except (Closed, OSError):
            return False
        if error == 0:
            self.found += 1
            if offset < self.told:
                self.back.append((self.told, offset, address))
        return error == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("store", ["minio"])
def test_a_commit_that_was_given_up_puts_no_offset_back(make_node, stores, names, store):
    """Each node in turn loses the store for seconds, in the middle of what it does; its clients go elsewhere."""
    print(f"\nseed {SEED}")
    dice, topic = random.Random(SEED), names("topic")
    cluster = Cluster(stores(store), make_node, SEED)
    try:
        with Connection(cluster.nodes[0].kafka) as wire:
            assert wire.create_topic(topic) == 0
        restless = [Restless(cluster, f"{topic}-{number}", topic, SEED + number) for number in range(18)]
        for client in restless:
            client.start()
        begun, acknowledged = time.monotonic(), lambda: sum(client.acknowledged for client in restless)
        # Who comes to a node that is cut off has its answer after six seconds, and most of the time two of three are: so until
        # enough was acknowledged, for a while.
        while (passed := time.monotonic() - begun) < min(SECONDS, 30) or (acknowledged() <= 100 and passed < 75):
            kind = dice.choice(["hang", "refuse", "fail", "reset after"])
            for proxy in dice.sample(cluster.proxies, dice.randint(1, 2)):
                proxy.break_all(kind, dice.uniform(3, 8))
            time.sleep(dice.uniform(2, 6))
        for client in restless:
            client.stopping.set()
        for client in restless:
            client.join(20)
        time.sleep(9)  # what is on its way arrives
        for client in restless:
            for node in cluster.nodes:
                assert client.look(node.kafka, 20)
        counts = {what: sum(getattr(client, what) for client in restless)
                  for what in ("acknowledged", "given_up", "found")}
        print(counts)
        assert not [back for client in restless for back in client.back], f"seed {SEED}"
        assert counts["acknowledged"] > 100 and counts["given_up"] > 3, counts
    finally:
        cluster.stop()


def counted(stream, topic, bootstrap, partitions, seconds=90):
    """Ends a stream and counts what became of its records: (acknowledged, lost, duplicated, out of order)."""
    stream.stopping.set()
    stream.join(30)
    left = stream.producer.flush(seconds)
    told = stream.told
    assert not left and not told.errors, (left, told.errors[:3], f"seed {SEED}")
    log = read_log(bootstrap, topic, partitions)
    lost = sum(log[part].get(offset) != value for part, offset, value in told.placed)
    values = [value for part in log.values() for value in part.values()]
    numbers = [[int(part[offset].split()[0]) for offset in sorted(part)] for part in log.values()]
    wrong = sum(later <= former for part in numbers for former, later in zip(part, part[1:]))
    return {"acknowledged": len(told.placed), "lost": lost, "duplicated": len(values) - len(set(values)),
            "out of order": wrong}


def sound(name, row):
    judged = {what: row[what] for what in ("lost", "duplicated", "out of order")}
    print("\n" + table(name, row))
    with open(os.environ.get("WEIR_FAULTS_REPORT", os.devnull), "a") as lines:
        lines.write(f"seed {SEED}\n{table(name, row)}\n")
    assert not any(judged.values()) and row["acknowledged"] > 500, (row, f"seed {SEED}")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 180)
@pytest.mark.parametrize("store", ["file"])
def test_the_file_store_survives_many_short_lives(make_node, place, drivers, names):
    """Killed at a random moment of its writes, again and again; what a crash left half-written is in the way."""
    print(f"\nseed {SEED}")
    dice, directory = random.Random(SEED), pathlib.Path(place.url.removeprefix("file://"))
    # Segments and not only commits: small batches in commits, large ones in segments.
    node, topic = make_node(place, arguments=["--inline-limit", "16KiB", "--segment-size", "64KiB"]), names("topic")
    drivers("librdkafka", node.start().kafka).create_topic(topic=topic, partitions=3)
    stream = Stream(node.kafka, topic, 3, each_second=3000, filler=b" " * 200)
    stream.start()
    begun, lives = time.monotonic(), 0
    staging = directory / ".staging"
    while time.monotonic() - begun < SECONDS * 0.7 or lives < 10:
        time.sleep(dice.uniform(0.05, 1.0))
        node.kill()
        lives += 1
        if lives == 1:
            # What a crash could have left: half of a commit, a whole one, and one from hours ago.
            whole = next((directory / "manifest/log").iterdir()).read_bytes()
            for name, content in {"half": whole[: len(whole) // 2], "whole": whole, "old": whole[:7]}.items():
                (staging / name).write_bytes(content)
            os.utime(staging / "old", (time.time() - 7200,) * 2)
        node.start()
        if lives == 1:
            assert not (staging / "old").exists(), "what has lain there for hours is removed"
            (staging / "old").write_bytes(b"young again")
    row = counted(stream, topic, node.kafka, 3)
    left_behind = len(list(staging.iterdir())) - 3
    print(f"{lives} lives, {left_behind} files were left in .staging")
    sound(f"file store, {lives} kills", row)
    assert not (damage := fsck(place.url, place.env)), damage
    assert (staging / "half").exists() and (staging / "whole").exists(), "a start leaves alone what may be in use"


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("store", ["file"])
def test_two_nodes_on_one_directory_are_safe(make_node, place, drivers, names):
    print(f"\nseed {SEED}")
    dice, topic = random.Random(SEED), names("topic")
    nodes = [make_node(place).start() for _ in range(2)]
    addresses = ",".join(node.kafka for node in nodes)
    drivers("librdkafka", addresses).create_topic(topic=topic, partitions=4)
    streams = [Stream(addresses, topic, 4, each_second=500, first=number * 10_000_000) for number in range(2)]
    for stream in streams:
        stream.start()
    begun, kills = time.monotonic(), 0
    while time.monotonic() - begun < SECONDS * 0.5:
        node = dice.choice(nodes)
        time.sleep(dice.uniform(0.5, 2))
        if dice.random() < 0.3:
            node.pause()
            time.sleep(dice.uniform(0.5, 3))
            node.resume()
            continue
        node.kill()
        kills += 1
        time.sleep(dice.uniform(0, 1))
        node.start()
    rows = []
    for stream in streams:
        stream.stopping.set()
        stream.join(30)
        assert stream.producer.flush(90) == 0 and not stream.told.errors, stream.told.errors[:3]
    logs = [read_log(node.kafka, topic, 4) for node in nodes]
    assert logs[0] == logs[1], "both give the same"
    for stream in streams:
        first = stream.first
        mine = {part: {offset: value for offset, value in found.items()
                       if first <= int(value.split()[0]) < first + 10_000_000} for part, found in logs[0].items()}
        numbers = [[int(part[offset].split()[0]) for offset in sorted(part)] for part in mine.values()]
        values = [value for part in mine.values() for value in part.values()]
        rows.append({
            "acknowledged": len(stream.told.placed),
            "lost": sum(mine[part].get(offset) != value for part, offset, value in stream.told.placed),
            "duplicated": len(values) - len(set(values)),
            "out of order": sum(later <= former for part in numbers for former, later in zip(part, part[1:])),
        })
    sound(f"two nodes on one directory, {kills} kills", {key: sum(row[key] for row in rows) for key in rows[0]})
    assert not (damage := fsck(place.url, place.env)), damage


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_full_disk_gives_clear_errors_and_space_makes_it_go_on(make_node, drivers, names, tmp_path):
    """A small file system of its own; a ballast file is the space that comes back."""
    from conftest import Place, need
    from local import FileStore

    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "weir-test", disk], capture_output=True, text=True,
    )
    need(mounted.returncode and f"the right to mount a small file system: {mounted.stderr.strip()}")
    node, topic = make_node(Place(FileStore(disk))), names("topic")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * (12 << 20))
        node.start()
        drivers("librdkafka", node.kafka).create_topic(topic=topic, partitions=1)
        stored, begun = {}, time.monotonic()
        value = random.Random(SEED).randbytes(200_000)
        with Connection(node.kafka, 30) as wire:
            number, code = 0, 0
            while code == 0 and time.monotonic() - begun < 60:
                code, offset = wire.produce(topic, 0, batch([b"%d " % number + value]))
                if code == 0:
                    stored[offset] = b"%d " % number + value
                number += 1
            assert code in RETRIABLE, f"a full disk is answered with {code} after {number} records"
            for _ in range(3):  # it goes on answering, and does not hang
                asked = time.monotonic()
                code, _ = wire.produce(topic, 0, batch([value]))
                assert code in RETRIABLE and time.monotonic() - asked < 10
            assert wire.fetch(topic, 0, 0)[0] == 0, "what is stored is still read"
        assert node.running
        assert "the disk is full" in node.output(), node.tail()
        ballast.unlink()
        back = time.monotonic()
        stream = Stream(node.kafka, topic, 1, each_second=500)
        stream.start()
        while not stream.told.placed:
            assert time.monotonic() - back < WRITES_BACK, "space does not make it go on"
            time.sleep(0.05)
        print(f"\nfull after {len(stored)} records of 200 kB; went on {time.monotonic() - back:.1f} s after space came")
        time.sleep(1)
        stream.stopping.set()
        stream.join(30)
        assert stream.producer.flush(60) == 0 and not stream.told.errors
        node.kill()
        node.start()
        log = read_log(node.kafka, topic, 1)[0]
        assert all(log[offset] == value for offset, value in stored.items())
        assert all(log[offset] == value for _, offset, value in stream.told.placed)
    finally:
        node.kill()
        subprocess.run(["umount", disk], check=True)
