"""The REST catalog: engines attach to a node and read the tables of archived topics."""
import base64
import json
import os
import subprocess
import urllib.error
import urllib.request

import duckdb
import duckdb_extensions
import polars
import pyarrow.fs
import pyarrow.parquet
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    ForbiddenError, NoSuchNamespaceError, NoSuchTableError, OAuthError, RESTError, UnauthorizedError,
)

from local import wait_until
from local.node import binary
from test_archive import CODECS, FAST, SOON, consumed, in_duckdb, in_order, produce, rights, set_up, weir

COLUMNS = ["partition", "offset", "key", "value", "timestamp"]
ROLE = "arn:aws:iam::000000000000:role/weir-archive"
DELEGATION = "X-Iceberg-Access-Delegation"


def ask(node, path, method="GET", headers=None, body=None):
    """Status, JSON and headers of an answer."""
    request = urllib.request.Request(f"http://{node.http}{path}", method=method, headers=headers or {}, data=body)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
            return answer.status, json.loads(body) if body else None, answer.headers
    except urllib.error.HTTPError as error:
        body = error.read()
        return error.code, json.loads(body) if body else None, error.headers


def archived(place, topic):
    """The table of a topic, once all there is is archived. Whether its metadata is published is the catalog's affair."""
    def whole():
        described = weir(place, "topic", "describe", topic)[0]
        return described.get("table") and not any(one["archive_lag"] for one in described["partitions"])

    wait_until(whole, 120, f"{topic} to be archived", every=0.5)
    return weir(place, "table", "describe", topic)


def start(make_node, place, access, **env):
    env |= {"WEIR_CATALOG": access} | ({"WEIR_CATALOG_ROLE": ROLE} if access == "sts" else {})
    return make_node(place, env={**FAST, **env}).start()


def own_rights(place, access):
    """What a client of pyiceberg says that reads the files with rights of its own, or wants to be given some."""
    return {f"header.{DELEGATION}": "", **rights(place)} if access == "none" else {}


def attach(node, place, access, secret=""):
    """DuckDB, attached to the catalog of a node."""
    connection = in_duckdb(place, "httpfs", "avro", "iceberg") if access == "none" else duckdb.connect()
    if access != "none":
        for extension in ("httpfs", "avro", "iceberg"):
            duckdb_extensions.import_extension(extension, con=connection)
    options = ["TYPE iceberg", f"ENDPOINT 'http://{node.http}/iceberg'"]
    options += ["SECRET login"] if secret else ["AUTHORIZATION_TYPE 'none'"]
    options += ["ACCESS_DELEGATION_MODE 'none'"] if access == "none" else []
    if secret:
        connection.sql(f"CREATE SECRET login (TYPE iceberg, {secret})")
    connection.sql(f"ATTACH 'weir' AS lake ({', '.join(options)})")
    return connection


def read_in_duckdb(connection, table):
    quoted = ", ".join(f'"{column}"' for column in COLUMNS)
    rows = connection.sql(f"SELECT {quoted} FROM lake.weir.{table}").fetchall()
    return in_order(dict(zip(COLUMNS, row)) for row in rows)


def file_system(table):
    """PyArrow's file system with what the catalog gave for a table."""
    given = table.io.properties
    return pyarrow.fs.S3FileSystem(
        access_key=given["s3.access-key-id"], secret_key=given["s3.secret-access-key"],
        session_token=given.get("s3.session-token"), endpoint_override=given["s3.endpoint"],
        region=given["s3.region"], force_virtual_addressing=False,
    )


