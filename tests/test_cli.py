"""The command line, end to end: it opens the bucket itself, with or without a node beside it."""
import json
import os
import pathlib
import re
import subprocess
import urllib.request

import pytest

from harness.traffic import read_all
from local.node import binary
from local.stores import signed_put


@pytest.fixture
def weir(place):
    """Runs `weir ...` on the store and gives what it prints; `fails` is the exit code that it must have.
    Of a command that fails it gives what it says to stderr, but of one that finds something wrong (3) the report."""

    def run(*arguments, text=None, fails=0):
        done = subprocess.run(
            [binary(), *arguments], input=text, capture_output=True, text=not isinstance(text, bytes),
            timeout=60, env={**os.environ, **place.env, "WEIR_STORE": place.url},
        )
        assert done.returncode == fails, f"weir {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stderr if fails in (1, 2) else done.stdout

    def listed(*arguments):
        return json.loads(run(*arguments, "--output", "json"))

    run.json = listed
    return run


FILE = pytest.mark.parametrize("store", ["file"])


def texts(value):
    """Every string and number in a JSON document, for what is told whatever its place."""
    if isinstance(value, dict):
        return [text for item in value.items() for text in texts(list(item))]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [str(value)]


def test_lines_go_in_and_come_out_without_a_node(weir):
    weir("topic", "create", "orders", "--partitions", "1")
    lines = [f"line {number}, ünïcödé" for number in range(1000)]
    weir("produce", "orders", text="\n".join(lines) + "\n")
    found = weir("consume", "orders", "--from-beginning", "--count", "1000").splitlines()
    assert found == lines


@FILE
def test_settings_of_the_cluster_are_set_described_and_unset(weir):
    def told(*arguments):
        return {row["setting"]: (row["value"], row["source"], row["default"]) for row in weir.json("cluster", *arguments)}

    assert told("describe", "num.partitions") == {"num.partitions": ("1", "default", "1")}
    changed = told("set", "num.partitions=6", "log.retention.hours=72")
    assert changed == {
        "num.partitions": ("6", "cluster", "1"), "log.retention.hours": ("72", "cluster", "168"),
    }
    assert told("describe", "--changed") == changed
    everything = told("describe")
    assert len(everything) > 30 and everything["auto.create.topics.enable"] == ("true", "default", "true")
    assert everything["log.retention.ms"] == ("259200000", "cluster", "604800000"), "by way of log.retention.hours"
    assert [line.split()[2] for line in weir("cluster", "describe", "log.retention.ms").splitlines()] == [
        "FROM", "log.retention.hours",
    ]
    weir("topic", "create", "six")
    assert len(weir.json("topic", "describe", "six")[0]["partitions"]) == 6
    table = weir("cluster", "describe", "num.partitions").splitlines()
    assert [line.split() for line in table] == [
        ["SETTING", "VALUE", "FROM", "DEFAULT"], ["num.partitions", "6", "cluster", "1"],
    ]
    said = weir("cluster", "set", "num.partitions=7", "no.such.thing=1", fails=1)
    assert "the cluster has no setting 'no.such.thing'" in said and "weir cluster describe" in said
    assert "num.partitions" in weir("cluster", "set", "log.retention.hours=5", "num.partitions=many", fails=1)
    assert "no.such.thing" in weir("cluster", "unset", "num.partitions", "no.such.thing", fails=1)
    assert told("describe", "--changed") == changed, "all or none"
    assert told("unset", "num.partitions", "log.retention.hours") == {
        "num.partitions": ("1", "default", "1"), "log.retention.hours": ("168", "default", "168"),
    }
    assert "unset" in weir("topic", "alter", "--help")
    assert "no.such" in weir("topic", "alter", "six", "--unset", "no.such", fails=1)


@FILE
def test_producing_nothing_to_a_topic_that_cannot_exist_is_refused(weir):
    weir("topic", "create", "a.b", "--partitions", "1")
    for name, why in {
        "bad/name": "not allowed", "": "not allowed", "x" * 250: "not allowed", "__transaction_state": "internal",
        "a_b": "collides with topic 'a.b'",
    }.items():
        assert why in weir("produce", name, text="", fails=1), name
        assert why in weir("produce", name, text="a line\n", fails=1), name
        assert why in weir("topic", "create", name, fails=1), name
    assert weir("produce", "a.b", text="") == "stored 0 records in a.b\n"
    weir("cluster", "set", "auto.create.topics.enable=false")
    assert "no topic named 'elsewhere'" in weir("produce", "elsewhere", text="", fails=1)
    assert [row["topic"] for row in weir.json("topic", "list", "--internal")] == ["a.b"]


