"""A Weir node as a process."""
import json
import os
import pathlib
import time
import urllib.request

from .process import Process, free_port
from .stores import ROOT, answers


def binary():
    """The program under test: WEIR_BIN, or the release build of this checkout."""
    target = os.environ.get("CARGO_TARGET_DIR") or ROOT / "target"
    return pathlib.Path(os.environ.get("WEIR_BIN") or pathlib.Path(target) / "release" / "weir")


class Node(Process):
    """`weir serve` on fixed free ports, so that it comes back where it was.

    `advertise` is what it tells clients to connect to: its own address when it is not given. For each security protocol
    in `security` it also listens at `.secured[protocol]`.
    """

    def __init__(self, name, store_url, log, env=None, advertise=None, arguments=(), detached=False,
                 kafka_port=None, http_port=None, security=()):
        self.secured = {protocol: f"127.0.0.1:{free_port()}" for protocol in security}
        self.kafka = f"127.0.0.1:{kafka_port or free_port()}"
        self.http = f"127.0.0.1:{http_port or free_port()}"
        super().__init__(
            name,
            [binary(), "serve", "--store", store_url,
             "--kafka", ",".join([self.kafka, *(f"{protocol}://{at}" for protocol, at in self.secured.items())]),
             "--http", self.http,
             "--amqp", "off", "--advertise", advertise or self.kafka, *arguments],
            log, env, detached,
        )

    def start(self, wait=True, seconds=30):
        """Starts it; with `wait` until it says that it is ready. Seconds that took in `.start_up`."""
        begun = time.monotonic()
        super().start()
        if wait:
            self.await_ready(self.ready, seconds)
        self.start_up = time.monotonic() - begun
        return self

    def ready(self):
        return answers(f"http://{self.http}/readyz")

    def get(self, path):
        """The body of a GET from its HTTP front end."""
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as response:
            return response.read().decode()

    def metrics(self):
        """Its metrics: {name: {labels as text: value}}."""
        values = {}
        for line in self.get("/metrics").splitlines():
            if line and not line.startswith("#"):
                key, _, rest = line.rpartition(" ")
                name, _, labels = key.partition("{")
                values.setdefault(name, {})[labels.rstrip("}")] = float(rest)
        return values

    def described(self):
        return json.dumps({"name": self.name, "kafka": self.kafka, "http": self.http, "pid": self.pid})