def in_each_engine(node, place, access, name):
    catalog = load_catalog("weir", type="rest", uri=f"http://{node.http}/iceberg", **own_rights(place, access))
    table = catalog.load_table(f"weir.{name}")
    yield "pyiceberg", in_order(table.scan(selected_fields=tuple(COLUMNS)).to_arrow().to_pylist())
    scan = polars.scan_iceberg(table, storage_options=table.io.properties)
    yield "polars", in_order(scan.select(COLUMNS).collect().to_dicts())
    yield "duckdb", read_in_duckdb(attach(node, place, access), name)
    if table.location().startswith("s3://"):
        files = file_system(table)
        folder = pyarrow.fs.FileSelector(f"{table.location().removeprefix('s3://')}/data", recursive=True)
        paths = [found.path for found in files.get_file_info(folder)]
        named = sorted(path.removeprefix("s3://") for path in table.inspect.files()["file_path"].to_pylist())
        # Those of before a merge may lie there for a while.
        assert set(named) <= set(paths)
        rows = [pyarrow.parquet.read_table(path, filesystem=files, columns=COLUMNS) for path in named]
        yield "pyarrow", in_order(row for one in rows for row in one.to_pylist())


# LocalStack is installed without its security token service, which would let everybody do everything anyway.
WAYS = [("file", "proxy"), ("file", "none"), ("minio", "sts")] + [
    (store, access) for store in ("minio", "localstack") for access in ("proxy", "none")
]


@pytest.mark.parametrize("store, access", WAYS)
def test_what_each_engine_reads_through_the_catalog_is_what_a_consumer_reads(make_node, place, access):
    node = start(make_node, place, access)
    topic, name = "orders.eu-1", "orders_eu_1"
    set_up(place, topic, **SOON)
    for codec in CODECS:
        produce(node.kafka, topic, codec, 400)
    table = archived(place, topic)
    assert table["rows"] == 2000
    expected = consumed(node.kafka, topic)
    assert len(expected) == 2000
    for engine, rows in in_each_engine(node, place, access, name):
        assert rows == expected, engine
    # What is new is there at once, without waiting for anybody to publish it, and what was given works at every node.
    other = start(make_node, place, access)
    produce(node.kafka, topic, "none", 300)
    archived(place, topic)
    expected = consumed(node.kafka, topic)
    for engine, rows in in_each_engine(other, place, access, name):
        assert len(rows) == 2300 and rows == expected, engine


@pytest.mark.parametrize("store, access", [("file", "proxy"), ("minio", "proxy"), ("minio", "sts")])
def test_what_is_given_for_a_table_opens_nothing_else(make_node, place, access):
    node = start(make_node, place, access)
    for topic in ("orders", "secrets"):
        set_up(place, topic, **SOON)
        produce(node.kafka, topic, "none", 30)
    tables = [archived(place, topic) for topic in ("orders", "secrets")]
    catalog = load_catalog("weir", type="rest", uri=f"http://{node.http}/iceberg")
    mine, other = (catalog.load_table(f"weir.{table['table']}") for table in tables)
    files = file_system(mine)

    def read(path):
        with files.open_input_file(path) as file:
            return len(file.read())

    named = mine.inspect.files()["file_path"].to_pylist()[0].removeprefix("s3://")
    assert read(named) > 0
    theirs = other.inspect.files()["file_path"].to_pylist()[0].removeprefix("s3://")
    cluster = theirs.split("/archive/")[0] + "/cluster.json"
    for path in (theirs, cluster):
        with pytest.raises(OSError, match="ACCESS_DENIED|403"):
            read(path)
    with pytest.raises(OSError):
        files.get_file_info(pyarrow.fs.FileSelector(os.path.dirname(theirs)))
    for change in (lambda: files.delete_file(named), lambda: files.open_output_stream(named).close()):
        with pytest.raises(OSError):
            change()
    assert read(named) > 0


