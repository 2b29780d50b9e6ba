"""Clients that mean harm, against a process: what they can take is bounded, and others are served meanwhile."""
import concurrent.futures
import http.client
import os
import random
import resource
import socket
import struct
import threading
import time

import pytest

from conftest import Place
from harness.wire import Closed, Connection, array, batch, data, i8, i16, i32, string
from local import wait_until

MEMORY = 512  # MiB
OPEN_FILES = 256


@pytest.fixture
def honest(names):
    """What an honest client does, timed: produce one record and read it back. Seconds it took."""

    class Honest:
        topic = names("honest")

        def __init__(self):
            self.offset = 0

        def once(self, node, seconds=20, size=0):
            begun = time.monotonic()
            with Connection(node.kafka, seconds) as wire:
                if not self.offset:
                    assert wire.create_topic(self.topic) in (0, 36)
                value = b"record %d" % self.offset + b" " * size
                assert wire.produce(self.topic, 0, batch([value])) == (0, self.offset)
                error, _, _, records = wire.fetch(self.topic, 0, self.offset, max_bytes=2 << 20)
                assert error == 0 and value in records
            self.offset += 1
            return time.monotonic() - begun

    return Honest()


@pytest.fixture
def files(stores):
    return Place(stores("file"))


def connect(address, seconds=10):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=seconds)


def is_closed(sock, seconds=0.0):
    """Whether the other side has closed it, or does within some seconds."""
    sock.settimeout(max(seconds, 0.01))
    try:
        while sock.recv(1 << 16):  # what it said before
            pass
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("store", ["file", "minio"])
def test_a_flood_of_connections_leaves_the_node_its_store(make_node, place, honest, logs):
    """With room for 256 open files: the node takes fewer connections, and still reaches its store."""
    node = make_node(place)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    node.command = ["prlimit", f"--nofile={OPEN_FILES}:{OPEN_FILES}", *node.command]
    node.start()
    assert "the limit of open files allows fewer connections" in node.output()
    honest.once(node)
    flood, refused = [], 0
    for address, count in ((node.kafka, 300), (node.http, 300)):
        for _ in range(count):
            try:
                flood.append(connect(address))
            except OSError:
                refused += 1
    time.sleep(0.5)
    left = [sock for sock in flood if not is_closed(sock)]
    print(f"\n{len(flood)} of 600 connections were made, {len(left)} stay")
    assert len(left) <= OPEN_FILES - 64, "more are closed at once"
    assert len(os.listdir(f"/proc/{node.pid}/fd")) < OPEN_FILES - 32
    # The store is still reached: one connection that is there already does all that needs it.
    mine = next(sock for sock in left if sock.getpeername()[1] == int(node.kafka.rpartition(":")[2]))
    wire = Connection.__new__(Connection)
    wire.socket, wire.correlation = mine, 0
    mine.settimeout(20)
    for _ in range(20):
        assert wire.produce(honest.topic, 0, batch([b"through the flood"]))[0] == 0
    for sock in flood:
        sock.close()
    wait_until(lambda: honest_again(honest, node), 10, "a place for an honest client after the flood")
    assert node.running and resource.getrlimit(resource.RLIMIT_NOFILE) == limit


def honest_again(honest, node):
    try:
        with Connection(node.kafka, 5) as wire:
            return wire.produce(honest.topic, 0, batch([b"again"]))[0] == 0
    except (Closed, OSError):
        return False


def test_too_few_open_files_are_refused_at_the_start_with_what_to_do(make_node, files):
    node = make_node(files)
    node.command = ["prlimit", "--nofile=128:128", *node.command]
    node.start(wait=False)
    wait_until(lambda: not node.running, 10, "the node to refuse")
    assert node.child.returncode != 0 and "ulimit -n" in node.output()


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(150)
def test_who_writes_slowly_is_cut_off_and_holds_nobody_up(make_node, files, honest):
    """A slowloris on both ports: a byte now and then, of frames and requests that never end."""
    node = make_node(files, arguments=["--request-memory", "128MiB"]).start()
    honest.once(node)
    slow = []
    for number in range(200):
        sock = connect(node.kafka)
        # A frame of 64 MiB is announced: 200 of them are far more than the memory of requests.
        sock.sendall(struct.pack(">i", 64 << 20) + i16(0) + i16(7) if number % 2 else b"\0\0")
        slow.append(sock)
    web = [connect(node.http) for _ in range(40)]
    for sock in web:
        sock.sendall(b"GET /metrics HT")
    begun, worst = time.monotonic(), 0.0
    while time.monotonic() - begun < 40:
        for sock in [*slow, *web]:
            try:
                sock.sendall(b"\0")
            except OSError:
                pass
        # What honest clients send is not as large, and goes on.
        worst = max(worst, honest.once(node, size=1_000_000))
        time.sleep(1)
    cut = [sum(map(is_closed, some)) for some in (slow[0::2], slow[1::2], web)]
    print(f"\ncut off after 40 s: of 100 half lengths {cut[0]}, of 100 large frames {cut[1]}, of 40 on HTTP's port "
          f"{cut[2]}; an honest client needed at most {worst:.1f} s; {node.peak_memory() >> 20} MiB")
    # One large frame after the other gets the memory for 5 s. The others hold none, and nobody up.
    assert cut[0] == 100 and cut[1] >= 5 and cut[2] == 40
    assert worst < 5
    assert node.peak_memory() >> 20 < MEMORY
    assert node.ready()


