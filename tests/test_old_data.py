"""Data gets old while it is written and read, and nodes are killed: it expires, is compacted and deleted, and nothing else.

WEIR_OLD_DATA_SECONDS makes it longer than in CI (`make soak-old-data MINUTES=30`): what dies is deleted after the grace period
of six minutes and the log is cut after ten, so it takes some twenty until the bucket is as large as it gets, and only a run of
25 minutes or more judges that. WEIR_OLD_DATA_SEED repeats a schedule of kills, WEIR_OLD_DATA_REPORT is a file for the counts.
"""
import json
import os
import pathlib
import random
import time

import pytest

from harness.old_data import Gauge, Killer, Tail, Walker, Writer
from harness.storm import fsck
from local import wait_until
from test_log_compaction import EAGER, create

SECONDS = float(os.environ.get("WEIR_OLD_DATA_SECONDS") or 60)
SEED = int(os.environ.get("WEIR_OLD_DATA_SEED") or random.SystemRandom().randrange(1_000_000))
LONG = 25 * 60  # from so many seconds on it is judged whether the bucket grows
RETENTION = 120 if SECONDS > 300 else 30
KEYS = 300
# As small as they go, so that everything comes round within minutes.
ARGUMENTS = [
    "--deletion-grace", "6min", "--sweep-age", "5min", "--sweep-interval", "1min", "--maintenance-interval", "1s",
    "--compaction-target", "1MiB", "--compaction-min-age", "2s", "--compaction-max-wait", "10s",
]
DONE = ["retention", "compaction", "log_compaction"]
LATER = ["deletion", "truncation", "sweep"]


class Counts:
    """Sums of counters over nodes that are killed: what each run of a node had counted when it was last asked."""

    def __init__(self, nodes):
        self.nodes, self.seen = nodes, {}

    def look(self):
        for node in self.nodes:
            try:
                self.seen[node.name, node.pid] = node.metrics()
            except OSError:
                pass  # it is dead, or not up yet

    def sum(self, name, labels=""):
        return int(sum(metrics.get(name, {}).get(labels, 0) for metrics in self.seen.values()))

    def sent(self):
        """Bytes of bodies that were sent to the store."""
        return int(sum(
            value for metrics in self.seen.values()
            for labels, value in metrics.get("weir_store_request_bytes_total", {}).items() if "sent" in labels
        ))

    def tasks(self, name):
        return {task: self.sum(name, f'task="{task}"') for task in [*DONE, *LATER]}


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 400)
@pytest.mark.parametrize("store", ["minio"])
def test_old_data_goes_and_nothing_else_does(make_node, place, names, store):
    nodes = [make_node(place, f"weir-{number}", arguments=ARGUMENTS).start() for number in (1, 2, 3)]
    bootstrap = ",".join(node.kafka for node in nodes)
    plain, table, both = names("plain"), names("table"), names("both")
    keep = {"retention.ms": str(RETENTION * 1000)}
    create(bootstrap, plain, 6, keep)
    create(bootstrap, table, 3, {**EAGER, "delete.retention.ms": "5000"})
    create(bootstrap, both, 3, {**EAGER, **keep, "cleanup.policy": "compact,delete"})
    writers = [
        Writer(bootstrap, plain, 0, 200, 1000, SEED),
        Writer(bootstrap, table, KEYS, 100, 300, SEED + 1),
        Writer(bootstrap, both, KEYS, 60, 300, SEED + 2),
    ]
    ledgers = [writer.ledger for writer in writers]
    tail = Tail(bootstrap, plain, 6, ledgers[0], RETENTION)
    topics = [
        (plain, 6, ledgers[0], RETENTION, False), (table, 3, ledgers[1], None, True),
        (both, 3, ledgers[2], RETENTION, True),
    ]
    walker = Walker(bootstrap, topics, 10)
    gauge, counts, killer = Gauge(place.url, place.env, 10), Counts(nodes), Killer(nodes, SEED)
    threads = [*writers, tail, walker, gauge]
    load = os.getloadavg()[0]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    killer.run(began + SECONDS, counts.look)
    for node in nodes:
        wait_until(node.ready, 30, f"{node.name} to be ready")
    left = sum(writer.finish() for writer in writers)
    wait_until(lambda: sum(tail.next.values()) >= ledgers[0].acknowledged, 60, "the tail to be read")
    for thread in [tail, walker, gauge]:
        thread.stopping.set()
        thread.join(90)
    tail.settle()
    before = walker.walks
    ends = [walker.walk(*topic) for topic in topics]
    assert walker.walks == before + 3, "at the end all can be read"
    gauge.sample()
    damage = fsck(place.url, place.env)
    counts.look()
    row = {
        "seed": SEED, "seconds": round(time.monotonic() - began), "load": [load, os.getloadavg()[0]],
        "acknowledged": [ledger.acknowledged for ledger in ledgers], "sent": [writer.sent for writer in writers],
        "kills": killer.kills, "read by the tail": tail.read, "expired before that": tail.missed,
        "walks": walker.walks, "walks given up": walker.gave_up,
        "oldest record of a topic with retention, s": round(walker.oldest, 1),
        "records at the end": [len(found) for found in ends],
        "longest pause of acknowledgements, s": [round(ledger.longest, 1) for ledger in ledgers],
        "runs": counts.tasks("weir_maintenance_runs_total"),
        "failures": counts.tasks("weir_maintenance_failures_total"),
        "deleted objects": {
            kind: counts.sum("weir_maintenance_deleted_objects_total", f'kind="{kind}"')
            for kind in ("segment", "commit", "orphan", "snapshot")
        },
        "bytes put": counts.sent(),
        "bytes in the bucket": [gauge.most("bytes", at / 4, at / 4 + 0.25) for at in range(4)],
        "objects in the bucket": [gauge.most("objects", at / 4, at / 4 + 0.25) for at in range(4)],
        "slices": [gauge.most("slices", at / 4, at / 4 + 0.25) for at in range(4)],
        "the last sample": gauge.samples[-1],
    }
    print("\n" + json.dumps(row, indent=1))
    if report := os.environ.get("WEIR_OLD_DATA_REPORT"):
        pathlib.Path(report).write_text(json.dumps({**row, "samples": gauge.samples}, indent=1))
    errors = [error for ledger in ledgers for error in ledger.errors]
    assert not left and not errors, (left, errors[:5])
    assert not walker.wrong and not walker.failure, (walker.failure, walker.wrong[:10])
    assert not tail.wrong, tail.wrong[:10]
    assert not damage, damage
    assert not gauge.failures, gauge.failures[:3]
    # Every record is in the log once: the tail has come by as many as were sent.
    assert tail.read + tail.missed == ledgers[0].acknowledged == writers[0].sent
    assert walker.walks >= 6 and killer.kills >= 2
    # An expired record stays for as long as the slice it lies in, and until somebody looks.
    assert walker.oldest < RETENTION * 1.5 + 15
    assert all(row["runs"][task] for task in DONE), row["runs"]
    # Compacted: a record for each key, and what was written in the last seconds.
    assert len(ends[1]) < ledgers[1].acknowledged / 2
    if SECONDS >= LONG:
        assert all(row["runs"][task] for task in LATER), row["runs"]
        # Half-way through nobody is left who may delete soon: it comes to twice as much as in the first half at most.
        for figure in ("bytes in the bucket", "objects in the bucket", "slices"):
            _, second, third, fourth = row[figure]
            assert max(third, fourth) < second * 2, (figure, row[figure])
        assert max(row["bytes in the bucket"]) < 0.75 * row["bytes put"], row
        assert row["the last sample"]["bytes"] < 0.6 * row["bytes put"], row