@pytest.mark.parametrize("store", ["file"])
def test_credentials_of_one_node_are_good_at_all_and_after_each_has_restarted(make_node, place):
    nodes = [start(make_node, place, "proxy") for _ in range(2)]
    set_up(place, "orders", **SOON)
    produce(nodes[0].kafka, "orders", "zstd", 500)
    archived(place, "orders")
    catalog = load_catalog("weir", type="rest", uri=f"http://{nodes[0].http}/iceberg")
    table = catalog.load_table("weir.orders")
    for node in nodes:
        node.kill()
        node.start()
    for node in nodes:
        table.io.properties["s3.endpoint"] = f"http://{node.http}"
        path = table.metadata_location.removeprefix("s3://")
        with file_system(table).open_input_file(path) as file:
            assert json.loads(file.read())["location"] == table.location()


@pytest.mark.parametrize("store", ["file"])
def test_the_catalog_shows_tables_as_its_protocol_has_them(make_node, place):
    node = start(make_node, place, "proxy")
    set_up(place, "orders", **SOON)
    produce(node.kafka, "orders", "zstd", 300)
    archived(place, "orders")
    catalog = load_catalog("weir", type="rest", uri=f"http://{node.http}/iceberg")
    assert catalog.list_namespaces() == [("weir",)] and catalog.list_namespaces("weir") == []
    assert catalog.list_tables("weir") == [("weir", "orders")]
    assert catalog.namespace_exists("weir") and not catalog.namespace_exists("other")
    assert catalog.table_exists("weir.orders") and not catalog.table_exists("weir.nothing")
    with pytest.raises(NoSuchTableError):
        catalog.load_table("weir.nothing")
    with pytest.raises(NoSuchNamespaceError):
        catalog.list_tables("other")

    path = "/iceberg/v1/namespaces/weir/tables/orders"
    status, body, headers = ask(node, path)
    assert status == 200 and body["metadata"]["format-version"] == 2 and body["config"] == {}
    # Who does not ask for credentials is shown where the files are.
    assert body["metadata-location"].startswith("file:///")
    assert os.path.exists(body["metadata-location"].removeprefix("file://"))
    assert ask(node, path, headers={"If-None-Match": headers["ETag"]})[0] == 304
    given, theirs = ask(node, path, headers={DELEGATION: "vended-credentials"})[1:]
    assert given["config"]["s3.access-key-id"] and given["metadata-location"].startswith("s3://fs/")
    assert theirs["ETag"] != headers["ETag"]
    assert ask(node, path, headers={DELEGATION: "vended-credentials", "If-None-Match": theirs["ETag"]})[0] == 304
    again = ask(node, path + "/credentials")[1]["storage-credentials"]
    assert [one["prefix"] for one in again] == [given["metadata"]["location"]]
    refs = ask(node, path + "?snapshots=refs")[1]
    assert [snapshot["snapshot-id"] for snapshot in refs["metadata"]["snapshots"]] == [
        body["metadata"]["current-snapshot-id"]
    ]


@pytest.mark.parametrize("store", ["file"])
def test_the_catalog_is_read_only_and_says_so(make_node, place):
    node = start(make_node, place, "proxy")
    for method, path, code in [
        ("POST", "/iceberg/v1/namespaces", 405),
        ("POST", "/iceberg/v1/namespaces/weir/tables", 405),
        ("DELETE", "/iceberg/v1/namespaces/weir/tables/t", 405),
        ("GET", "/iceberg/v1/namespaces/weir/tables/t", 404),
        ("GET", "/iceberg/v1/nothing", 404),
    ]:
        status, body, _ = ask(node, path, method)
        assert (status, body["error"]["code"]) == (code, code), path
        assert body["error"]["message"] and body["error"]["type"]
    catalog = load_catalog("weir", type="rest", uri=f"http://{node.http}/iceberg")
    # Engines do not even try what is not among the endpoints.
    with pytest.raises(NotImplementedError):
        catalog.create_namespace("mine")
    off = start(make_node, place, "off")
    status, body, _ = ask(off, "/iceberg/v1/config")
    assert status == 404 and "catalog is off" in body["error"]["message"]