def fill(node, topic, mebibytes):
    with Connection(node.kafka, 30) as wire:
        assert wire.create_topic(topic, 4) == 0
        value = random.Random(7).randbytes(900_000)
        for number in range(mebibytes):
            assert wire.produce(topic, number % 4, batch([value]))[0] == 0


def fetch_everything(topic, partitions):
    """A fetch of everything, as much as the wire can say."""
    most = (1 << 31) - 1
    body = i32(-1) + i32(500) + i32(1) + i32(most) + i8(0) + i32(0) + i32(-1)
    places = [i32(part) + i32(-1) + struct.pack(">qq", 0, -1) + i32(most) for part in range(partitions)]
    return body + array([string(topic) + array(places)]) + array([]) + string("")


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("reads", ["nothing", "everything"])
def test_requests_for_huge_answers_are_bounded_in_memory(make_node, files, honest, names, reads):
    """Everything, with the largest sizes there are, on a hundred connections at once."""
    node, topic = make_node(files).start(), names("large")
    fill(node, topic, 200)
    honest.once(node)
    greedy = [Connection(node.kafka, 60) for _ in range(100)]
    for wire in greedy:
        wire.send("fetch", 11, fetch_everything(topic, 4))
    begun, times, answers = time.monotonic(), [], []
    if reads == "everything":
        def take(wire):
            length = struct.unpack(">i", wire.exactly(4))[0]
            left = length
            while left:
                left -= len(wire.socket.recv(min(left, 1 << 20)))
            return length

        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(take, greedy))
        times.append(honest.once(node, 60))
        assert len(answers) == 100 and min(answers) > 900_000, "each has one record at least"
    else:
        # Nobody takes an answer: they are cut off when others wait for the memory.
        while time.monotonic() - begun < 20:
            times.append(honest.once(node, 60))
            time.sleep(0.5)
    peak = node.peak_memory() >> 20
    print(f"\nread {reads}: {sum(answers) >> 20} MiB of answers, the honest client waited {max(times):.1f} s at most, "
          f"{peak} MiB after {time.monotonic() - begun:.1f} s")
    assert max(times) < 15
    assert peak < MEMORY
    assert node.running
    for wire in greedy:
        wire.socket.close()


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_million_topic_names_are_refused_and_harm_nobody(make_node, files, honest):
    """By CreateTopics and by asking for metadata, which creates; few requests of many, and many at once."""
    node = make_node(files, arguments=["--max-partitions", "30000"]).start()
    honest.once(node)
    asked, created, refused, closed = 0, 0, 0, 0

    def create(number, count):
        topics = [string(f"million-{number}-{each}") + i32(1) + i16(1) + array([]) + array([])
                  for each in range(count)]
        with Connection(node.kafka, 100) as wire:
            answer = wire.answer("create_topics", 2, array(topics) + i32(90_000) + i8(0))
            answer.i32()
            errors = {}
            for _ in range(answer.i32()):
                answer.string()
                error = answer.i16()
                errors[error] = errors.get(error, 0) + 1
                answer.string()
            return errors

    def metadata(number, count):
        names = [string(f"metadata-{number}-{each}") for each in range(count)]
        with Connection(node.kafka, 100) as wire:
            wire.send("metadata", 4, array(names) + i8(1))
            content = wire.receive()
            return len(content)

    def run(what, number, count):
        try:
            return count, what(number, count)
        except Closed:
            return count, "closed"

    begun, worst = time.monotonic(), 0.0
    jobs = [(create, number, 9_000) for number in range(50)] + [(create, 100, 50_000)]
    jobs += [(metadata, number, 10_000) for number in range(50)] + [(metadata, 100, 50_000)]
    random.Random(3).shuffle(jobs)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(run, *job) for job in jobs]
        while not all(future.done() for future in futures):
            worst = max(worst, honest.once(node, 60))
            time.sleep(0.2)
    for future in futures:
        count, came = future.result()
        asked += count
        if came == "closed":
            closed += 1
        elif isinstance(came, dict):
            created += came.pop(0, 0)
            refused += came.pop(44, 0)
            assert not came, f"other errors: {came}"
    with Connection(node.kafka, 60) as wire:
        wire.send("metadata", 1, struct.pack(">i", -1))
        content = wire.receive()
    total = content.count(b"million-") + content.count(b"metadata-")
    peak = node.peak_memory() >> 20
    print(f"\n{asked} names in {time.monotonic() - begun:.1f} s: {total} topics exist, {created} made by request, "
          f"{refused} refused, {closed} connections closed; honest client at most {worst:.1f} s; {peak} MiB")
    assert asked >= 950_000
    assert 25_000 <= total < 30_000
    assert worst < 10
    assert peak < MEMORY
    node.kill()
    node.start()
    assert node.start_up < 5
    honest.once(node)


