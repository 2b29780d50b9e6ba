"""Nodes of two levels side by side: a rolling upgrade under load, and the way back while there is one.

A node is held at the older level by `--max-level`, or is the binary of the last version (`make test-upgrade`).
"""
import json
import os
import pathlib
import subprocess

import pytest

from harness.traffic import Stream, read_all
from local import ProcessDied, wait_until
from local.node import binary
from test_cluster import addresses, ends

OLD = {"arguments": ["--max-level", "1"]}

# The newest level there is.
NEW = 4


def weir(place, *arguments, fails=False):
    done = subprocess.run([binary(), *arguments, "--store", place.url], env={**os.environ, **place.env},
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode != 0) == fails, (done.stdout, done.stderr)
    return done.stderr if fails else done.stdout


def levels(place):
    return sorted(row["level"] for row in json.loads(weir(place, "node", "list", "--output", "json")))


@pytest.fixture
def older(make_node, place):
    """Makes a node of the older version, on the addresses of another if it takes its place."""
    last = os.environ.get("WEIR_LAST_BIN")

    def make(instead_of=None):
        ports = {}
        if instead_of:
            ports = {"kafka_port": instead_of.kafka.split(":")[1], "http_port": instead_of.http.split(":")[1]}
        node = make_node(place, **ports, **({} if last else OLD))
        if last:
            node.command[0] = pathlib.Path(last)
        return node.start()

    return make


@pytest.fixture
def newer(make_node, place):
    def make(instead_of=None):
        ports = {}
        if instead_of:
            ports = {"kafka_port": instead_of.kafka.split(":")[1], "http_port": instead_of.http.split(":")[1]}
        return make_node(place, **ports).start()

    return make


@pytest.mark.timeout(180)
@pytest.mark.parametrize("store", ["file", "minio"])
def test_a_rolling_upgrade_under_load_and_back_before_the_level_is_raised(older, newer, place, names, drivers):
    nodes = [older() for _ in range(3)]
    topic = names("topic")
    drivers("librdkafka", nodes[0].kafka).create_topic(topic=topic, partitions=3)
    stream = Stream(addresses(nodes), topic, 3)
    stream.start()

    def replace(number, make):
        assert nodes[number].stop(20) == 0
        nodes[number] = make(nodes[number])

    for number in (0, 1):
        replace(number, newer)
    wait_until(lambda: levels(place) == [1, NEW, NEW], 20, "two nodes that know the next level")
    refused = weir(place, "cluster", "upgrade", fails=True)
    assert "supports levels up to 1" in refused and "upgrade" in refused, refused
    replace(1, older)  # and back
    wait_until(lambda: levels(place) == [1, 1, NEW], 20, "one node that knows the next level")
    for number in (1, 2):
        replace(number, newer)
    wait_until(lambda: levels(place) == [NEW, NEW, NEW], 20, "three nodes that know the next level")
    assert f"from level 1 to {NEW}" in weir(place, "cluster", "upgrade")
    assert "already" in weir(place, "cluster", "upgrade")
    # On a quick machine all of this takes two seconds.
    wait_until(lambda: len(stream.told.placed) > 200, 20, "more than 200 acknowledged records")
    produced = stream.finish()
    assert sum(map(len, produced.values())) > 200
    for node in nodes:
        assert read_all(node.kafka, topic, ends(produced)) == produced
    with pytest.raises(ProcessDied, match="upgrade"):
        older()
    for node in nodes:
        assert node.stop(20) == 0
    weir(place, "fsck", "--deep")
    # What an older version wrote and what a newer one did are one log: a node that starts reads all of it.
    last = newer()
    assert read_all(last.kafka, topic, ends(produced)) == produced
