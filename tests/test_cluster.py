"""Three nodes on one bucket: any of them serves anybody, and any of them may die."""
import subprocess
import sys
import time

import pytest

from harness.faults import FaultyStore
from harness.traffic import Stream, read_all
from local import MinIO, free_port, wait_until
from local.stores import ROOT
from test_clients import records

S3 = pytest.mark.parametrize("store", ["localstack", "minio"])
SESSION = 10  # seconds
PARTITIONS = 6


@pytest.fixture
def three(make_node, place):
    return [make_node(place).start() for _ in range(3)]


def addresses(nodes):
    return ",".join(node.kafka for node in nodes)


def ends(produced):
    return {partition: len(values) for partition, values in produced.items()}


@S3
def test_what_any_node_takes_every_node_gives(three, drivers, names):
    topic = names("topic")
    clients = [drivers("librdkafka", node.kafka) for node in three]
    clients[0].create_topic(topic=topic, partitions=3)
    for number, client in enumerate(clients):
        assert client.partitions(topic=topic) == 3, "a topic is known everywhere at once"
        client.produce(topic=topic, records=[
            {"value": f"{number}-{each}", "partition": each % 3} for each in range(30)
        ])
        for reader in clients:
            assert reader.times(topic=topic, partition=0, at="latest") == (number + 1) * 10, \
                "what is acknowledged is seen by every request that starts later, on any node"
    want = {part: [f"{number}-{each}".encode() for number in range(3) for each in range(part, 30, 3)]
            for part in range(3)}
    for node in three:
        assert read_all(node.kafka, topic, ends(want)) == want


def total(nodes, name):
    return sum(sum(node.metrics().get(name, {}).values()) for node in nodes)


@pytest.mark.parametrize("store", ["minio"])
def test_nodes_that_write_at_once_store_commits_for_each_other(make_node, place, names):
    """And without it, as when they do not reach each other, nothing is different but the waiting."""
    topic, each = names("topic"), {}
    for traffic in ("on", "off"):
        nodes = [make_node(place, arguments=["--peer-traffic", traffic, "--commit-interval", "0"]).start()
                 for _ in range(3)]
        streams = [Stream(node.kafka, f"{topic}-{traffic}-{number}", 1, each_second=400)
                   for number, node in enumerate(nodes)]
        for stream in streams:
            stream.start()
        time.sleep(5)
        for number, stream in enumerate(streams):
            produced = stream.finish()
            assert sum(map(len, produced.values())) > 200
            reader = nodes[(number + 1) % 3]
            assert read_all(reader.kafka, f"{topic}-{traffic}-{number}", ends(produced)) == produced
        each[traffic] = {what: total(nodes, f"weir_manifest_{what}_commits_total")
                         for what in ("forwarded", "received", "recalled", "heard")}
        for node in nodes:
            assert node.stop(20) == 0
    assert not any(each["off"].values()), each
    assert each["on"]["received"] > 50 and each["on"]["heard"] > 50, each
    assert each["on"]["recalled"] < each["on"]["forwarded"] / 5, each


@S3
def test_the_members_of_a_group_are_on_different_nodes_and_clients(three, drivers, names):
    topic, group = names("topic"), names("group")
    members = {
        "one": drivers("librdkafka", three[0].kafka), "two": drivers("java", three[1].kafka),
        "three": drivers("kafka-python", three[2].kafka),
    }
    members["one"].create_topic(topic=topic, partitions=PARTITIONS)
    members["one"].produce(topic=topic, records=records(60, PARTITIONS))
    for name, client in members.items():
        client.join(member=name, group=group, topics=[topic])

    def shared():
        owned = {name: client.assigned(member=name) for name, client in members.items()}
        every = sorted(part for places in owned.values() for _, part in places)
        return all(len(places) == 2 for places in owned.values()) and every == list(range(PARTITIONS))

    wait_until(shared, 40, "two partitions for each of three members", every=0.2)
    for client in members.values():
        found = client.describe_group(group=group)
        assert found["state"] == "stable" and len(found["members"]) == 3, "every node tells the same"
    for name, client in members.items():
        mine = {part for _, part in client.assigned(member=name)}
        client.commit(member=name, offsets=[[topic, part, 10] for part in mine])
    for client in members.values():
        assert client.group_offsets(group=group, topic=topic) == [[part, 10] for part in range(PARTITIONS)]
    for name, client in members.items():
        client.leave(member=name)


