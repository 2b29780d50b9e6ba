"""SQL over topics: `weir query` on the bucket, and `POST /v1/query` of a node."""
import base64
import csv
import http.client
import io
import json
import os
import pathlib
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from confluent_kafka import Producer

from local.node import binary
from local.process import wait_until

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
FILE = pytest.mark.parametrize("store", ["file"])


def produce(bootstrap, topic, records, codec="none", **settings):
    """Produces (partition, key, value, timestamp, headers) and gives the offsets by partition and value."""
    told = {}

    def delivered(error, message):
        assert error is None, error
        told[message.partition(), message.value()] = message.offset()

    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 5, **settings})
    for partition, key, value, timestamp, headers in records:
        producer.produce(topic, value=value, key=key, partition=partition, timestamp=timestamp, headers=headers,
                         on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(30) == 0
    return told


@pytest.fixture
def weir(place):
    """Runs `weir ...` on the store; `fails` is the exit code that it must have. Of one that fails: what it says."""

    def run(*arguments, text=None, fails=0, env=None):
        done = subprocess.run(
            [binary(), *arguments], input=text, capture_output=True, timeout=60,
            env={**os.environ, **place.env, "WEIR_STORE": place.url, **(env or {})},
        )
        assert done.returncode == fails, f"weir {arguments}\n{done.stdout[:2000]}\n{done.stderr.decode()}"
        return done.stderr.decode() if fails else done.stdout

    return run


@pytest.fixture
def query(weir):
    """The rows of an answer, as objects."""
    return lambda sql: json.loads(weir("query", sql, "--output", "json"))


def post(node, sql, accept="application/json", as_json=True, timeout=30):
    """Status, headers and body of an answer."""
    body = json.dumps({"sql": sql}).encode() if as_json else sql.encode()
    headers = {"Accept": accept, "Content-Type": "application/json" if as_json else "text/plain"}
    request = urllib.request.Request(f"http://{node.http}/v1/query", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def numbers(node, drivers, topic, partitions=3, each=400):
    """Records in every codec, a second apart, evenly over the partitions."""
    drivers("librdkafka", node.kafka).create_topic(topic=topic, partitions=partitions)
    for part, codec in enumerate(CODECS):
        records = (
            (partition, f"key {number}", f"value {number}", 1_700_000_000_000 + number * 1000, [("n", str(number))])
            for number in range(part * each, (part + 1) * each) for partition in range(partitions)
        )
        produce(node.kafka, topic, records, codec)
    return each * len(CODECS)


@pytest.mark.parametrize("store", ["file", "minio"])
def test_topics_are_tables(node, drivers, query, weir):
    count = numbers(node, drivers, "orders.eu-1")
    found = query("SELECT partition, count(*) AS n, min(offset) AS a, max(offset) AS b, count(DISTINCT key) AS k "
                  "FROM orders_eu_1 GROUP BY partition ORDER BY partition")
    assert found == [{"partition": p, "n": count, "a": 0, "b": count - 1, "k": count} for p in range(3)]
    assert query('SELECT * FROM "orders.eu-1" WHERE partition = 2 AND offset = 1234') == [{
        "partition": 2, "offset": 1234, "timestamp": "2023-11-14T22:33:54Z", "timestamp_type": "CreateTime",
        "key": "key 1234", "value": "value 1234", "headers": [{"key": "n", "value": "1234"}], "error": None,
    }]
    found = query("SELECT count(*) AS n FROM orders_eu_1 WHERE timestamp >= '2023-11-14T22:33:54Z' AND partition = 0")
    assert found == [{"n": count - 1234}]
    plan = query("EXPLAIN SELECT value FROM orders_eu_1 WHERE partition = 1 AND offset >= 1990")[-1]["plan"]
    assert "partitions=1/3" in plan and f"offsets=[1: 1990..{count}]" in plan, plan
    names = [row["table_name"] for row in query("SHOW TABLES") if row["table_schema"] == "topics"]
    assert names == ["orders_eu_1"]
    assert [row["column_name"] for row in query("DESCRIBE orders_eu_1")] == [
        "partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers", "error",
    ]
    # What a consumer reads is what a query answers.
    consumed = {
        (row["partition"], row["offset"]): (row["key"], row["value"], row["timestamp"])
        for row in map(json.loads, weir("consume", "orders.eu-1", "--output", "json").splitlines())
    }
    answered = {
        (row["partition"], row["offset"]): (row["key"], row["value"], row["t"])
        for row in query("SELECT partition, offset, key, value, "
                         "CAST(to_unixtime(timestamp) AS BIGINT) * 1000 AS t FROM orders_eu_1")
    }
    assert answered == consumed and len(answered) == 3 * count


@FILE
def test_the_newest_acknowledged_record_is_in_the_answer_while_producing_goes_on(make_node, place, drivers, query):
    nodes = [make_node(place).start() for _ in range(2)]
    drivers("librdkafka", nodes[0].kafka).create_topic(topic="live", partitions=2)
    stop, acknowledged, errors = threading.Event(), [0, 0], []

    def stream(partition):
        def delivered(error, message):
            if error:
                errors.append(error)
            else:
                acknowledged[partition] = max(acknowledged[partition], message.offset() + 1)

        producer = Producer({"bootstrap.servers": nodes[partition].kafka, "linger.ms": 1, "acks": "all"})
        number = 0
        while not stop.is_set():
            producer.produce("live", value=str(number), partition=partition, on_delivery=delivered)
            number += 1
            producer.poll(0.001)
        producer.flush(30)

    threads = [threading.Thread(target=stream, args=(partition,)) for partition in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: min(acknowledged) > 10, 30, "nothing is acknowledged")
        ways = [lambda sql, node=node: json.loads(post(node, sql)[2]) for node in nodes] + [query]
        for turn in range(12):
            before = list(acknowledged)
            rows = ways[turn % 3]("SELECT partition, count(*) AS n, max(offset) AS m FROM live GROUP BY 1 ORDER BY 1")
            for partition, row in enumerate(rows):
                assert row["n"] >= before[partition], (turn, before, rows)
                assert row["n"] == row["m"] + 1, "offsets are dense, so as many rows as offsets"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors and min(acknowledged) > 50


@FILE
def test_nothing_but_reading_is_understood(node, drivers, weir):
    numbers(node, drivers, "t", each=2)
    for sql, word in [
        ("DROP TABLE t", "DROP TABLE"),
        ("DELETE FROM t", "DELETE"),
        ("INSERT INTO t VALUES (1)", "INSERT INTO"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL TABLE"),
        ("COPY t TO '/tmp/weir-query-test.csv'", "COPY"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
    ]:
        told = weir("query", sql, fails=2)
        assert told.startswith(f"error: {word}") and "changes nothing" in told, told
        status, _, body = post(node, sql)
        assert status == 403 and json.loads(body)["kind"] == "refused", body
    assert not pathlib.Path("/tmp/weir-query-test.csv").exists()
    for sql, status, kind, part in [
        ("SELECT * FROM tt", 404, "unknown_table", "did you mean t?"),
        ("SELECT * FROM '/etc/passwd'", 404, "unknown_table", "no table"),
        ("CHOOSE 1", 400, "invalid", "SQL"),
        ("SELECT 1; SELECT 2", 400, "invalid", "2 statements"),
        ("SELECT nothing FROM t", 400, "invalid", "nothing"),
        ("", 400, "invalid", "no statement"),
    ]:
        found, headers, body = post(node, sql)
        told = json.loads(body)
        assert (found, told["kind"]) == (status, kind) and part in told["error"], (sql, body)
        assert headers["Content-Type"] == "application/json"
    assert "did you mean t?" in weir("query", "SELECT * FROM tt", fails=1)
    # And the node lives.
    assert post(node, "SELECT 1 AS one")[2] == b'[\n{"one":1}\n]\n'


@FILE
def test_answers_over_http_are_in_the_form_that_is_accepted(node, drivers):
    count = numbers(node, drivers, "t", partitions=1)
    sql = "SELECT offset, value FROM t ORDER BY offset"
    expected = [{"offset": number, "value": f"value {number}"} for number in range(count)]
    for as_json in (True, False):
        status, headers, body = post(node, sql, as_json=as_json)
        assert status == 200 and headers["Content-Type"] == "application/json"
        assert headers["Transfer-Encoding"] == "chunked"
        assert json.loads(body) == expected
    _, headers, body = post(node, sql, "application/x-ndjson")
    assert [json.loads(line) for line in body.splitlines()] == expected
    _, headers, body = post(node, sql, "text/csv")
    assert headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    assert [{"offset": int(row["offset"]), "value": row["value"]} for row in rows] == expected
    status, _, body = post(node, sql, "application/vnd.apache.parquet")
    assert status == 200 and body[:4] == body[-4:] == b"PAR1"
    status, _, body = post(node, sql, "application/vnd.apache.arrow.stream")
    assert status == 200 and len(body) > count * 8
    status, _, body = post(node, sql, "text/html")
    assert status == 406 and "text/csv" in json.loads(body)["error"]
    request = urllib.request.Request(f"http://{node.http}/v1/query", b'{"sq": "SELECT 1"}',
                                     {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=10)
    assert error.value.code == 400 and b"sql" in error.value.read()


LONG = "SELECT count(*) FROM t a CROSS JOIN t b CROSS JOIN t c CROSS JOIN t d"


@FILE
def test_who_goes_away_stops_the_query_and_limits_hold(make_node, place, drivers):
    node = make_node(place, arguments=["--max-queries", "1", "--query-timeout", "20s"]).start()
    numbers(node, drivers, "t")
    host, port = node.http.split(":")

    def running():
        return node.metrics()["weir_query_running"][""]

    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("POST", "/v1/query", LONG, {"Content-Type": "text/plain"})
    wait_until(lambda: running() == 1, 10, "the query does not run")
    status, headers, body = post(node, "SELECT 1")
    assert status == 429 and headers["Retry-After"] and json.loads(body)["kind"] == "busy"
    connection.sock.close()
    connection.close()
    wait_until(lambda: running() == 0, 10, "the query runs on for nobody")
    assert node.metrics()["weir_query_statements_total"]['outcome="cancelled"'] == 1
    # Its place is free at the next moment at which it can be stopped.
    wait_until(lambda: post(node, "SELECT 1")[0] == 200, 20, "a query that was cancelled keeps its place")
    begun = time.monotonic()
    status, _, body = post(node, LONG, timeout=60)
    assert status == 504 and "query_timeout" in json.loads(body)["error"]
    assert time.monotonic() - begun < 30
    wait_until(lambda: post(node, "SELECT 1")[0] == 200, 20, "a query that took too long keeps its place")


@FILE
def test_a_query_that_needs_too_much_memory_fails_alone(make_node, place, drivers, weir):
    node = make_node(place, arguments=["--query-memory", "16MiB"]).start()
    drivers("librdkafka", node.kafka).create_topic(topic="large", partitions=1)
    values = (os.urandom(5000).hex() for _ in range(6000))
    produce(node.kafka, "large", ((0, None, value, 0, None) for value in values), "zstd")
    status, _, body = post(node, "SELECT value FROM large ORDER BY value", "application/x-ndjson")
    told = json.loads(body)
    assert status == 422 and told["kind"] == "memory" and "query_memory" in told["error"], told
    status, _, body = post(node, "SELECT count(*) AS n, sum(length(CAST(value AS VARCHAR))) AS s FROM large")
    assert json.loads(body) == [{"n": 6000, "s": 6000 * 10_000}]
    told = weir("query", "SELECT value FROM large ORDER BY value", fails=1, env={"WEIR_QUERY_MEMORY": "16MiB"})
    assert "query_memory" in told and "WEIR_QUERY_MEMORY" in told


@FILE
def test_a_broken_answer_is_not_taken_for_a_whole_one(node, drivers):
    numbers(node, drivers, "t")
    sql = "SELECT 10 / (CASE WHEN offset = 1999 THEN 0 ELSE 1 END) AS x FROM t ORDER BY partition, offset"
    status, _, body = 0, None, b""
    try:
        status, _, body = post(node, f"SELECT x FROM ({sql.replace(' ORDER BY partition, offset', '')})")
    except (http.client.IncompleteRead, ConnectionError):
        return
    assert status == 400 and json.loads(body)["kind"] == "invalid", (status, body[:200])


@FILE
def test_statements_come_from_arguments_files_and_stdin(node, drivers, weir, tmp_path):
    numbers(node, drivers, "t", each=2)
    node.stop()
    one = json.loads(weir("query", "SELECT count(*) AS n FROM t", "--output", "json"))
    assert one == [{"n": 30}], "no node is needed"
    path = tmp_path / "some.sql"
    path.write_text("-- two; of them\nSELECT 1 AS a;\nSELECT 'x;y' AS b\n")
    lines = weir("query", "--file", str(path), "--output", "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"b": "x;y"}]
    assert json.loads(weir("query", "--output", "json", text=b"SELECT 2 AS a")) == [{"a": 2}]
    table = weir("query", "SELECT partition, count(*) AS n FROM t GROUP BY 1 ORDER BY 1").decode()
    assert table.splitlines() == ["partition   n", "        0  10", "        1  10", "        2  10", "(3 rows)"]
    parquet = weir("query", "SELECT * FROM t", "--output", "parquet")
    assert parquet[:4] == parquet[-4:] == b"PAR1"
    told = weir("query", "--file", str(path), "--output", "parquet", fails=2)
    assert "2 statements" in told
    assert "cannot be read" in weir("query", "--file", str(tmp_path / "none.sql"), fails=2)


@FILE
def test_strange_records_are_rows(node, weir, query):
    weir("topic", "create", "strange", "--partitions", "1", "--config", f"message.timestamp.after.max.ms={2**63 - 1}")
    produce(node.kafka, "strange", [
        (0, None, b"no key", 0, None),
        (0, b"", b"", 0, [("a", b"1"), ("a", None), ("", b"\xff")]),
        (0, b"\xff\xfe", b"x" * 900_000, 253402300799000, None),
    ])
    rows = query("SELECT key, length(CAST(value AS VARCHAR)) AS n, timestamp, headers FROM strange ORDER BY offset")
    assert [row["n"] for row in rows] == [6, 0, 900_000]
    assert rows[0]["key"] is None and rows[1]["key"] == "" and rows[2]["key"] == {"base64": "//4="}
    assert rows[1]["headers"] == [{"key": "a", "value": "1"}, {"key": "a", "value": None},
                                  {"key": "", "value": {"base64": "/w=="}}]
    assert rows[2]["timestamp"] == "9999-12-31T23:59:59Z"


@FILE
def test_who_may_not_read_a_topic_has_no_table_of_it(make_node, place, drivers, weir):
    node = make_node(place).start()
    for topic in ("open", "shut"):
        drivers("librdkafka", node.kafka).create_topic(topic=topic, partitions=1)
        produce(node.kafka, topic, [(0, b"k", topic.encode(), 0, None)])
    weir("user", "create", "root", "--superuser", "--password-stdin", text=b"secret of root\n")
    weir("user", "create", "alice", "--password-stdin", text=b"secret of alice\n")
    weir("acl", "add", "--allow", "User:alice", "--operation", "read", "--operation", "describe", "--topic", "open")

    def ask(sql, login=None):
        headers = {"Content-Type": "text/plain"}
        if login:
            headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        request = urllib.request.Request(f"http://{node.http}/v1/query", sql.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            if error.code == 401:
                assert error.headers["WWW-Authenticate"].startswith("Basic ")
            return error.code, json.loads(error.read())["kind"]

    def tables(login=None):
        return [row["table_name"] for row in ask("SHOW TABLES", login)[1] if row["table_schema"] == "topics"]

    assert ask("SELECT value FROM open", "alice:secret of alice") == (200, [{"value": "open"}])
    assert ask("SELECT value FROM shut", "alice:secret of alice") == (404, "unknown_table")
    assert ask("SELECT value FROM shut", "root:secret of root") == (200, [{"value": "shut"}])
    assert tables("alice:secret of alice") == ["open"] and tables("root:secret of root") == ["open", "shut"]
    for table in ("open", "shut", "neither"):
        assert ask(f"SELECT value FROM {table}") == (401, "denied")
    assert ask("SELECT 1 AS one", "alice:secret of root") == (401, "denied")
    assert ask("SELECT 1 AS one", "nobody:x") == (401, "denied")
    weir("acl", "add", "--deny", "User:alice", "--operation", "read", "--topic", "open")
    assert ask("SELECT value FROM open", "alice:secret of alice") == (403, "denied")
    log = node.log.read_bytes()
    assert b"secret of alice" not in log and b"secret of root" not in log and base64.b64encode(b"alice:secret of root") not in log


def archived_up_to(weir, topic, count):
    """Waits until so many records of the topic are in its table."""
    def rows():
        tables = json.loads(weir("table", "list", "--output", "json"))
        return sum(table["rows"] for table in tables if table["table"] == topic)
    wait_until(lambda: rows() >= count, 60, f"{count} records of {topic} are not archived")


@pytest.mark.parametrize("store", ["file", "minio"])
def test_the_archive_and_the_tail_are_one_table(node, drivers, weir, query, tmp_path):
    weir("topic", "create", "orders", "--partitions", "2", "--config", "archive.enable=true", "--config",
         "archive.lag=1s", "--config", "archive.value.format=json")
    day = 86_400_000
    first = [(n % 2, f"k{n}", json.dumps({"n": n, "name": f"name {n}"}).encode(), 1_700_000_000_000 + n * day // 100, None)
             for n in range(1000)]
    produce(node.kafka, "orders", first, "zstd")
    archived_up_to(weir, "orders", 1000)
    later = [(n % 2, f"k{n}", json.dumps({"n": n, "name": f"name {n}"}).encode(), 1_700_000_000_000 + n * day // 100, None)
             for n in range(1000, 1100)]
    produce(node.kafka, "orders", later)
    assert query("SELECT count(*) AS c, count(DISTINCT (partition, offset)) AS d, sum(n) AS s, max(name) AS m FROM orders") == [
        {"c": 1100, "d": 1100, "s": 1099 * 550, "m": "name 999"}]
    # What lies in files is pruned by its statistics, and what is in the tail by the state.
    for where, expected in [
        ("n = 1050", 1), ("n = 50", 1), ("n < 10 OR n >= 1090", 20), ("timestamp >= '2023-11-24T00:00:00Z'", None),
        ("partition = 1 AND offset BETWEEN 499 AND 502", 4), ("CAST(timestamp AS TIME) < '12:00:00'", None),
        ("key = 'k7'", 1), ("name LIKE 'name 10%'", 111),
    ]:
        rows = query(f"SELECT n FROM orders WHERE {where}")
        filtered = query(f"SELECT n FROM (SELECT *, row_number() OVER (ORDER BY partition, offset) AS r FROM orders) "
                         f"WHERE {where} AND r > 0")
        assert sorted(row["n"] for row in rows) == sorted(row["n"] for row in filtered), where
        assert expected is None or len(rows) == expected, (where, len(rows))
    plan = query("EXPLAIN SELECT n FROM orders WHERE timestamp < '2023-11-15T00:00:00Z'")[-1]["plan"]
    assert "files=" in plan and "orders" in plan, plan
    # It outlives what the topic has, and the topic.
    consumed = [json.loads(line) for line in weir("consume", "orders", "--output", "json").splitlines()]
    assert len(consumed) == 1100
    archived_up_to(weir, "orders", 1100)
    weir("topic", "delete", "orders")
    assert query("SELECT count(*) AS c, sum(n) AS s FROM archive.orders") == [{"c": 1100, "s": 1099 * 550}]
    assert query("SELECT count(*) AS c FROM orders WHERE partition = 0") == [{"c": 550}]


@FILE
def test_a_topic_that_has_more_than_its_archive_is_answered_whole(make_node, place, drivers, weir, query):
    """Files of the archive expire by its own retention; the topic still has the records."""
    node = make_node(place).start()
    weir("topic", "create", "t", "--config", "archive.enable=true", "--config", "archive.lag=1s")
    produce(node.kafka, "t", ((0, None, str(n).encode(), 0, None) for n in range(500)))
    archived_up_to(weir, "t", 500)
    weir("topic", "alter", "t", "--config", "archive.retention.ms=1000")

    sent = 500

    def expires():
        nonlocal sent
        produce(node.kafka, "t", [(0, None, str(sent).encode(), 0, None)])
        sent += 1
        tables = json.loads(weir("table", "list", "--output", "json"))
        return next(table["rows"] for table in tables if table["table"] == "t") < 400

    wait_until(expires, 90, "nothing of the archive expires", every=0.5)
    assert query("SELECT count(*) AS n, count(DISTINCT offset) AS d, min(offset) AS a FROM t") == [
        {"n": sent, "d": sent, "a": 0}]