def test_an_answer_is_not_made_larger_by_asking_again_and_again_for_the_same(make_node, files, names):
    """One topic of many partitions, named two hundred thousand times; one group, one resource."""
    node, topic = make_node(files).start(), names("wide")
    with Connection(node.kafka, 60) as wire:
        assert wire.create_topic(topic, 5000) == 0
        wire.send("metadata", 4, array([string(topic)] * 200_000) + i8(0))
        assert len(wire.receive()) < 1 << 20
        wire.send("describe_configs", 1, array([i8(2) + string(topic) + i32(-1)] * 200_000) + i8(1))
        assert len(wire.receive()) < 64 << 20
        wire.send("describe_groups", 1, array([string("group")] * 200_000))
        assert len(wire.receive()) < 1 << 20
    peak = node.peak_memory() >> 20
    print(f"\n{peak} MiB")
    assert peak < MEMORY


GARBAGE = {
    "nothing": b"", "zeros": b"\0" * 1000, "ones": b"\xff" * 1000, "text": b"hello there\r\n\r\n" * 50,
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(range(200)), "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "AMQP": b"AMQP\0\0\x09\x01", "HTTP": b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a long line": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", "many headers": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    "a long body": b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100_000,
    "chunks": b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
}


def test_garbage_on_every_port_is_not_answered_with_harm(make_node, files, honest):
    node, dice = make_node(files).start(), random.Random(11)
    honest.once(node)
    pieces = [*GARBAGE.values(), *(dice.randbytes(dice.randint(1, 5000)) for _ in range(300))]
    for address in (node.kafka, node.http):
        for piece in pieces:
            with connect(address) as sock:
                try:
                    sock.sendall(piece)
                    if dice.random() < 0.5:
                        sock.shutdown(socket.SHUT_WR)
                except OSError:
                    continue
    assert honest.once(node) < 5
    assert node.ready() and node.get("/healthz")
    assert node.peak_memory() >> 20 < 128
    assert "panicked" not in node.output()


def test_what_only_peers_may_ask_is_told_to_nobody_else(make_node, files, honest):
    node = make_node(files).start()
    honest.once(node)
    sealed = {"weir-seal": "0" * 64}
    for headers in ({}, sealed, {"weir-seal": ""}, {"weir-seal": "\u00e9" * 32}):
        for method, path, body in (
            ("GET", "/peer/log?after=0", None), ("GET", "/peer/log", None), ("GET", "/peer/log?after=-1", None),
            ("POST", "/peer/carry", b""), ("POST", "/peer/carry", os.urandom(1 << 20)),
        ):
            assert ask(node, method, path, body, headers) == (401, b"")
    assert ask(node, "POST", "/peer/carry", bytes(8 << 20), sealed)[0] == 413
    # Bodies that never come hold nobody up for long.
    stalled = [connect(node.http) for _ in range(20)]  # eight are read at once, each for at most 2 s
    for sock in stalled:
        sock.sendall(b"POST /peer/carry HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
    assert honest.once(node) < 5 and node.ready()
    begun = time.monotonic()
    assert ask(node, "POST", "/peer/carry", b"", sealed, seconds=20)[0] == 401
    assert time.monotonic() - begun < 15
    assert node.peak_memory() >> 20 < 128


def ask(node, method, path, body, headers, seconds=10):
    connection = http.client.HTTPConnection(node.http, timeout=seconds)
    try:
        connection.request(method, path, body, {k: v.encode("latin-1") for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.slow
def test_half_open_connections_end_by_themselves(make_node, files, honest):
    """Clients that are gone without a word, or say nothing: their places are free again after the idle time."""
    node = make_node(files, arguments=["--idle-timeout", "3s", "--max-connections", "100"]).start()
    honest.once(node)
    silent = [connect(node.kafka) for _ in range(99)]
    for sock in silent[:50]:
        # Half a conversation: a request, and then nothing; its answer is not even read.
        sock.sendall(struct.pack(">i", 14) + i16(18) + i16(0) + i32(1) + string("half"))
    time.sleep(0.3)
    extra = [connect(node.kafka) for _ in range(20)]
    time.sleep(0.3)
    assert sum(map(is_closed, extra)) >= 18, "the places are taken"
    wait_until(lambda: honest_again(honest, node), 10, "a place for an honest client after the idle time")
    open_ones = lambda: sum(node.metrics()["weir_kafka_connections"].values())  # noqa: E731
    wait_until(lambda: open_ones() <= 1, 10, "all places to be free", every=0.5)
    metrics = node.metrics()
    ended = metrics["weir_kafka_connections_closed_total"]
    assert sum(count for labels, count in ended.items() if "idle" in labels) >= 99, ended
    for sock in [*silent, *extra]:
        sock.close()
