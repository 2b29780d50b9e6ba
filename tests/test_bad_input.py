"""Every kind of bad input gets its error, or its connection closed, and the broker goes on."""
import random
import struct
import time

import pytest

from harness.wire import APIS, Closed, Connection, array, batch, data, i8, i16, i32, i64, string
from local import wait_until

pytestmark = pytest.mark.kafka

HUGE = 0x7FFFFFFF


@pytest.fixture
def wire(bootstrap):
    with Connection(bootstrap) as connection:
        yield connection


@pytest.fixture
def topic(wire, names):
    name = names("topic")
    assert wire.create_topic(name, 2) == 0
    for partition in range(2):  # Apache Kafka takes a moment to elect their leaders
        wait_until(lambda: wire.list_offsets(name, partition, -1)[0] == 0, 10, "a leader")
    return name


@pytest.fixture(autouse=True)
def the_broker_goes_on(bootstrap):
    """After each test the broker still answers a new connection."""
    yield
    with Connection(bootstrap) as connection:
        error, versions = connection.api_versions()
        assert error == 0 and len(versions) > 20


# Frames that are none: the connection is closed.

FRAMES = {
    "a negative length": i32(-1),
    "a length of two gigabytes": i32(HUGE),
    "a length beyond the largest request": i32(101 * 1024 * 1024) + b"\0" * 64,
    "no room for a header": i32(2) + b"\0\0",
    "an empty frame": i32(0),
    "garbage": i32(40) + bytes(random.Random(1).randbytes(40)),
    "text of another protocol": b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n" + b" " * 64,
    "a client id longer than the frame": i32(10) + i16(3) + i16(1) + i32(1) + i16(32000),
    "an api that does not exist": i32(10) + i16(999) + i16(0) + i32(1) + i16(-1),
    "a negative api": i32(10) + i16(-5) + i16(0) + i32(1) + i16(-1),
    "a version that does not exist": i32(10) + i16(3) + i16(99) + i32(1) + i16(-1),
    "a negative version": i32(10) + i16(3) + i16(-1) + i32(1) + i16(-1),
}


@pytest.mark.parametrize("name", FRAMES)
def test_what_is_no_frame_closes_the_connection(wire, name):
    try:
        wire.send_raw(FRAMES[name])
    except Closed:
        return
    assert wire.closed()


def test_a_frame_that_ends_early_leaves_nothing_behind(bootstrap, wire, topic):
    for cut in (1, 3, 4, 6, 12, 30):
        with Connection(bootstrap) as other:
            frame = i16(0) + i16(7) + i32(1) + string("cut") + string(None) + i16(-1) + i32(5000)
            frame += i32(1) + string(topic) + i32(1) + i32(0) + data(batch([b"never"]))
            other.send_raw((i32(len(frame)) + frame)[:cut])
    assert wire.list_offsets(topic, 0, -1) == (0, 0)


def test_an_unknown_version_of_api_versions_is_answered_with_what_is_known(wire):
    error, versions = wire.api_versions(version=99)
    assert error == 35
    assert 18 in versions, "the range of ApiVersions itself is told, so that the client can ask again"
    error, versions = wire.api_versions()
    assert error == 0 and len(versions) > 20, "the connection goes on"


BODIES = {
    "nothing": b"",
    "the largest lengths": i32(HUGE) * 40,
    "the largest short lengths": i16(0x7FFF) * 80,
    "negative lengths": i32(-2) * 40,
    "endless varints": b"\xff" * 160,
    "zeros": b"\0" * 160,
    "the largest compact lengths": b"\xff\xff\xff\xff\x0f" * 40,
    "an array of two billion": string("a") + i32(HUGE) + b"\0" * 120,
    "an array of two billion after a few fields": i32(-1) + i32(1) + i32(1) + i32(HUGE) + i8(0) + i32(HUGE) * 30,
}


