"""What the drivers written in Python share: the loop that answers requests, and a consumer's buffer.

The requests are described in tests/README.md. A driver is a class with a method for each request it
can do, `abilities` (what it can do beside), and `code(error)`, Kafka's number of an error or None.
"""
import concurrent.futures
import json
import os
import queue
import sys
import threading
import time

WAIT = 20  # seconds, for whatever a request waits for


class Buffer:
    """Records that a member has read and that nobody has taken yet."""

    def __init__(self):
        self.records, self.changed, self.error = [], threading.Condition(), None

    def add(self, records):
        with self.changed:
            self.records += records
            self.changed.notify_all()

    def fail(self, error):
        with self.changed:
            self.error = error
            self.changed.notify_all()

    def take(self, count, ms):
        """At least `count` records, or what there is after `ms`; all that are there."""
        deadline = time.monotonic() + ms / 1000
        with self.changed:
            while len(self.records) < count and not self.error:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.changed.wait(left)
            if self.error:
                raise self.error
            taken, self.records = self.records, []
            return taken


class Member:
    """A consumer in a thread of its own, which polls it and does what others ask of it.

    `make` makes the consumer, `poll` gives the records of one poll, a fraction of a second long.
    """

    def __init__(self, make, poll):
        self.make, self.poll, self.buffer = make, poll, Buffer()
        self.asked, self.leaving = queue.Queue(100), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            consumer = self.make()
            while not self.leaving.is_set():
                if records := self.poll(consumer):
                    self.buffer.add(records)
                while not self.asked.empty():
                    work, result = self.asked.get()
                    try:
                        result.set_result(work(consumer))
                    except Exception as error:  # noqa: BLE001: the asker gets it
                        result.set_exception(error)
            consumer.close()
        except Exception as error:  # noqa: BLE001: the next taker gets it
            self.buffer.fail(error)

    def ask(self, work):
        result = concurrent.futures.Future()
        self.asked.put((work, result))
        return result.result(WAIT)

    def leave(self):
        self.leaving.set()
        self.thread.join(WAIT)


def text(data):
    return None if data is None else data.decode()


def raw(value):
    return None if value is None else value.encode()


def record(topic, partition, offset, timestamp, key, value, headers):
    return {
        "topic": topic, "partition": partition, "offset": offset, "timestamp": timestamp,
        "key": text(key), "value": text(value),
        "headers": [[name, text(content)] for name, content in headers or []],
    }


def serve(make):
    """Answers the requests on standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    driver = make(sys.argv[1])
    requests = [name for name in dir(driver) if not name.startswith("_")]
    answers.write(json.dumps({"ok": sorted({*requests, *driver.abilities})}) + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": getattr(driver, request.pop("do"))(**request)}
        except Exception as error:  # noqa: BLE001: every error is the answer to the request
            answer = {"error": {"code": driver.code(error), "text": f"{type(error).__name__}: {error}"}}
        answers.write(json.dumps(answer) + "\n")
    os._exit(0)
