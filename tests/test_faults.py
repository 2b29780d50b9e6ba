"""Real nodes, real clients, real faults: counted, and nothing that was acknowledged may be missing.

The schedule of faults comes from a seed, which is printed: WEIR_FAULTS_SEED repeats it. WEIR_FAULTS_SECONDS
makes the storms longer than in CI: `make soak-faults SECONDS=3600`.
"""
import concurrent.futures
import os
import pathlib
import random
import subprocess
import threading
import time

import pytest

from harness.storm import Cluster, Schedule, Traffic, flood, read_log, table
from harness.traffic import Acknowledged

SEED = int(os.environ.get("WEIR_FAULTS_SEED") or random.SystemRandom().randrange(1_000_000))
SECONDS = float(os.environ.get("WEIR_FAULTS_SECONDS") or 30)
PARTITIONS = 6
MEMORY = 512  # MiB
BACK = 20  # seconds after the end of faults, at most, until everybody writes and reads again


def judge(name, row):
    print("\n" + table(name, row))
    print(f"offset commits that were refused: {row['commits refused']}")
    report = pathlib.Path(os.environ.get("WEIR_FAULTS_REPORT", os.devnull))
    with open(report, "a") as lines:
        lines.write(f"seed {SEED}\n{table(name, row)}\n")
    bad = {what: row[what] for what in (
        "lost", "duplicated", "out of order", "gaps", "failed", "unread", "read wrong", "failures",
    ) if row[what]}
    assert not bad, (bad, row["errors"], f"seed {SEED}")
    assert row["acknowledged"] > 1000
    assert row["peak MiB"] < MEMORY
    assert max(row["writes back s"], row["reads back s"]) < BACK, f"seed {SEED}"


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 240)
@pytest.mark.parametrize("store", ["localstack", "minio"])
def test_a_storm_of_faults_loses_and_doubles_nothing(make_node, stores, drivers, names, store):
    """Nodes are killed and paused, their stores refuse, fail, hang and lose answers, all at once."""
    schedule = Schedule(SEED, 3, SECONDS)
    print(f"\nseed {SEED}, {store}\n{schedule}")
    cluster = Cluster(stores(store), make_node, SEED)
    try:
        traffic = Traffic(cluster, drivers, names, PARTITIONS)
        for proxy in cluster.proxies:
            proxy.rate = 0.02
        over = cluster.run(schedule)
        for proxy in cluster.proxies:
            proxy.rate = 0
        row = traffic.finish(over)
        done = {}
        for proxy in cluster.proxies:
            for kind, count in proxy.done.items():
                done[kind] = done.get(kind, 0) + count
        print("faults of requests to the store:", {kind: count for kind, count in done.items() if count})
        judge(f"storm on {store}", row)
        assert all(node.running for node in cluster.nodes), "no fault of the store ends a node"
    finally:
        cluster.stop()
