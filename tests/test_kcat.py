"""kcat (librdkafka's command line): what a person does by hand."""
import json
import shutil
import signal
import subprocess
import time

import pytest

from conftest import need
from local import Process, wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def kcat(bootstrap):
    """Runs kcat and gives what it prints."""
    need(None if shutil.which("kcat") else "kcat: run tests/setup as root, or install it")

    def run(*arguments, text=None):
        done = subprocess.run(
            ["kcat", "-b", bootstrap, *arguments], input=text, capture_output=True, text=True, timeout=40,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.bootstrap = bootstrap
    return run


@pytest.fixture
def topic(kcat, names, drivers):
    name = names("kcat")
    drivers("librdkafka", kcat.bootstrap).create_topic(topic=name, partitions=2)
    return name


class GroupMember:
    """`kcat -G`, which goes on until it is interrupted and then commits what it printed."""

    def __init__(self, bootstrap, group, topic, log):
        self.output = log.with_suffix(".out")
        command = ["kcat", "-b", bootstrap, "-J", "-u", "-X", "auto.offset.reset=earliest",
                   "-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500",
                   "-X", "topic.metadata.refresh.interval.ms=2000", "-G", group, topic]
        self.process = Process("kcat", ["sh", "-c", 'out=$1; shift; exec "$@" > "$out"', "sh",
                                        self.output, *command], log).start()

    def records(self):
        return [json.loads(line) for line in self.output.read_text().splitlines()] if self.output.exists() else []

    def assigned(self):
        """How many partitions it was last told to own."""
        told = [line for line in self.process.output().splitlines() if "rebalanced" in line]
        return told[-1].count("[") if told and "assigned" in told[-1] else 0

    def leave(self):
        self.process.child.send_signal(signal.SIGINT)
        self.process.child.wait(20)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_keys_values_and_headers_come_back_in_every_codec(kcat, topic, codec):
    kcat("-P", "-t", topic, "-p", "1", "-z", codec, "-K", "\t", "-H", "trace=abc",
         text="".join(f"key-{number}\tvalue-{number}\n" for number in range(100)))
    found = [json.loads(line) for line in kcat("-C", "-t", topic, "-p", "1", "-o", "beginning", "-e", "-J", "-q").splitlines()]
    assert [(item["offset"], item["key"], item["payload"]) for item in found] == [
        (number, f"key-{number}", f"value-{number}") for number in range(100)
    ]
    assert all(item["headers"] == ["trace", "abc"] for item in found)


def test_the_tail_and_any_offset_can_be_read(kcat, topic):
    kcat("-P", "-t", topic, "-p", "0", text="".join(f"{number}\n" for number in range(50)))
    read = lambda *where: kcat("-C", "-t", topic, "-p", "0", "-e", "-q", *where).split()  # noqa: E731
    assert read("-o", "-3") == ["47", "48", "49"]
    assert read("-o", "17", "-c", "2") == ["17", "18"]


def test_offsets_are_found_by_time(kcat, topic):
    before = int(time.time() * 1000)
    kcat("-P", "-t", topic, "-p", "0", text="one\ntwo\n")
    assert kcat("-Q", "-t", f"{topic}:0:{before}").strip() == f"{topic} [0] offset 0"
    assert kcat("-Q", "-t", f"{topic}:0:-1").strip() == f"{topic} [0] offset 2"


def test_metadata_names_brokers_topics_and_leaders(kcat, topic):
    found = json.loads(kcat("-L", "-J"))
    assert kcat.bootstrap in [broker["name"] for broker in found["brokers"]]
    (listed,) = [item for item in found["topics"] if item["topic"] == topic]
    ids = {broker["id"] for broker in found["brokers"]}
    assert [part["partition"] for part in listed["partitions"]] == [0, 1]
    assert all(part["leader"] in ids for part in listed["partitions"])


def test_a_group_rebalances_commits_and_resumes(kcat, topic, names, logs, shown):
    group = names("group")
    send = lambda part, text: kcat("-P", "-t", topic, "-p", str(part), text=text)  # noqa: E731
    send(0, "a\nb\n")
    send(1, "c\n")
    one = GroupMember(kcat.bootstrap, group, topic, logs / "one.log")
    shown.append(one.process)
    wait_until(lambda: len(one.records()) == 3, 20, "the first member to read everything")
    two = GroupMember(kcat.bootstrap, group, topic, logs / "two.log")
    shown.append(two.process)
    wait_until(lambda: (one.assigned(), two.assigned()) == (1, 1), 20, "a partition each")
    send(0, "d\n")
    send(1, "e\n")
    wait_until(lambda: len(two.records()) == 1 and len(one.records()) == 4, 20, "a record each")
    two.leave()
    wait_until(lambda: one.assigned() == 2, 20, "the first member to own both again")
    one.leave()
    send(0, "f\n")
    three = GroupMember(kcat.bootstrap, group, topic, logs / "three.log")
    wait_until(lambda: three.records(), 20, "the next member to read on")
    three.leave()
    assert [item["payload"] for item in three.records()] == ["f"]
    everything = sorted(item["payload"] for member in (one, two, three) for item in member.records())
    assert everything == list("abcdef"), "each record was read by one member, once"
