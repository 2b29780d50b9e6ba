"""The REST catalog: engines attach to a node and read the tables of archived topics."""
import json
import os
import urllib.error
import urllib.request

import polars
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

from test_archive import FAST, SOON, archived, produce, set_up


def ask(node, path, method="GET", headers=None):
    """Status and JSON of an answer."""
    request = urllib.request.Request(f"http://{node.http}{path}", method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
            return answer.status, json.loads(body) if body else None, answer.headers
    except urllib.error.HTTPError as error:
        body = error.read()
        return error.code, json.loads(body) if body else None, error.headers


@pytest.mark.parametrize("store", ["file"])
def test_a_table_is_found_by_its_catalog_and_read(make_node, place, store):
    node = make_node(place, env=FAST).start()
    set_up(place, "orders.eu-1", **SOON)
    produce(node.kafka, "orders.eu-1", "zstd", 700)
    table = archived(place, "orders.eu-1")
    catalog = load_catalog("weir", type="rest", uri=f"http://{node.http}/iceberg")
    assert catalog.list_namespaces() == [("weir",)]
    assert catalog.list_tables("weir") == [("weir", "orders_eu_1")]
    loaded = catalog.load_table("weir.orders_eu_1")
    rows = loaded.scan().to_arrow()
    assert rows.num_rows == table["rows"] == 700
    assert len(set(zip(rows["partition"].to_pylist(), rows["offset"].to_pylist()))) == 700
    assert polars.scan_iceberg(loaded).select(polars.len()).collect().item() == 700
    assert os.path.exists(loaded.metadata_location.removeprefix("file://"))
    with pytest.raises(NoSuchTableError):
        catalog.load_table("weir.nothing")
    with pytest.raises(NoSuchNamespaceError):
        catalog.list_tables("other")

    path = "/iceberg/v1/namespaces/weir/tables/orders_eu_1"
    status, body, headers = ask(node, path)
    assert status == 200 and body["metadata"]["format-version"] == 2
    assert ask(node, path, headers={"If-None-Match": headers["ETag"]})[0] == 304
    refs = ask(node, path + "?snapshots=refs")[1]
    assert [snapshot["snapshot-id"] for snapshot in refs["metadata"]["snapshots"]] == [
        body["metadata"]["current-snapshot-id"]
    ]
    # What is new is there at once, without waiting for anybody to publish it.
    produce(node.kafka, "orders.eu-1", "none", 300)
    archived(place, "orders.eu-1")
    assert catalog.load_table("weir.orders_eu_1").scan().to_arrow().num_rows == 1000


@pytest.mark.parametrize("store", ["file"])
def test_the_catalog_is_read_only_and_says_so(make_node, place, store):
    node = make_node(place, env=FAST).start()
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
