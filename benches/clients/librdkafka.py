"""librdkafka as a program uses it: produces for some seconds, then reads it all; prints one JSON line.

    librdkafka.py BOOTSTRAP TOPIC SECONDS

The topic is there. Messages are 1 KiB of bytes that cannot be compressed, the producer is idempotent, and everything
else is the client's default but for its queue, which holds a second's worth.
"""
import json
import os
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

MESSAGE = 1024
QUEUE_KIB = 256 * 1024


def produce(bootstrap, topic, partitions, seconds):
    failed = []

    def settled(error, _message):
        if error is not None:
            failed.append(str(error))

    producer = Producer({
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "queue.buffering.max.kbytes": QUEUE_KIB,
        "queue.buffering.max.messages": 2_000_000,
    })
    messages = [os.urandom(MESSAGE) for _ in range(64)]
    begun, sent = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        for _ in range(1000):
            try:
                producer.produce(topic, messages[sent % 64], partition=sent // 500 % partitions, on_delivery=settled)
                sent += 1
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    if producer.flush(60) or failed:
        raise SystemExit(f"{len(producer)} messages are left, {len(failed)} failed: {failed[:1]}")
    return sent, time.monotonic() - begun


def consume(bootstrap, topic, partitions, count):
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": f"{topic}-{time.time_ns()}",
        "enable.auto.commit": False,
        "queued.max.messages.kbytes": QUEUE_KIB // partitions,
    })
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    begun, got = time.monotonic(), 0
    while got < count:
        # It waits until there are as many.
        batch = consumer.consume(min(10_000, count - got), 30)
        if not batch:
            raise SystemExit(f"nothing came for 30 s after {got} of {count} messages")
        for message in batch:
            if message.error():
                raise SystemExit(str(message.error()))
        got += len(batch)
    took = time.monotonic() - begun
    consumer.close()
    return took


def main():
    bootstrap, topic, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    partitions = 8
    sent, took = produce(bootstrap, topic, partitions, seconds)
    read = consume(bootstrap, topic, partitions, sent)
    megabytes = sent * MESSAGE / 1e6
    print(json.dumps({"produce": megabytes / took, "consume": megabytes / read}))


if __name__ == "__main__":
    main()
