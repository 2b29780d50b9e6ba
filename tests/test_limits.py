"""What it may cost: time to start, memory."""
import threading
import time

import pytest
from confluent_kafka import Consumer

from harness import corpus
from harness.traffic import producer
from harness.wire import Connection, array, batch, data, i16, i32, string

START_UP = 2.0  # seconds
MEMORY = 512 << 20  # bytes


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("store", ["file", "minio"])
def test_a_node_starts_in_two_seconds_with_a_hundred_thousand_slices(make_node, place, names):
    """A request to 1,000 partitions makes 1,000 slices; a hundred requests make as many commits."""
    node, topic = make_node(place).start(), names("topic")
    partitions, rounds = 1000, 100
    places = [i32(part) + data(batch([b"slice of %d" % part])) for part in range(partitions)]
    body = string(None) + i16(-1) + i32(30_000) + array([string(topic) + array(places)])
    with Connection(node.kafka, 60) as wire:
        assert wire.create_topic(topic, partitions) == 0
        for number in range(rounds):
            answer = wire.answer("produce", 7, body)
            assert answer.i32() == 1 and answer.string() == topic and answer.i32() == partitions
            for _ in range(partitions):
                answer.i32()
                assert (answer.i16(), answer.i64()) == (0, number)
                answer.take(8 + 8)
    for how in (node.kill, node.stop):
        took = []
        for _ in range(3):
            how()
            took.append(node.start().start_up)
        print(f"started in {took} s with {partitions * rounds} slices")
        assert min(took) < START_UP, "whatever else the machine does makes it slower, never faster"
        with Connection(node.kafka) as wire:
            for part in (0, 499, 999):
                assert wire.list_offsets(topic, part, -1) == (0, rounds)
                assert wire.fetch(topic, part, 50)[0] == 0


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("store", ["file", "minio"])
def test_memory_is_bounded_while_one_saturates_it_and_one_reads_from_the_start(node, drivers, names):
    """More goes through than the node may ever have in memory."""
    topic, wanted = names("topic"), 2 * MEMORY
    drivers("librdkafka", node.kafka).create_topic(topic=topic, partitions=4)
    lines = corpus.lines()
    # Records of about 10 kB of the corpus, each another piece of it.
    values = [b"\n".join(lines[at:at + 180]) for at in range(0, 180_000, 180)]
    read, stop, failures = [0], threading.Event(), []

    def consume():
        consumer = Consumer({
            "bootstrap.servers": node.kafka, "group.id": names("group"), "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 32768,
        })
        consumer.subscribe([topic])
        while not stop.is_set():
            for message in consumer.consume(1000, 0.1):
                if message.error():
                    failures.append(str(message.error()))
                else:
                    read[0] += len(message.value())
        consumer.close()

    reader = threading.Thread(target=consume, daemon=True)
    reader.start()
    acknowledged = [0]

    def told(error, message):
        if error:
            failures.append(str(error))
        else:
            acknowledged[0] += len(message.value())

    sender = producer(node.kafka, **{"queue.buffering.max.kbytes": 65536, "linger.ms": 20})
    begun, number = time.monotonic(), 0
    while acknowledged[0] < wanted and time.monotonic() - begun < 120:
        try:
            sender.produce(topic, values[number % len(values)], partition=number % 4, on_delivery=told)
            number += 1
        except BufferError:
            sender.poll(0.05)
        sender.poll(0)
    assert sender.flush(60) == 0 and not failures, failures[:3]
    seconds = time.monotonic() - begun
    while read[0] < acknowledged[0] and time.monotonic() - begun < 200:
        time.sleep(0.1)
    stop.set()
    reader.join(20)
    peak = node.peak_memory()
    print(f"{acknowledged[0] >> 20} MiB in {seconds:.1f} s, the node had at most {peak >> 20} MiB")
    assert acknowledged[0] >= wanted, f"only {acknowledged[0] >> 20} MiB in {seconds:.0f} s"
    assert read[0] == acknowledged[0]
    assert peak < MEMORY