@FILE
def test_what_the_command_line_writes_a_node_serves_and_the_other_way_round(weir, node, drivers):
    client = drivers("librdkafka", node.kafka)
    weir("topic", "create", "both", "--partitions", "1")
    weir("produce", "both", text="from the command line\n")
    assert client.partitions(topic="both") == 1
    client.produce(topic="both", records=[{"key": "k", "value": "from a client", "partition": 0,
                                           "headers": [["trace", "abc"]]}])
    assert read_all(node.kafka, "both", {0: 2}) == {0: [b"from the command line", b"from a client"]}
    found = weir("consume", "both", "--from-beginning", "--count", "2").splitlines()
    assert found == ["from the command line", "from a client"]


@FILE
def test_topics_are_created_listed_described_altered_and_deleted(weir):
    weir("topic", "create", "one", "--partitions", "3", "--config", "retention.ms=86400000")
    weir("topic", "create", "two")
    assert {"one", "two"} <= set(texts(weir.json("topic", "list")))
    assert re.search(r"\bone\b.*\b3\b", weir("topic", "list"))
    described = texts(weir.json("topic", "describe", "one"))
    assert {"retention.ms", "86400000"} <= set(described)
    weir("topic", "alter", "one", "--config", "retention.ms=3600000")
    assert {"retention.ms", "3600000"} <= set(texts(weir.json("topic", "describe", "one")))
    weir("topic", "alter", "one", "--partitions", "5")
    assert re.search(r"\bone\b.*\b5\b", weir("topic", "list"))
    assert "one" in weir("topic", "create", "one", fails=1)
    assert "retention.ms" in weir("topic", "alter", "two", "--config", "retention.ms=soon", fails=1)
    weir("topic", "delete", "one")
    assert "one" not in texts(weir.json("topic", "list"))
    assert "one" in weir("topic", "describe", "one", fails=1)


@FILE
def test_keys_and_headers_and_offsets_are_told(weir):
    weir("topic", "create", "keyed", "--partitions", "1")
    weir("produce", "keyed", "--key", "k1", "--header", "trace=abc", text="first\n")
    weir("produce", "keyed", "--key", "k2", text="second\n")
    first, second = [
        json.loads(line) for line in
        weir("consume", "keyed", "--from-beginning", "--count", "2", "--output", "json").splitlines()
    ]
    assert {"k1", "first", "trace", "abc"} <= set(texts(first))
    assert {"k2", "second"} <= set(texts(second))
    assert (first["offset"], second["offset"]) == (0, 1)


@FILE
def test_a_group_reads_on_is_described_reset_and_deleted(weir):
    weir("topic", "create", "events", "--partitions", "1")
    weir("produce", "events", text="".join(f"{number}\n" for number in range(10)))
    read = lambda count: weir("consume", "events", "--group", "billing", "--from-beginning", "--count", str(count))  # noqa: E731
    assert read(4).split() == ["0", "1", "2", "3"]
    assert read(3).split() == ["4", "5", "6"]
    assert "billing" in texts(weir.json("group", "list"))
    assert {"events", "7"} <= set(texts(weir.json("group", "describe", "billing")))
    weir("group", "reset", "billing", "--topic", "events", "--to", "earliest")
    assert read(2).split() == ["0", "1"]
    weir("group", "delete", "billing")
    assert "billing" not in texts(weir.json("group", "list"))
    assert "billing" in weir("group", "describe", "billing", fails=1)


@FILE
def test_nodes_that_are_alive_are_listed(weir, node):
    assert node.kafka in texts(weir.json("node", "list")) or node.kafka in weir("node", "list")


def test_a_store_is_checked(weir, place):
    report = weir("store", "check", "--store", place.url)
    assert re.search(r"create|conditional", report, re.I)
    assert isinstance(weir.json("store", "check", "--store", place.url), dict)