@pytest.mark.parametrize("body", BODIES)
def test_hostile_lengths_in_any_request_are_answered_or_closed(bootstrap, body, shared_node_memory):
    with Connection(bootstrap) as first:
        versions = first.api_versions()[1]
    known = [api for api in APIS.values() if api in versions]
    assert len(known) > 20
    for api in known:
        for version in {max(versions[api][0], 0), versions[api][1]}:
            for flexible in (False, True):
                with Connection(bootstrap) as connection:
                    try:
                        connection.send(api, version, BODIES[body], flexible)
                        # Zeros are a Produce with acks=0, which has no answer; this one has.
                        connection.send("api_versions", 0, b"")
                        answered = connection.any_answer()
                        assert answered in (1, 2), f"api {api} version {version} answered {answered}"
                    except Closed:
                        pass
                    except TimeoutError:
                        pytest.fail(f"api {api} version {version} ({flexible=}): neither answered nor closed")


@pytest.fixture
def shared_node_memory(request, bootstrap):
    """Requests that claim gigabytes must not cost any: the node's memory stays where it was."""
    broker = getattr(request.session, "shared_broker", None)
    if broker is None or broker.name == "kafka":
        yield
        return
    before = broker.peak_memory()
    yield
    grown = broker.peak_memory() - before
    assert grown < 64 << 20, f"{grown >> 20} MiB more than before"


def test_a_mutated_request_never_stops_the_broker(bootstrap, topic):
    """Good requests with a few bytes changed, the same ones every time."""
    dice = random.Random(20240521)
    good = string(None) + i16(-1) + i32(1000) + i32(1) + string(topic) + i32(1) + i32(0)
    requests = {
        (0, 7): good + data(batch([b"mutated"] * 20)),
        (1, 11): i32(-1) + i32(10) + i32(1) + i32(1 << 20) + i8(0) + i32(0) + i32(-1) + i32(1) + string(topic)
        + i32(1) + i32(0) + i32(-1) + i64(0) + i64(-1) + i32(1 << 20) + i32(0) + string(""),
        (3, 8): i32(1) + string(topic) + i8(1) + i8(0) + i8(0),
        (11, 5): string("mutated") + i32(10_000) + i32(100) + string("") + string(None) + string("consumer")
        + i32(1) + string("range") + data(b"\0" * 10),
        (19, 2): i32(1) + string(topic) + i32(1) + i16(1) + i32(0) + i32(0) + i32(1000) + i8(0),
    }
    for (api, version), body in requests.items():
        for _ in range(60):
            changed = bytearray(body)
            for _ in range(dice.randint(1, 4)):
                changed[dice.randrange(len(changed))] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
            with Connection(bootstrap, seconds=0.5) as connection:
                try:
                    connection.send(api, version, bytes(changed))
                    connection.receive()
                except (Closed, TimeoutError):
                    pass  # a changed wait or group can make it wait; what matters is checked afterwards


# Requests that are well formed and wrong: an error code. Where several are right, Apache Kafka gives
# one of them (-1, "unknown", for what its decompressor throws at it).

def produced(records, **options):
    return lambda wire, topic, absent: wire.produce(topic, 0, records, **options)[0]


