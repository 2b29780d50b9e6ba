"""HAProxy in front of the Kafka listeners of some nodes."""
import os
import pathlib
import shutil

from .process import Process, free_port
from .stores import ROOT, answers


class LoadBalancer(Process):
    """`infra/haproxy.cfg` with the addresses of processes instead of those of containers.

    `backends` are (name, Kafka address, HTTP address). A node takes connections while its
    `/readyz` answers.
    """

    def __init__(self, directory, log, backends, port=None, detached=False):
        self.port, self.stats = port or free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.config = directory / "haproxy.cfg"
        self.config.write_text(self.configuration(backends))
        super().__init__("haproxy", [self.program(), "-f", self.config], log, None, detached)

    @staticmethod
    def program():
        # Debian keeps it where only root looks.
        return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

    @classmethod
    def missing(cls):
        return None if cls.program() else "haproxy: run tests/setup as root, or install it"

    def configuration(self, backends):
        kept = []
        for line in (ROOT / "infra/haproxy.cfg").read_text().splitlines():
            words = line.split()
            if words[:1] == ["server"]:
                continue
            if words == ["bind", ":9092"]:
                line = f"    bind {self.address}"
            if words == ["bind", ":8404"]:
                line = f"    bind 127.0.0.1:{self.stats}"
            kept.append(line)
            if words == ["#", "nodes"]:
                kept += [
                    f"    server {name} {kafka} check addr {http.rpartition(':')[0]}"
                    f" port {http.rpartition(':')[2]}"
                    for name, kafka, http in backends
                ]
        return "\n".join(kept) + "\n"

    def start(self):
        super().start()
        self.await_ready(lambda: answers(f"http://127.0.0.1:{self.stats}/healthz"), 10)
        return self