@S3
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_node_is_killed_and_nothing_acknowledged_is_lost_or_doubled(three, drivers, names, victim):
    topic, group = names("topic"), names("group")
    members = {"one": drivers("librdkafka", addresses(three)), "two": drivers("java", addresses(three))}
    members["one"].create_topic(topic=topic, partitions=PARTITIONS)
    for name, client in members.items():
        client.join(member=name, group=group, topics=[topic], session_ms=SESSION * 1000)
    stream = Stream(addresses(three), topic, PARTITIONS)
    stream.start()
    seen = {}  # (partition, offset): value

    def gather(seconds, until=lambda: False):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not until():
            for name, client in members.items():
                for item in client.take(member=name, count=1, ms=100):
                    place = item["partition"], item["offset"]
                    assert seen.setdefault(place, item["value"]) == item["value"], "an offset never changes"

    gather(30, lambda: len({part for part, _ in seen}) == PARTITIONS)
    gather(3)
    three[victim].kill()
    killed = time.time_ns()

    def went_on():
        later = {part for (part, _), value in seen.items() if int(value.split()[1]) > killed}
        return len(later) == PARTITIONS

    begun = time.monotonic()
    gather(SESSION * 3, went_on)
    took = time.monotonic() - begun
    assert went_on(), f"the group does not go on: {len(seen)} records seen"
    assert took < SESSION, f"the group needed {took:.1f} s to go on, its session timeout is {SESSION} s"
    print(f"the group went on {took:.1f} s after the kill")

    gather(3)
    produced = stream.finish()
    values = [value for part in produced.values() for value in part]
    assert sorted(values) == sorted(stream.sent), "each record is in the log once"
    for found in produced.values():
        numbers = [int(value.split()[0]) for value in found]
        assert numbers == sorted(numbers), "in the order they were sent"
    gather(30, lambda: len(seen) == len(values))
    assert seen == {
        (part, offset): value.decode() for part, found in produced.items() for offset, value in enumerate(found)
    }, "the group read exactly that"
    for name, client in members.items():
        client.commit(member=name, offsets=[
            [topic, part, len(produced[part])] for _, part in client.assigned(member=name)
        ])
    # Only then: whoever leaves makes the others rebalance, and they could not commit meanwhile.
    for name, client in members.items():
        client.leave(member=name)

    # And then everything stops, and comes back from the bucket alone.
    for number, node in enumerate(three):
        if number != victim:
            assert node.stop() == 0
    for node in three:
        node.start()
    for node in three:
        assert read_all(node.kafka, topic, ends(produced)) == produced
    assert drivers("librdkafka", three[0].kafka).group_offsets(group=group, topic=topic) == [
        [part, len(found)] for part, found in sorted(produced.items())
    ]


@pytest.mark.parametrize("store", ["file", "minio"])
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_node_killed_again_and_again_keeps_what_it_acknowledged(make_node, place, drivers, names):
    node, topic = make_node(place).start(), names("topic")
    drivers("librdkafka", node.kafka).create_topic(topic=topic, partitions=2)
    stream = Stream(node.kafka, topic, 2, each_second=1000)
    stream.start()
    for pause in (1.0, 0.7, 1.3, 0.4, 0.9):
        time.sleep(pause)
        node.kill()
        node.start()
    time.sleep(1)
    produced = stream.finish()
    assert sorted(value for part in produced.values() for value in part) == sorted(stream.sent)
    assert read_all(node.kafka, topic, ends(produced)) == produced


@pytest.mark.parametrize("store", ["minio"])
@pytest.mark.timeout(180)
def test_a_paused_node_comes_back_without_harm(three, drivers, names):
    topic = names("topic")
    drivers("librdkafka", three[0].kafka).create_topic(topic=topic, partitions=2)
    stream = Stream(addresses(three), topic, 2)
    stream.start()
    time.sleep(2)
    three[1].pause()
    time.sleep(6)
    three[1].resume()
    time.sleep(2)
    produced = stream.finish()
    assert sorted(value for part in produced.values() for value in part) == sorted(stream.sent)
    for node in three:
        assert read_all(node.kafka, topic, ends(produced)) == produced


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_store_that_is_gone_for_a_while_costs_time_only(make_node, drivers, names, tmp_path, logs, shown):
    """MinIO hangs, then is killed and started again on its folder, while a producer goes on."""
    from conftest import Place, need

    need(MinIO.missing())
    minio = MinIO(tmp_path / "minio", logs / "minio.log").start()
    shown.append(minio.process)
    try:
        node, topic = make_node(Place(minio)).start(), names("topic")
        drivers("librdkafka", node.kafka).create_topic(topic=topic, partitions=2)
        stream = Stream(node.kafka, topic, 2)
        stream.start()
        time.sleep(2)
        minio.process.pause()
        time.sleep(5)
        minio.process.resume()
        time.sleep(3)
        minio.process.kill()
        time.sleep(5)
        minio.start()
        wait_until(node.ready, 30, "the node to be ready again")
        time.sleep(3)
        produced = stream.finish()
        assert sorted(value for part in produced.values() for value in part) == sorted(stream.sent)
        assert read_all(node.kafka, topic, ends(produced)) == produced
    finally:
        minio.process.kill()


@S3
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_store_that_loses_requests_and_answers_loses_no_record(make_node, stores, drivers, names, store):
    """A fifth of all requests to the store is refused, reset, or applied and then refused or reset."""
    from conftest import Place

    faulty = FaultyStore(stores(store), seed=7)
    try:
        place, topic = Place(faulty), names("topic")
        nodes = [make_node(place).start() for _ in range(2)]
        drivers("librdkafka", nodes[0].kafka).create_topic(topic=topic, partitions=4)
        faulty.rate = 0.2
        stream = Stream(addresses(nodes), topic, 4)
        stream.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (min(faulty.done.values()) < 5 or len(stream.sent) < 4000):
            time.sleep(0.5)
        faulty.rate = 0
        produced = stream.finish()
        assert min(faulty.done.values()) >= 5, f"too few faults to show anything: {faulty.done}"
        assert sorted(value for part in produced.values() for value in part) == sorted(stream.sent)
        third = make_node(place).start()
        for node in [*nodes, third]:
            assert node.running, "no fault of the store ends a node"
            assert read_all(node.kafka, topic, ends(produced)) == produced
    finally:
        faulty.stop()