ROWS = {
    "a batch with a wrong checksum": (2, produced(batch([b"x"], crc=1))),
    "a batch that is cut off": ({2, 87}, produced(batch([b"x" * 100])[:-20])),
    "a batch that says it is longer than it is": ({2, 87}, produced(batch([b"x"], length=5000))),
    "a batch that says it is shorter than it is": ({2, 87}, produced(batch([b"x" * 50], length=70))),
    "a batch whose length is negative": (2, produced(batch([b"x"], length=-1))),
    "a batch of an unknown magic": ({2, 42, 43, 87}, produced(batch([b"x"], magic=9))),
    "a batch of the oldest magic in a new request": ({2, 43, 87}, produced(batch([b"x"], magic=0))),
    "a batch of fewer records than it says": ({2, 87}, produced(batch([b"x"], count=3))),
    "a batch of more records than it says": ({2, 87}, produced(batch([b"x", b"y", b"z"], count=1))),
    "a batch of minus one records": ({2, 87}, produced(batch([b"x"], count=-1))),
    "a batch of two billion records": ({2, 87}, produced(batch([b"x"], count=HUGE))),
    "a batch compressed in an unknown way": ({-1, 2, 76, 87}, produced(batch([b"x"], attributes=7))),
    "a batch that is not gzip though it says so": ({-1, 2, 87}, produced(batch([b"not gzip"], attributes=1))),
    "a batch that is not zstd though it says so": ({-1, 2, 87}, produced(batch([b"not zstd"], attributes=4))),
    "two batches for one partition": ({42, 87}, produced(batch([b"x"]) + batch([b"y"]))),
    "a message that is too large": (10, produced(batch([b"x" * 1_100_000]))),
    "acks of two": (21, produced(batch([b"x"]), acks=2)),
    "acks of minus two": (21, produced(batch([b"x"]), acks=-2)),
    "produce to a partition that does not exist": (
        3, lambda wire, topic, absent:
        wire.produce(topic, 99, batch([b"x"]))[0],
    ),
    "produce to a negative partition": (
        3, lambda wire, topic, absent:
        wire.produce(topic, -1, batch([b"x"]))[0],
    ),
    "produce to a topic that does not exist": (
        3, lambda wire, topic, absent:
        wire.produce(absent, 0, batch([b"x"]))[0],
    ),
    "fetch from a topic that does not exist": (3, lambda wire, topic, absent: wire.fetch(absent, 0, 0)[0]),
    "fetch from a partition that does not exist": (
        3, lambda wire, topic, absent:
        wire.fetch(topic, 99, 0)[0],
    ),
    "fetch after the end": (1, lambda wire, topic, absent: wire.fetch(topic, 0, 1000)[0]),
    "fetch before the start": (1, lambda wire, topic, absent: wire.fetch(topic, 0, -5)[0]),
    "a fetch session that does not exist": (
        70, lambda wire, topic, absent:
        wire.fetch(topic, 0, 0, session=(12345, 3))[0],
    ),
    "offsets of a topic that does not exist": (
        3, lambda wire, topic, absent:
        wire.list_offsets(absent, 0, -1)[0],
    ),
    "the epoch of a partition that does not exist": (
        3, lambda wire, topic, absent:
        wire.leader_epoch(topic, 99, 0),
    ),
    "a topic name with a space": (17, lambda wire, topic, absent: wire.create_topic("no spaces")),
    "a topic name with a slash": (17, lambda wire, topic, absent: wire.create_topic("no/slash")),
    "an empty topic name": (17, lambda wire, topic, absent: wire.create_topic("")),
    "the topic name .": (17, lambda wire, topic, absent: wire.create_topic(".")),
    "the topic name ..": (17, lambda wire, topic, absent: wire.create_topic("..")),
    "a topic name of 250 letters": (17, lambda wire, topic, absent: wire.create_topic("x" * 250)),
    "a topic that exists": (36, lambda wire, topic, absent: wire.create_topic(topic)),
    "a topic of no partitions": (37, lambda wire, topic, absent: wire.create_topic(absent, 0)),
    "a topic of minus five partitions": (37, lambda wire, topic, absent: wire.create_topic(absent, -5)),
    "a topic of no replicas": (38, lambda wire, topic, absent: wire.create_topic(absent, 1, 0)),
    "a topic of minus five replicas": (38, lambda wire, topic, absent: wire.create_topic(absent, 1, -5)),
    "a topic with a setting that does not exist": (
        40, lambda wire, topic, absent:
        wire.create_topic(absent, configs={"no.such": "1"}),
    ),
    "a topic with a setting that is no number": (
        40, lambda wire, topic, absent:
        wire.create_topic(absent, configs={"retention.ms": "soon"}),
    ),
    "a topic with a setting out of its range": (
        40, lambda wire, topic, absent:
        wire.create_topic(absent, configs={"max.message.bytes": "-1"}),
    ),
    "a topic with an unknown cleanup policy": (
        40, lambda wire, topic, absent:
        wire.create_topic(absent, configs={"cleanup.policy": "shred"}),
    ),
    "the same topic twice in one request": (
        42, lambda wire, topic, absent:
        wire.create_topics((absent, 1, 1, {}), (absent, 1, 1, {}))[absent],
    ),
    "deleting a topic that does not exist": (3, lambda wire, topic, absent: wire.delete_topic(absent)),
    "fewer partitions than before": (37, lambda wire, topic, absent: wire.create_partitions(topic, 1)),
    "as many partitions as before": (37, lambda wire, topic, absent: wire.create_partitions(topic, 2)),
    "partitions of a topic that does not exist": (
        3, lambda wire, topic, absent:
        wire.create_partitions(absent, 4),
    ),
    "deleting records after the end": (1, lambda wire, topic, absent: wire.delete_records(topic, 0, 1000)),
    "deleting records of a topic that does not exist": (
        3, lambda wire, topic, absent:
        wire.delete_records(absent, 0, 0),
    ),
    "settings of a topic that does not exist": (3, lambda wire, topic, absent: wire.describe_configs(absent)),
    "a kind of settings that does not exist": (
        42, lambda wire, topic, absent:
        wire.describe_configs(topic, kind=99),
    ),
    "changing a setting that does not exist": (
        40, lambda wire, topic, absent:
        wire.alter_configs(topic, {"no.such": "1"}),
    ),
    "changing a setting to nonsense": (
        40, lambda wire, topic, absent:
        wire.alter_configs(topic, {"retention.ms": "soon"}),
    ),
    "changing settings of a topic that does not exist": (
        3, lambda wire, topic, absent:
        wire.alter_configs(absent, {"retention.ms": "1000"}),
    ),
    "replacing a setting with nonsense": (
        40, lambda wire, topic, absent:
        wire.alter_configs(topic, {"retention.ms": "soon"}, api="alter_configs"),
    ),
    "joining a group without a name": (24, lambda wire, topic, absent: wire.join_group("")[0]),
    "a session timeout of a millisecond": (
        26, lambda wire, topic, absent:
        wire.join_group(absent, session_ms=1)[0],
    ),
    "a session timeout of a month": (
        26, lambda wire, topic, absent:
        wire.join_group(absent, session_ms=HUGE)[0],
    ),
    "joining with no protocol": (23, lambda wire, topic, absent: wire.join_group(absent, protocols=())[0]),
    "joining with a member id nobody gave": (
        25, lambda wire, topic, absent:
        wire.join_group(absent, member="invented")[0],
    ),
    "a heartbeat of a group that does not exist": (
        25, lambda wire, topic, absent:
        wire.heartbeat(absent, 1, "nobody"),
    ),
    "syncing with a group that does not exist": (
        25, lambda wire, topic, absent:
        wire.sync_group(absent, 1, "nobody"),
    ),
    "leaving a group that does not exist": (
        25, lambda wire, topic, absent:
        wire.leave_group(absent, "nobody"),
    ),
    "committing to a group as a member it does not have": (
        22, lambda wire, topic, absent:
        wire.offset_commit(absent, 5, "nobody", topic, 0, 1),
    ),
    "committing to a partition that does not exist": (
        3, lambda wire, topic, absent:
        wire.offset_commit(absent, -1, "", topic, 99, 1),
    ),
    "committing with a novel for metadata": (
        12, lambda wire, topic, absent:
        wire.offset_commit(absent, -1, "", topic, 0, 1, "x" * 5000),
    ),
    "deleting a group that does not exist": (69, lambda wire, topic, absent: wire.delete_group(absent)),
    "deleting offsets of a group that does not exist": (
        69, lambda wire, topic, absent:
        wire.offset_delete(absent, topic, 0),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input_gets_its_error(wire, topic, names, name):
    expected, work = ROWS[name]
    code = work(wire, topic, names("absent"))
    assert code in (expected if isinstance(expected, set) else {expected})
    assert wire.produce(topic, 1, batch([b"good"])) == (0, 0), "the same connection goes on, and works"
    assert wire.list_offsets(topic, 0, -1) == (0, 0), "nothing of the bad input was stored"


def test_wrong_generations_members_and_protocols_are_fenced(bootstrap, wire, topic, names):
    group = names("group")
    generation, member = wire.in_group(group)
    assert wire.heartbeat(group, generation, member) == 0
    assert wire.heartbeat(group, generation + 7, member) == 22
    assert wire.heartbeat(group, generation, "nobody") == 25
    assert wire.sync_group(group, generation + 7, member) == 22
    assert wire.offset_commit(group, generation - 1, member, topic, 0, 1) == 22
    assert wire.offset_commit(group, generation, "nobody", topic, 0, 1) == 25
    assert wire.offset_commit(group, -1, "", topic, 0, 1) == 25, "not from outside while it has members"
    assert wire.leave_group(group, "nobody") == 25
    assert wire.delete_group(group) == 68
    with Connection(bootstrap) as other:
        assert other.join_group(group, protocols=("unheard-of",), version=2)[0] == 23
        assert other.join_group(group, kind="connect", version=2)[0] == 23
    assert wire.offset_commit(group, generation, member, topic, 0, 1) == 0
    assert wire.leave_group(group, member) == 0


def test_a_static_member_that_was_replaced_is_fenced(bootstrap, wire, names):
    group = names("group")
    generation, member = wire.in_group(group, instance="the-one")
    with Connection(bootstrap) as other:
        error, _, replacement = other.join_group(group, instance="the-one")
        assert error == 0 and replacement != member
        assert wire.heartbeat(group, generation, member, instance="the-one") == 82


def test_sequences_of_an_idempotent_producer_are_checked(wire, topic):
    error, producer, epoch = wire.init_producer_id()
    assert error == 0

    def send(sequence, values, epoch=epoch):
        return wire.produce(topic, 0, batch(values, producer, epoch, sequence))

    assert send(0, [b"a", b"b"]) == (0, 0)
    assert send(2, [b"c"]) == (0, 2)
    assert send(0, [b"a", b"b"]) == (0, 0), "a retry gets its original offset"
    assert send(9, [b"gap"])[0] == 45
    assert send(3, [b"d"], epoch=epoch + 1)[0] == 45, "a new epoch starts at sequence 0"
    assert send(0, [b"d"], epoch=epoch + 1) == (0, 3)
    assert send(3, [b"stale"])[0] == 47
    assert wire.list_offsets(topic, 0, -1) == (0, 4), "and nothing was stored twice"


def test_a_fetch_from_the_middle_of_a_batch_gives_that_batch(wire, topic):
    assert wire.produce(topic, 0, batch([b"%d" % number for number in range(10)])) == (0, 0)
    error, high, start, found = wire.fetch(topic, 0, 7)
    assert (error, high, start) == (0, 10, 0)
    assert struct.unpack(">q", found[:8])[0] == 0, "the batch begins at offset 0"


@pytest.mark.parametrize("min_bytes, places", [(0, 1), (1, 0), (1_000_000, 0)])
def test_a_fetch_that_need_not_wait_is_answered_at_once(wire, topic, min_bytes, places):
    place = i32(0) + i32(-1) + i64(0) + i64(-1) + i32(1 << 20)
    body = i32(-1) + i32(HUGE) + i32(min_bytes) + i32(1 << 20) + i8(0) + i32(0) + i32(-1)
    body += array([string(topic) + array([place])] * places) + array([]) + string("")
    begun = time.monotonic()
    answer = wire.answer("fetch", 11, body)
    assert (answer.i32(), answer.i16()) == (0, 0)
    assert time.monotonic() - begun < 2, "though it would wait for 24 days"


def test_a_batch_larger_than_what_was_asked_for_is_given_all_the_same(wire, topic):
    assert wire.produce(topic, 0, batch([b"x" * 20_000]))[0] == 0
    error, _, _, found = wire.fetch(topic, 0, 0, max_bytes=100)
    assert error == 0 and len(found) > 20_000, "or a consumer could never get past it"


def test_pipelined_requests_are_answered_in_their_order(wire, topic):
    start = wire.correlation + 1
    for number in range(50):
        if number % 3:
            wire.send("api_versions", 0, b"")
        else:
            place = i32(0) + data(batch([b"%d" % number]))
            body = string(None) + i16(-1) + i32(5000) + i32(1) + string(topic) + i32(1) + place
            wire.send("produce", 7, body)
    for number in range(50):
        wire.correlation = start + number
        wire.receive()
    assert wire.list_offsets(topic, 0, -1) == (0, 17)