@FILE
def test_every_kind_of_object_is_shown_as_json(weir, place):
    weir("topic", "create", "seen", "--partitions", "1")
    weir("produce", "seen", text="inside a commit\n")
    weir("produce", "seen", text=("x" * 100_000 + "\n") * 20)
    folder = place.store.directory / place.url.rpartition("/")[2]
    objects = [path.relative_to(folder) for path in folder.rglob("*")
               if path.suffix in (".commit", ".snapshot", ".segment")]
    kinds = {path.suffix for path in objects}
    assert ".commit" in kinds
    for kind in kinds:
        (path, *_) = [path for path in objects if path.suffix == kind]
        assert json.loads(weir("inspect", str(path))), path
    (commit, *_) = sorted(path for path in objects if path.suffix == ".commit")
    damaged = folder / commit
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0x40
    damaged.write_bytes(content)
    assert commit.name.split(".")[0].lstrip("0") in weir("inspect", str(commit), fails=1)


def test_a_bucket_is_checked_while_a_node_runs_on_it_and_what_is_damaged_is_told(weir, node, place):
    weir("topic", "create", "kept", "--partitions", "1")
    weir("produce", "kept", text="inside a commit\n")
    large = "".join(f"{number} " + "x" * 100_000 + "\n" for number in range(20))
    weir("produce", "kept", text=large)
    assert "nothing is wrong" in weir("fsck")
    healthy = weir.json("fsck", "--deep")
    assert healthy["sound"] and not healthy["findings"], healthy
    assert healthy["checked"]["segments"] >= 1
    usage = weir.json("store", "usage")
    assert sum(reason["bytes"] for reason in usage["reasons"]) == usage["bytes"]
    (topic,) = [topic for topic in usage["topics"] if topic["topic"] == "kept"]
    assert topic["in_segments"] >= len(large) and topic["in_commits"] > 0
    assert re.search(r"\bkept\b", weir("store", "usage"))
    (described,) = weir.json("topic", "describe", "kept")
    (partition,) = described["partitions"]
    assert partition["segments"] >= 1 and partition["commits"] == 1 and partition["oldest"]

    commit = f"manifest/log/{healthy['log_end'] - 1:020}.commit"
    empty(place, commit)
    found = json.loads(weir("fsck", "--output", "json", fails=3))
    assert not found["sound"]
    assert ("wrong-length", commit) in [(finding["kind"], finding["object"]) for finding in found["findings"]]
    report = weir("fsck", fails=3)
    assert commit in report and "weir inspect" in report and "something is wrong" in report


def empty(place, name):
    """Takes the content of an object away."""
    if place.store.name == "file":
        (place.store.directory / place.url.rpartition("/")[2] / name).write_bytes(b"")
        return
    path = place.url.removeprefix("s3://") + "/" + name
    request = signed_put(place.store.endpoint, path, place.store.access, place.store.secret, "us-east-1")
    urllib.request.urlopen(request, timeout=30).close()


@FILE
def test_looking_at_a_place_that_does_not_exist_makes_nothing(weir, tmp_path):
    absent = tmp_path / "absent"
    for command in (["fsck"], ["store", "usage"], ["inspect", "1"]):
        assert "error:" in weir(*command, "--store", f"file://{absent}", fails=1)
    assert not absent.exists()
    absent.mkdir()
    assert "no-cluster" in weir("fsck", "--store", f"file://{absent}", fails=3)
    assert not list(absent.iterdir())


@FILE
def test_mistakes_are_answered_with_what_to_do(weir):
    assert "usage" in weir("topic", "create", fails=2).lower()
    assert "error:" in weir("consume", "absent", "--from-beginning", "--count", "1", fails=1)
    assert "error:" in weir("topic", "list", "--store", "ftp://nowhere", fails=2)