@S3
@pytest.mark.timeout(180)
@pytest.mark.parametrize("advertise", ["own", "balancer"])
def test_clients_reach_three_nodes_through_haproxy(make_node, make_balancer, place, drivers, names, advertise):
    port = free_port()
    address = f"127.0.0.1:{port}" if advertise == "balancer" else None
    nodes = [make_node(place, advertise=address).start() for _ in range(3)]
    balancer = make_balancer(nodes, port)
    topic, group = names("topic"), names("group")
    clients = {name: drivers(name, balancer.address) for name in ("librdkafka", "java", "kafkajs")}
    first = clients["librdkafka"]
    told = first.cluster()["nodes"]
    if advertise == "balancer":
        assert set(told) == {balancer.address}
    else:
        assert set(told) == {node.kafka for node in nodes}
    first.create_topic(topic=topic, partitions=4)
    for client in clients.values():
        client.produce(topic=topic, records=records(40, 4))
    members = {"one": clients["librdkafka"], "two": clients["java"]}
    for name, client in members.items():
        client.join(member=name, group=group, topics=[topic])

    def shared():
        return all(len(client.assigned(member=name)) == 2 for name, client in members.items())

    wait_until(shared, 40, "two partitions for each of two members", every=0.2)
    seen = set()

    def all_seen(count):
        for name, client in members.items():
            seen.update((item["partition"], item["offset"]) for item in client.take(member=name, count=1, ms=200))
        return len(seen) == count

    wait_until(lambda: all_seen(120), 30, "all records")
    nodes[0].kill()
    clients["kafkajs"].produce(topic=topic, records=records(40, 4))
    wait_until(lambda: all_seen(160), 30, "the records after a node was killed")
    for name, client in members.items():
        client.leave(member=name)


@pytest.mark.parametrize("store", ["file", "minio"])
def test_a_clean_stop_drains_and_the_next_start_goes_on(node, drivers, names):
    topic, group = names("topic"), names("group")
    client = drivers("librdkafka", node.kafka)
    client.create_topic(topic=topic, partitions=1)
    client.join(member="one", group=group, topics=[topic])
    stream = Stream(node.kafka, topic, 1)
    stream.start()
    wait_until(lambda: client.take(member="one", count=100, ms=1000), 30, "the consumer to read")
    begun = time.monotonic()
    assert node.stop(20) == 0, "a clean end has exit code 0"
    assert time.monotonic() - begun < 10, "a waiting consumer does not hold it up"
    node.start()
    time.sleep(1)
    produced = stream.finish()
    assert read_all(node.kafka, topic, ends(produced)) == produced
    client.leave(member="one")


def test_health_and_metrics_tell_what_happens(make_node, stores, drivers, names):
    from conftest import Place

    node = make_node(Place(stores("file"))).start()
    assert node.get("/healthz") is not None and node.ready()
    client, topic = drivers("librdkafka", node.kafka), names("topic")
    client.create_topic(topic=topic, partitions=1)
    client.produce(topic=topic, records=records(100))
    metrics = node.metrics()
    foreign = [name for name in metrics if not name.startswith(("weir_", "process_"))]
    assert not foreign, foreign
    for wanted in ("request", "store", "cache", "commit", "lag", "bytes", "records"):
        assert any(wanted in name for name in metrics), f"nothing about {wanted} in {sorted(metrics)}"
    produced = sum(value for name, values in metrics.items() for labels, value in values.items()
                   if "records" in name and name.endswith("_total"))
    assert produced >= 100, "the records that came in are counted"


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("store", ["minio", "localstack"])
def test_the_cluster_script_starts_kills_restarts_and_stops(drivers, names, tmp_path, store):
    from conftest import STORES, need

    need(STORES[store].missing())
    port = free_port()

    def script(*arguments):
        done = subprocess.run(
            [sys.executable, ROOT / "infra/cluster", "--dir", tmp_path, *arguments],
            capture_output=True, text=True, timeout=90,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        assert script("start", "--store", store, "--port", str(port)).count(" ready ") == 3
        topic, client = names("topic"), drivers("librdkafka", f"127.0.0.1:{port}")
        client.create_topic(topic=topic, partitions=1)
        client.produce(topic=topic, records=records(10))
        script("kill", "2")
        assert script("status").count(" ready ") == 2
        client.produce(topic=topic, records=records(10))
        script("restart", "2")
        assert script("status").count(" ready ") == 3
        assert client.times(topic=topic, partition=0, at="latest") == 20
    finally:
        script("stop")
    assert "nothing runs" in script("status")
