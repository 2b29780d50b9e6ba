"""What an application does with Kafka, through every client, on one broker."""
import re
import time

import pytest

from harness.clients import ClientError
from local import wait_until

pytestmark = pytest.mark.kafka

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def records(count, partitions=1, **more):
    return [
        {"key": f"key-{number}", "value": f"value-{number}", "partition": number % partitions, **more}
        for number in range(count)
    ]


def need_ability(client, *abilities):
    lacking = [ability for ability in abilities if ability not in client.can]
    if lacking:
        pytest.skip(f"{client.name} has no {', '.join(lacking)}")


def read(client, topic, count, group, **options):
    """Reads `count` records with one member that then leaves."""
    client.join(member="reader", group=group, topics=[topic], **options)
    try:
        return take(client, "reader", count)
    finally:
        client.leave(member="reader")


def take(client, member, count, seconds=30):
    found, deadline = [], time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        found += client.take(member=member, count=count - len(found), ms=1000)
    assert len(found) == count, f"{len(found)} of {count} records within {seconds} s"
    return found


def await_assignments(client, counts, seconds=30):
    """Waits until the members own that many partitions each, and every partition has one owner."""

    owned = {}

    def settled():
        owned.update({member: client.assigned(member=member) for member in counts})
        every = [tuple(place) for places in owned.values() for place in places]
        right = {member: len(places) for member, places in owned.items()} == counts
        return right and len(set(every)) == len(every)

    try:
        wait_until(settled, seconds, f"the members to own {counts}", every=0.2)
    except TimeoutError as error:
        raise TimeoutError(f"{error}; they own {owned}") from None
    return owned


@pytest.fixture
def topic(client, names):
    """A topic of four partitions."""
    name = names("topic")
    client.create_topic(topic=name, partitions=4)
    wait_until(lambda: name in client.topics(), 10, "the topic to be listed")
    return name


def expect_error(code, name, work):
    """The client's error is Kafka's `code`; where the client does not tell it, it is told by name."""
    with pytest.raises(ClientError) as caught:
        work()
    said = re.sub(r"[^a-z]", "", caught.value.text.lower())
    assert caught.value.code == code or any(
        re.sub(r"[^a-z]", "", word.lower()) in said for word in name.split("|")
    ), caught.value


def test_what_is_produced_is_consumed_with_everything_it_carries(client, topic, names):
    at = int(time.time() * 1000) - 123_456  # younger than retention.ms
    sent = records(40, 4, timestamp=at, headers=[["trace", "abc"], ["empty", ""]])
    sent.append({"key": "deleted", "value": None, "partition": 0, "timestamp": at})
    sent.append({"key": None, "value": "no key, ünïcödé", "partition": 1, "timestamp": at})
    placed = client.produce(topic=topic, records=sent)
    found = read(client, topic, len(sent), names("group"))
    by_place = {(item["partition"], item["offset"]): item for item in found}
    assert len(by_place) == len(sent)
    for want, (partition, offset) in zip(sent, placed):
        item = by_place[partition, offset]
        assert (item["key"], item["value"]) == (want["key"], want["value"])
        assert item["headers"] == want.get("headers", [])
        assert item["timestamp"] == want["timestamp"]
    for partition in range(4):
        offsets = [item["offset"] for item in found if item["partition"] == partition]
        assert offsets == list(range(len(offsets))), "offsets are dense and in order"


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_comes_back_as_it_went_in(client, topic, names, codec):
    if codec != "none":
        need_ability(client, codec)
    sent = [{"value": f"{codec} {number} " + "compressible " * 20, "partition": 0} for number in range(200)]
    client.produce(topic=topic, records=sent, codec=codec)
    found = read(client, topic, len(sent), names("group"))
    assert [item["value"] for item in found] == [item["value"] for item in sent]


def test_an_idempotent_producer_is_served(client, topic, names):
    need_ability(client, "idempotent")
    for part in range(3):
        client.produce(
            topic=topic, idempotent=True,
            records=[{"value": f"{part}-{number}", "partition": 2} for number in range(50)],
        )
    found = read(client, topic, 150, names("group"))
    assert [item["value"] for item in found] == [f"{part}-{number}" for part in range(3) for number in range(50)]


@pytest.mark.parametrize("acks", ["0", "1"])
def test_weaker_acknowledgements_are_served(client, topic, names, acks):
    sent = records(20)
    client.produce(topic=topic, records=sent, acks=acks)
    found = read(client, topic, 20, names("group"))
    assert [item["value"] for item in found] == [item["value"] for item in sent]


