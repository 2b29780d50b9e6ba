"""Archived topics, read by engines that know nothing of Weir."""
import json
import os
import subprocess
import threading
import time
from urllib.parse import urlparse

import duckdb
import duckdb_extensions
import polars
import pyarrow.fs
import pyarrow.parquet
import pytest
from confluent_kafka import OFFSET_BEGINNING, Producer
from pyiceberg.table import StaticTable

from local import wait_until
from local.node import binary
from test_log_compaction import create, read_from_start

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
SOON = {"archive.enable": "true", "archive.lag": "500ms"}
FAST = {"WEIR_MAINTENANCE_INTERVAL": "500ms"}


def weir(place, *arguments):
    """What a command prints, as JSON."""
    done = subprocess.run(
        [binary(), *arguments, "--store", place.url, "--output", "json"],
        env={**os.environ, **place.env}, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def set_up(place, name, **settings):
    """Creates a topic with settings that are written as people write them."""
    pairs = [part for pair in settings.items() for part in ("--config", "%s=%s" % pair)]
    done = subprocess.run(
        [binary(), "topic", "create", name, "--partitions", "3", *pairs, "--store", place.url],
        env={**os.environ, **place.env}, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr


def files_of(place):
    """PyArrow's file system of a store."""
    if not place.env:
        return pyarrow.fs.LocalFileSystem()
    return pyarrow.fs.S3FileSystem(
        access_key=place.env["AWS_ACCESS_KEY_ID"], secret_key=place.env["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=place.env["AWS_ENDPOINT_URL"], region=place.env["AWS_REGION"],
        force_virtual_addressing=False,
    )


def path_of(url):
    """What a URL names, for PyArrow's file systems."""
    parsed = urlparse(url)
    return f"{parsed.netloc}{parsed.path}"


def rights(place):
    """What pyiceberg has to know of a store."""
    if not place.env:
        return {}
    return {
        "s3.endpoint": place.env["AWS_ENDPOINT_URL"], "s3.region": place.env["AWS_REGION"],
        "s3.access-key-id": place.env["AWS_ACCESS_KEY_ID"],
        "s3.secret-access-key": place.env["AWS_SECRET_ACCESS_KEY"], "s3.path-style-access": "true",
    }


def in_duckdb(place, *extensions):
    """DuckDB, with what it has to know of a store."""
    connection = duckdb.connect()
    for extension in dict.fromkeys([*(["httpfs"] if place.env else []), *extensions]):
        duckdb_extensions.import_extension(extension, con=connection)
    if place.env:
        connection.sql(
            f"CREATE SECRET store (TYPE s3, KEY_ID '{place.env['AWS_ACCESS_KEY_ID']}', SECRET "
            f"'{place.env['AWS_SECRET_ACCESS_KEY']}', REGION '{place.env['AWS_REGION']}', USE_SSL false, "
            f"URL_STYLE 'path', ENDPOINT '{urlparse(place.env['AWS_ENDPOINT_URL']).netloc}')"
        )
    return connection


def archived(place, topic):
    """The table of a topic, once all there is is archived and published."""
    described = {}

    def whole():
        topic_is = weir(place, "topic", "describe", topic)[0]
        if topic_is.get("table") is None:
            return False
        lags = [partition["archive_lag"] for partition in topic_is["partitions"]]
        described.update(weir(place, "table", "describe", topic))
        metadata = f"{path_of(described['location'])}/metadata/v{described['version']}.metadata.json"
        return not any(lags) and files_of(place).get_file_info(metadata).is_file

    wait_until(whole, 120, f"{topic} to be archived", every=0.5)
    return described


def rows_of(place, table):
    """What each engine says of a table: (partition, offset, key, value, time in ms), in order."""
    folder = table["location"]
    metadata = f"{folder}/metadata/v{table['version']}.metadata.json"
    columns = ["partition", "offset", "key", "value", "timestamp"]
    iceberg = StaticTable.from_metadata(metadata, rights(place)).scan(selected_fields=tuple(columns)).to_arrow()
    yield "pyiceberg", in_order(iceberg.select(columns).to_pylist())
    connection = in_duckdb(place, "avro", "iceberg")
    connection.sql("SET unsafe_enable_version_guessing = true")
    quoted = ", ".join(f'"{column}"' for column in columns)
    by_path = connection.sql(f"SELECT {quoted} FROM iceberg_scan('{folder.removeprefix('file://')}')")
    yield "duckdb", in_order(dict(zip(columns, row)) for row in by_path.fetchall())
    scan = polars.scan_iceberg(metadata, storage_options=rights(place) or None)
    yield "polars", in_order(scan.select(columns).collect().to_dicts())


def in_order(rows):
    return sorted(
        (row["partition"], row["offset"], row["key"], row["value"], round(row["timestamp"].timestamp() * 1000))
        for row in rows
    )


def consumed(bootstrap, topic):
    found = read_from_start(bootstrap, topic, 3, OFFSET_BEGINNING)
    return sorted(
        (partition, offset, key, value, time) for partition, records in found.items()
        for offset, key, value, time in records
    )


def produce(bootstrap, topic, codec, count):
    errors = []
    sender = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "enable.idempotence": True})
    for number in range(count):
        key = None if number % 7 == 0 else b"" if number % 7 == 1 else b"key-%d" % number
        value = None if number % 11 == 0 else b"%s %d " % (codec.encode(), number) * (number % 13)
        headers = [("h", b"1"), ("h", None)] if number % 5 == 0 else None
        sender.produce(
            topic, value, key, partition=number % 3, headers=headers, timestamp=1_700_000_000_000 + number * 600_000,
            on_delivery=lambda error, _: error and errors.append(error),
        )
        sender.poll(0)
    assert not sender.flush(60) and not errors, errors[:5]


def test_what_each_engine_reads_is_what_a_consumer_reads(make_node, place, store):
    node = make_node(place, env=FAST).start()
    topic = "orders.eu-1"
    # Those that are there before the topic is archived, too.
    create(node.kafka, topic, 3)
    produce(node.kafka, topic, CODECS[0], 500)
    admin = subprocess.run(
        [binary(), "topic", "alter", topic, "--store", place.url]
        + [part for pair in SOON.items() for part in ("--config", "%s=%s" % pair)],
        env={**os.environ, **place.env}, capture_output=True, text=True, timeout=60,
    )
    assert admin.returncode == 0, admin.stderr
    for codec in CODECS[1:]:
        produce(node.kafka, topic, codec, 500)
    table = archived(place, topic)
    assert table["table"] == "orders_eu_1" and table["rows"] == 2500
    expected = consumed(node.kafka, topic)
    assert len(expected) == 2500
    for engine, rows in rows_of(place, table):
        assert rows == expected, engine
    files = weir(place, "table", "files", topic)
    root, store_files = path_of(table["location"]).rsplit("/", 2)[0], files_of(place)
    counted = [
        pyarrow.parquet.read_metadata(f"{root}/{file['file']}", filesystem=store_files).num_rows for file in files
    ]
    assert counted == [file["rows"] for file in files] and sum(counted) == 2500
    assert [line["added_rows"] for line in weir(place, "table", "snapshots", topic)]
    node.stop()
    report = subprocess.run(
        [binary(), "fsck", "--deep", "--store", place.url], env={**os.environ, **place.env}, capture_output=True,
        text=True, timeout=120,
    )
    assert report.returncode == 0, report.stdout + report.stderr


@pytest.mark.parametrize("store", ["file"])
def test_each_record_is_archived_once_while_a_node_is_killed(make_node, place, store):
    nodes = [make_node(place, env=FAST).start() for _ in range(2)]
    topic = "killed"
    set_up(place, topic, **SOON)
    ended = threading.Event()

    def kill_again_and_again():
        while not ended.wait(2):
            nodes[1].kill()
            nodes[1] = make_node(place, env=FAST).start()

    killer = threading.Thread(target=kill_again_and_again)
    killer.start()
    try:
        for codec in CODECS * 2:
            produce(nodes[0].kafka, topic, codec, 300)
            time.sleep(1)
    finally:
        ended.set()
        killer.join()
    table = archived(place, topic)
    expected = consumed(nodes[0].kafka, topic)
    assert len(expected) == 3000
    for engine, rows in rows_of(place, table):
        assert rows == expected, engine


@pytest.mark.parametrize("store", ["file"])
def test_what_is_not_built_is_refused_and_says_so(place, node, store):
    for setting, says in [
        ("archive.serve=true", "cannot serve consumers from the archive yet"),
        ("archive.value.format=avro", "cannot make columns of avro yet"),
        ("archive.lag=soon", "a duration such as 30min"),
    ]:
        refused = subprocess.run(
            [binary(), "topic", "create", "refused", "--config", setting, "--store", place.url],
            env={**os.environ, **place.env}, capture_output=True, text=True, timeout=60,
        )
        assert refused.returncode == 1 and says in refused.stderr, refused.stderr