def test_a_server_without_conditional_writes_is_refused():
    """A server that ignores If-None-Match would lose acknowledged data: `store check` and `serve` say so."""
    import http.server
    import threading

    objects = {}

    class Careless(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status, body=b"", **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_PUT(self):
            objects[self.path] = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(200, ETag='"%d"' % len(objects))

        def do_GET(self):
            key = self.path.partition("?")[0]
            if "list-type" in self.path:
                body = (b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>'
                        b"<KeyCount>0</KeyCount></ListBucketResult>")
                return self.answer(200, body)
            if key not in objects:
                return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            modified = self.date_time_string()
            body, headers = objects[key], {"ETag": '"x"', "Last-Modified": modified}
            if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                first, last = int(asked[1]), min(int(asked[2]), len(body) - 1)
                if first > last:
                    return self.answer(416, b"<Error><Code>InvalidRange</Code></Error>")
                headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
                return self.answer(206, body[first:last + 1], **headers)
            return self.answer(200, body, **headers)

        do_HEAD = do_GET

        def do_DELETE(self):
            objects.pop(self.path, None)
            self.answer(204)

        def do_POST(self):
            wanted = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "delete" not in self.path:  # uploads in parts: an answer that nobody repeats the request for
                return self.answer(501, b"<Error><Code>NotImplemented</Code></Error>")
            deleted = b"".join(b"<Deleted>" + key + b"</Deleted>" for key in re.findall(rb"<Key>.*?</Key>", wanted))
            self.answer(200, b"<DeleteResult>" + deleted + b"</DeleteResult>")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {
        **os.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "not-in-any-log", "AWS_REGION": "us-east-1",
    }
    try:
        for command in (
            ["store", "check", "--store", "s3://careless/x"],
            ["serve", "--store", "s3://careless/x", "--kafka", "127.0.0.1:0", "--http", "off", "--amqp", "off"],
        ):
            done = subprocess.run([binary(), *command], env=env, capture_output=True, text=True, timeout=60)
            assert done.returncode == 1, done.stdout + done.stderr
            assert re.search(r"create-if-absent|conditional|If-None-Match|exists", done.stdout + done.stderr, re.I)
            assert "not-in-any-log" not in done.stdout + done.stderr
    finally:
        server.shutdown()


def test_the_allocator_has_the_settings_of_the_program():
    env = {**os.environ, "_RJEM_MALLOC_CONF": "stats_print:true"}
    done = subprocess.run([binary(), "--version"], capture_output=True, text=True, timeout=60, env=env)
    for setting in ("oversize_threshold: 0", "dirty_decay_ms: 60000", "narenas: 4"):
        assert re.search(rf"^ *opt\.{setting}\b", done.stderr, re.MULTILINE), (setting, done.stderr)


@FILE
def test_a_bucket_on_which_no_node_starts_is_repaired(weir, make_node, place):
    """A node is killed; a commit is damaged, one is gone, and so is the newest snapshot."""
    weir("topic", "create", "kept", "--partitions", "1")
    for number in range(12):
        weir("produce", "kept", text=f"line {number}\n")
    node = make_node(place).start()
    node.stop()
    folder = pathlib.Path(place.url.removeprefix("file://"))
    log = sorted((folder / "manifest" / "log").glob("*.commit"))
    with_lines = [commit for commit in log if b"line " in commit.read_bytes()]
    damaged, missing = with_lines[2], with_lines[5]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:45] + bytes([whole[45] ^ 1]) + whole[46:])
    missing.unlink()
    for snapshot in (folder / "manifest" / "snapshot").glob("*"):
        snapshot.unlink()
    assert "no node starts" in weir("fsck", fails=3)
    said = weir("topic", "list", fails=1)
    assert damaged.name in said
    # Nobody is there to be asked: nothing is changed.
    assert "nothing was changed" in weir("store", "repair", fails=1)
    assert damaged.read_bytes()[45] == whole[45] ^ 1 and not missing.exists()
    done = weir("store", "repair", "--yes", "--force")
    assert damaged.name in done and missing.name in done and "2 commits replaced" in done
    kept = list((folder / "repair").rglob(damaged.name))
    assert len(kept) == 1 and kept[0].read_bytes()[46:] == whole[46:]
    weir("fsck", "--deep")
    assert "nothing to repair" in weir("store", "repair")
    make_node(place).start()
    found = weir("consume", "kept", "--from-beginning", "--count", "10").splitlines()
    assert found == [f"line {number}" for number in range(12) if number not in (2, 5)]


@pytest.mark.parametrize("keys", [{}, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}])
def test_without_a_region_one_line_says_what_to_do(keys, tmp_path):
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    # Nobody listens there, as outside AWS.
    none = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    done = subprocess.run(
        [binary(), "topic", "list", "--store", "s3://bucket/weir"], env={**bare, **none, **keys},
        capture_output=True, text=True, timeout=60,
    )
    said = done.stderr.splitlines()
    assert done.returncode and len(said) == 1 and "AWS_REGION" in said[0], done.stderr
