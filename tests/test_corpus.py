"""A million real records go in through librdkafka and come out of a group of the Java client."""
import struct

import pytest

from harness import corpus
from harness.traffic import produce_all

PARTITIONS = 6


def round_trip(bootstrap, drivers, topic, group, directory, records):
    """Byte for byte, in order, each record once."""
    java = drivers("java", bootstrap)
    java.create_topic(topic=topic, partitions=PARTITIONS)
    told = produce_all(
        bootstrap, topic, ((corpus.key(line), line) for line in records),
        **{"compression.type": "lz4", "linger.ms": 50, "queue.buffering.max.kbytes": 65536},
    )
    produced = told.by_partition()
    assert sum(map(len, produced.values())) == len(records)
    read = java.request("drain", 300, group=group, topic=topic, members=2, count=len(records),
                        directory=str(directory))
    assert sum(read.values()) == len(records) and all(read.values()), f"both members read: {read}"
    for partition, values in produced.items():
        content, at, number = (directory / str(partition)).read_bytes(), 0, 0
        for number, want in enumerate(values):
            offset, length = struct.unpack_from(">qi", content, at)
            at += 12
            assert offset == number and content[at:at + length] == want, (partition, number)
            at += length
        assert at == len(content), f"partition {partition} holds more than was produced"
    java.delete_topic(topic=topic)


@pytest.mark.kafka
def test_real_records_come_back_byte_for_byte(bootstrap, drivers, names, tmp_path):
    round_trip(bootstrap, drivers, names("corpus"), names("group"), tmp_path, corpus.lines()[::10])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_million_real_records_come_back_byte_for_byte(node, drivers, names, tmp_path):
    assert len(corpus.lines()) >= 1_000_000
    round_trip(node.kafka, drivers, names("corpus"), names("group"), tmp_path, corpus.lines())
