"""Spark, through the catalog of a node that serves the files. It is large, so it is installed by `tests/setup --spark` alone."""
import collections
import json
import subprocess
import zlib

import pytest

from conftest import HERE
from local.stores import SETUP
from test_archive import CODECS, SOON, consumed, produce, set_up
from test_catalog import archived, start

PYTHON, JARS = SETUP / "spark/bin/python", SETUP / "spark/jars"

pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(900),
    pytest.mark.skipif(not PYTHON.exists(), reason="MISSING Spark: run tests/setup --spark"),
]


@pytest.mark.parametrize("store", ["file", "minio"])
def test_spark_reads_what_a_consumer_reads(make_node, place):
    node = start(make_node, place, "proxy")
    topic = "orders.eu-1"
    set_up(place, topic, **SOON)
    for codec in CODECS:
        produce(node.kafka, topic, codec, 1000)
    archived(place, topic)
    expected = collections.defaultdict(list)
    for partition, *record in consumed(node.kafka, topic):
        expected[partition].append(record)

    def crc(values):
        return sum(zlib.crc32(value) for value in values if value is not None)

    jars = ",".join(str(jar) for jar in sorted(JARS.glob("*.jar")))
    done = subprocess.run(
        [PYTHON, HERE / "clients/spark/read.py", f"http://{node.http}/iceberg", "orders_eu_1", jars],
        capture_output=True, text=True, timeout=800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["in_files"] == 5000
    assert found["partitions"] == [
        [
            partition, len(records), 0, len(records) - 1, len(records), crc(key for _, key, _, _ in records),
            crc(value for _, _, value, _ in records), sum(time for *_, time in records),
        ]
        for partition, records in sorted(expected.items())
    ]
