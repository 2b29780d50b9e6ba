"""`weir cost` against the requests that nodes really make."""
import json
import os
import re
import subprocess
import threading
import time
import urllib.request
import uuid

import pytest
from confluent_kafka import Consumer

from harness.traffic import producer
from local.node import binary

SECONDS = 20
MESSAGE = 1024
# Kinds of requests as `/metrics` names them, by what `weir cost` calls them.
KINDS = {
    "commits": ["commit_put"],
    "looking for new commits": ["commit_probe"],
    "segments": ["segment_put"],
}


def requests(node):
    """How many requests of each kind a node has made."""
    with urllib.request.urlopen(f"http://{node.http}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    counts = {}
    for kind, count in re.findall(r'^weir_store_requests_total\{kind="(\w+)"[^}]*\} (\d+)', page, re.M):
        counts[kind] = counts.get(kind, 0) + int(count)
    return counts


def consume(node, topic, stop):
    consumer = Consumer({"bootstrap.servers": node.kafka, "group.id": uuid.uuid4().hex})
    consumer.subscribe([topic])
    while not stop.is_set():
        consumer.consume(1000, 0.2)
    consumer.close()


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("rate", [200 * MESSAGE, 8 << 20])
@pytest.mark.parametrize("store", ["minio"])
def test_the_estimate_is_what_a_node_asks_of_the_store(make_node, place, drivers, names, rate):
    """In commits and in segments: requests that are billed as PUT are estimated to a quarter."""
    node = make_node(place, arguments=["--commit-interval", "100ms", "--follow-interval", "50ms"]).start()
    topic = names("topic")
    drivers("librdkafka", node.kafka).create_topic(topic=topic, partitions=4)
    stop = threading.Event()
    reader = threading.Thread(target=consume, args=(node, topic, stop))
    reader.start()
    source = producer(node.kafka, **{"linger.ms": 5})
    messages, sent, value = rate // MESSAGE, 0, os.urandom(MESSAGE)

    def run(seconds):
        nonlocal sent
        begun, first = time.monotonic(), sent
        while (now := time.monotonic() - begun) < seconds:
            while sent - first < now * messages:
                source.produce(topic, value, partition=sent % 4)
                sent += 1
            source.poll(0.005)
        assert source.flush(30) == 0
        return time.monotonic() - begun

    run(3)
    before = requests(node)
    took = run(SECONDS)
    made = {kind: (count - before.get(kind, 0)) / took for kind, count in requests(node).items()}
    stop.set()
    reader.join()
    command = [binary(), "cost", "--rate", f"{rate}/s", "--no-compaction", "--output", "json"]
    estimate = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    lines = {line["what"]: line["per_second"] for line in estimate["requests"]}
    puts = sum(line["per_second"] for line in estimate["requests"] if line["billed"] == "put")
    counted = sum(count for kind, count in made.items() if kind.endswith("put"))
    print(f"\n{rate / 1e6:.1f} MB/s: estimated {puts:.1f} PUT/s, counted {counted:.1f}")
    for what, kinds in KINDS.items():
        print(f"  {what}: {lines.get(what, 0):.1f} estimated, {sum(made.get(kind, 0) for kind in kinds):.1f} counted")
    assert 0.75 * puts <= counted <= 1.25 * puts
    # Looks are bounded, not predicted: clients choose how often they begin a fetch.
    assert made.get("commit_probe", 0) <= 2.5 * lines["looking for new commits"]


def test_prices_that_are_not_understood_are_named(tmp_path):
    prices = tmp_path / "prices.json"
    prices.write_text('{"put": 1}')
    command = [binary(), "cost", "--rate", "1MiB/s", "--prices", str(prices)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert str(prices) in result.stderr and "unknown field" in result.stderr
