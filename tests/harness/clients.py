"""The Kafka clients under test, each behind the same requests (tests/README.md lists them)."""
import json
import os
import pathlib
import selectors
import subprocess
import sys
import time

from local import SETUP

CLIENTS = pathlib.Path(__file__).resolve().parents[1] / "clients"


class ClientError(Exception):
    """A client answered with an error. `code` is Kafka's number of it where the client tells it."""

    def __init__(self, client, request, error):
        super().__init__(f"{client}: {request}: {error['text']} (code {error['code']})")
        self.code, self.text = error["code"], error["text"]


def python(name):
    return [sys.executable, CLIENTS / "python" / f"with_{name}.py"]


COMMANDS = {
    "librdkafka": lambda: python("librdkafka"),
    "kafka-python": lambda: python("kafka_python"),
    "aiokafka": lambda: python("aiokafka"),
    "kafkajs": lambda: ["node", CLIENTS / "node" / "driver.js"],
    "java": lambda: [
        # It lives for seconds: what a JVM does to be fast later costs more than it brings.
        "java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp",
        f"{SETUP}/java/classes:{SETUP}/java/lib/*", "weir.Driver",
    ],
}


class Client:
    """A driver process. Each request of the protocol is a method: `client.produce(topic=...)`."""

    def __init__(self, name, bootstrap, log):
        self.name = name
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [*map(str, COMMANDS[name]()), bootstrap], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors,
                env={**os.environ, "NODE_PATH": f"{SETUP}/node/node_modules",
                     "KAFKAJS_NO_PARTITIONER_WARNING": "1"},
            )
        self.pending = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.can = set(self.answer("start", 40))

    def __getattr__(self, request):
        def ask(**arguments):
            return self.request(request, 60, **arguments)

        return ask

    def request(self, request, seconds, **arguments):
        line = json.dumps({"do": request, **arguments}) + "\n"
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        return self.answer(f"{request} {line[:200].strip()}", seconds)

    def answer(self, request, seconds):
        deadline = time.monotonic() + seconds
        while b"\n" not in self.pending:
            if not self.selector.select(max(0, deadline - time.monotonic())):
                self.process.kill()
                raise TimeoutError(f"{self.name} did not answer within {seconds} s: {request}")
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                raise EOFError(f"{self.name} ended with {self.process.wait(10)} at: {request}")
            self.pending += data
        line, _, self.pending = self.pending.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(self.name, request, answer["error"])
        return answer["ok"]

    def close(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()
        self.selector.close()