def test_a_group_rebalances_when_members_come_and_go(client, topic, names):
    group = names("group")
    client.join(member="one", group=group, topics=[topic])
    await_assignments(client, {"one": 4})
    client.produce(topic=topic, records=records(20, 4))
    first = take(client, "one", 20)
    client.commit(member="one", offsets=[[topic, partition, 5] for partition in range(4)])

    client.join(member="two", group=group, topics=[topic])
    await_assignments(client, {"one": 2, "two": 2})
    client.produce(topic=topic, records=records(20, 4))
    one, two = take(client, "one", 10), take(client, "two", 10)
    assert {item["partition"] for item in one}.isdisjoint({item["partition"] for item in two})
    assert all(item["offset"] >= 5 for item in one + two), "both went on at what was committed"
    for member, seen in (("one", one), ("two", two)):
        client.commit(member=member, offsets=[
            [topic, partition, 10] for partition in {item["partition"] for item in seen}
        ])

    client.leave(member="two")
    await_assignments(client, {"one": 4})
    client.produce(topic=topic, records=records(20, 4))
    last = take(client, "one", 20)
    assert sorted((item["partition"], item["offset"]) for item in first + one + two + last) == [
        (partition, offset) for partition in range(4) for offset in range(15)
    ]
    client.leave(member="one")


def test_a_group_resumes_where_it_committed(client, topic, names):
    group = names("group")
    client.produce(topic=topic, records=records(30))
    client.join(member="one", group=group, topics=[topic])
    assert len(take(client, "one", 30)) == 30
    client.commit(member="one", offsets=[[topic, 0, 12]])
    client.leave(member="one")
    found = read(client, topic, 18, group)
    assert [item["offset"] for item in found] == list(range(12, 30))
    assert client.group_offsets(group=group, topic=topic) == [[0, 12]]


def test_a_static_member_comes_back_without_a_rebalance(client, topic, names):
    need_ability(client, "static")
    group = names("group")
    client.join(member="one", group=group, topics=[topic], instance="instance-1", session_ms=20000)
    await_assignments(client, {"one": 4})
    client.join(member="two", group=group, topics=[topic], instance="instance-2", session_ms=20000)
    before = await_assignments(client, {"one": 2, "two": 2})
    client.leave(member="two")
    client.join(member="two", group=group, topics=[topic], instance="instance-2", session_ms=20000)
    after = await_assignments(client, {"one": 2, "two": 2})
    assert sorted(after["two"]) == sorted(before["two"])
    assert sorted(after["one"]) == sorted(before["one"])
    client.leave(member="one")
    client.leave(member="two")


def test_a_cooperative_group_keeps_what_it_does_not_give_away(client, topic, names):
    strategy = "cooperative-sticky" if "cooperative-sticky" in client.can else "sticky"
    need_ability(client, strategy)
    group = names("group")
    client.join(member="one", group=group, topics=[topic], strategy=strategy)
    before = await_assignments(client, {"one": 4})
    client.join(member="two", group=group, topics=[topic], strategy=strategy)
    after = await_assignments(client, {"one": 2, "two": 2})
    assert {tuple(place) for place in after["one"]} <= {tuple(place) for place in before["one"]}
    client.produce(topic=topic, records=records(40, 4))
    found = take(client, "one", 20) + take(client, "two", 20)
    assert len({(item["partition"], item["offset"]) for item in found}) == 40
    client.leave(member="one")
    client.leave(member="two")


def test_offsets_are_found_by_time(client, topic):
    start = int(time.time() * 1000) - 3_600_000  # younger than retention.ms
    client.produce(topic=topic, records=[
        {"value": str(number), "partition": 1, "timestamp": start + number * 1000} for number in range(100)
    ])
    at = lambda when: client.times(topic=topic, partition=1, at=when)  # noqa: E731
    assert at("earliest") == 0
    assert at("latest") == 100
    assert at(start) == 0
    assert at(start + 41_000) == 41, "also in the middle of a batch"
    assert at(start + 40_001) == 41, "the first that is not earlier"
    assert at(start - 1_000_000) == 0
    assert at(start + 99_001) in (-1, 100), "after the last one: none, which some clients give as the end"


def test_topics_are_created_described_grown_and_deleted(client, names):
    topic = names("admin")
    client.create_topic(topic=topic, partitions=2)
    wait_until(lambda: topic in client.topics(), 10, "the topic to be listed")
    assert client.partitions(topic=topic) == 2
    expect_error(36, "already exists", lambda: client.create_topic(topic=topic, partitions=2))
    client.add_partitions(topic=topic, count=5)
    wait_until(lambda: client.partitions(topic=topic) == 5, 10, "five partitions")
    expect_error(37, "invalid partitions|number of partitions is invalid",
                 lambda: client.add_partitions(topic=topic, count=3))
    client.delete_topic(topic=topic)
    wait_until(lambda: topic not in client.topics(), 10, "the topic to be gone")
    expect_error(3, "unknown topic|does not host this topic", lambda: client.delete_topic(topic=topic))