@pytest.mark.parametrize("store", ["file"])
def test_settings_that_cannot_be_are_refused(place):
    for arguments, says in [
        (["--catalog", "sts"], "--catalog-role"),
        (["--catalog", "sts", "--catalog-role", ROLE], "s3://"),
        (["--catalog", "all"], "off, none, sts or proxy"),
        (["--catalog-lifetime", "1min"], "between 15m and 12h"),
    ]:
        done = subprocess.run(
            [binary(), "serve", "--store", place.url, "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", *arguments],
            capture_output=True, text=True, timeout=60,
        )
        assert done.returncode != 0 and says in done.stderr, done.stderr


@pytest.mark.parametrize("store", ["file"])
def test_who_may_not_read_a_topic_does_not_see_its_table(make_node, place):
    def run(*arguments, text=None):
        done = subprocess.run(
            [binary(), *arguments, "--store", place.url], input=text, capture_output=True, text=True, timeout=60,
        )
        assert done.returncode == 0, done.stderr

    node = start(make_node, place, "proxy")
    for topic in ("orders", "secrets"):
        set_up(place, topic, **SOON)
        produce(node.kafka, topic, "none", 30)
        archived(place, topic)
    run("user", "create", "root", "--superuser", "--password-stdin", text="root's password")
    run("user", "create", "alice", "--password-stdin", text="pencil")
    run("acl", "add", "--allow", "User:alice", "--operation", "read", "--topic", "orders")
    uri = f"http://{node.http}/iceberg"

    # Nobody in particular sees nothing, and nothing is shown of what there is.
    nobody = load_catalog("weir", type="rest", uri=uri)
    assert nobody.list_tables("weir") == []
    with pytest.raises(NoSuchTableError):
        nobody.load_table("weir.orders")
    for credential in ("alice:wrong", "mallory:pencil"):
        with pytest.raises((OAuthError, UnauthorizedError, RESTError)):
            load_catalog("weir", type="rest", uri=uri, credential=credential)

    alice = load_catalog("weir", type="rest", uri=uri, credential="alice:pencil")
    assert alice.list_tables("weir") == [("weir", "orders")]
    table = alice.load_table("weir.orders")
    assert table.scan().to_arrow().num_rows == 30
    with pytest.raises(NoSuchTableError):
        alice.load_table("weir.secrets")
    assert load_catalog("weir", type="rest", uri=uri, credential="root:root's password").list_tables("weir") == [
        ("weir", "orders"), ("weir", "secrets")
    ]
    connection = attach(node, place, "proxy", f"CLIENT_ID 'alice', CLIENT_SECRET 'pencil', ENDPOINT '{uri}'")
    assert len(read_in_duckdb(connection, "orders")) == 30
    basic = base64.b64encode(b"alice:pencil").decode()
    path = "/iceberg/v1/namespaces/weir/tables"
    assert ask(node, path, headers={"Authorization": f"Basic {basic}"})[1]["identifiers"] == [
        {"namespace": ["weir"], "name": "orders"}
    ]
    for bad in ("Bearer nothing", "Basic nothing", "Digest nothing"):
        assert ask(node, path, headers={"Authorization": bad})[0] == 401

    # May be told of it, and not read it.
    run("acl", "add", "--allow", "User:alice", "--operation", "describe", "--topic", "secrets")
    wait_until(lambda: alice.table_exists("weir.secrets"), 20, "the rule to hold")
    with pytest.raises(ForbiddenError):
        alice.load_table("weir.secrets")

    # What was given is worth nothing once the right is gone.
    run("acl", "remove", "--principal", "User:alice", "--operation", "read", "--topic", "orders")

    def refused():
        try:
            table.scan().to_arrow()
        except OSError as error:
            return "ACCESS_DENIED" in str(error) or "403" in str(error)

    wait_until(refused, 20, "files to be refused")
    run("user", "alter", "alice", "--disabled", "yes")
    wait_until(lambda: ask(node, "/iceberg/v1/namespaces/weir/tables", headers={
        "Authorization": f"Basic {basic}"})[0] == 401, 90, "the user to be turned away")
