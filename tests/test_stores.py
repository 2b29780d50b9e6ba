"""Every client on every store: what it writes through one node is read through another one later."""
import pytest

from harness.clients import COMMANDS
from test_clients import read, records


@pytest.fixture(scope="module")
def cluster_on(stores, all_drivers, shared_logs):
    """A node on each store, for all the clients; gives (node, place)."""
    from conftest import Place
    from local import Node

    running = {}

    def get(name):
        if name not in running:
            place = Place(stores(name))
            node = Node(f"on-{name}", place.url, shared_logs / f"on-{name}.log", place.env)
            running[name] = node, place
            all_drivers.lasting.add(node.kafka)
        node, place = running[name]
        if not node.running:
            node.start()
        return node, place

    yield get
    for node, _ in running.values():
        node.kill()
        all_drivers.lasting.discard(node.kafka)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_client_writes_and_another_node_gives_it_back(cluster_on, store, drivers, make_node, names, shown, name):
    node, place = cluster_on(store)
    shown.append(node)
    topic, group = names("topic"), names("group")
    client = drivers(name, node.kafka)
    client.create_topic(topic=topic, partitions=3)
    sent = records(300, 3)
    placed = client.produce(topic=topic, records=sent, idempotent="idempotent" in client.can)
    assert sorted(map(tuple, placed)) == [(part, offset) for part in range(3) for offset in range(100)]
    client.join(member="one", group=group, topics=[topic])
    found = client.take(member="one", count=300, ms=30_000)
    assert len(found) == 300
    client.commit(member="one", offsets=[[topic, part, 40] for part in range(3)])
    client.leave(member="one")

    # Another node, which has only the bucket.
    second = make_node(place, "second").start()
    other = drivers("librdkafka", second.kafka)
    found = read(other, topic, 180, group)
    want = {(part, offset): item["value"] for item, (part, offset) in zip(sent, placed) if offset >= 40}
    assert {(item["partition"], item["offset"]): item["value"] for item in found} == want
    # It says goodbye: a killed one would be named to clients until its lease ends.
    assert second.stop() == 0