def test_topic_settings_are_shown_and_changed(client, names):
    topic = names("configs")
    client.create_topic(topic=topic, partitions=1, configs={"retention.ms": "86400000"})
    wait_until(lambda: topic in client.topics(), 10, "the topic to be listed")
    configs = client.configs(topic=topic)
    assert configs["retention.ms"] == ["86400000", False]
    assert configs["cleanup.policy"] == ["delete", True]
    assert configs["message.timestamp.type"] == ["CreateTime", True]
    assert {"max.message.bytes", "retention.bytes", "segment.bytes", "compression.type"} <= set(configs)
    if "alter_configs" in client.can:
        client.alter_configs(topic=topic, configs={"max.message.bytes": "65536"})
        wait_until(lambda: client.configs(topic=topic)["max.message.bytes"] == ["65536", False], 10, "the change")
        assert client.configs(topic=topic)["retention.ms"] == ["86400000", False], "the others stay"
        expect_error(40, "invalid config|invalid value|configuration",
                     lambda: client.alter_configs(topic=topic, configs={"retention.ms": "soon"}))
    if "replace_configs" in client.can:
        client.replace_configs(topic=topic, configs={"retention.bytes": "1048576"})
        wait_until(lambda: client.configs(topic=topic)["retention.bytes"] == ["1048576", False], 10, "the change")
        assert client.configs(topic=topic)["retention.ms"][1], "the old request resets what it does not name"


def test_records_are_deleted_up_to_an_offset(client, topic, names):
    client.produce(topic=topic, records=records(50))
    assert client.delete_records(topic=topic, partition=0, before=20) == 20
    assert client.times(topic=topic, partition=0, at="earliest") == 20
    found = read(client, topic, 30, names("group"))
    assert found[0]["offset"] == 20


def test_groups_are_listed_described_and_deleted(client, topic, names):
    group = names("group")
    client.produce(topic=topic, records=records(8, 4))
    client.join(member="one", group=group, topics=[topic])
    await_assignments(client, {"one": 4})
    take(client, "one", 8)
    client.commit(member="one", offsets=[[topic, partition, 2] for partition in range(4)])
    assert group in client.groups()

    def stable():
        found = client.describe_group(group=group)
        return found["state"] == "stable" and found

    found = wait_until(stable, 15, "the group to be stable")
    assert len(found["members"]) == 1
    assert "one" in found["members"][0][0]
    assert found["members"][0][1] == [[topic, partition] for partition in range(4)]
    if "delete_group" in client.can:
        expect_error(68, "not empty|nonempty", lambda: client.delete_group(group=group))
    client.leave(member="one")
    wait_until(lambda: client.describe_group(group=group)["state"] == "empty", 15, "the group to be empty")
    assert client.group_offsets(group=group, topic=topic) == [[partition, 2] for partition in range(4)]
    if "delete_group" in client.can:
        client.delete_group(group=group)
        wait_until(lambda: group not in client.groups(), 10, "the group to be gone")


def test_the_offsets_of_a_group_are_changed_from_outside(client, topic, names):
    need_ability(client, "alter_group_offsets")
    group = names("group")
    client.produce(topic=topic, records=records(20, 2))
    client.alter_group_offsets(group=group, offsets=[[topic, 0, 3], [topic, 1, 10]])
    assert client.group_offsets(group=group, topic=topic) == [[0, 3], [1, 10]]
    found = read(client, topic, 7, group)
    assert [(item["partition"], item["offset"]) for item in found] == [(0, offset) for offset in range(3, 10)]
    if "delete_group_offsets" in client.can:
        client.delete_group_offsets(group=group, topic=topic, partitions=[0])
        assert client.group_offsets(group=group, topic=topic) == [[1, 10]]


def test_the_cluster_describes_itself(client, bootstrap):
    found = client.cluster()
    assert found["id"]
    assert bootstrap in found["nodes"]


def test_an_unknown_topic_is_created_by_its_first_record(client, names):
    topic = names("automatic")
    client.produce(topic=topic, records=[{"key": "a", "value": "first", "partition": 0}])
    found = read(client, topic, 1, names("group"))
    assert found[0]["value"] == "first"
