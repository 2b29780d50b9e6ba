"""One process: started with its output in a file, signalled, awaited."""
import ctypes
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1


class ProcessDied(Exception):
    """The process ended though nobody asked it to; carries the end of its log."""


# Below those from which systems choose the ports of connections: what is stopped and started again finds its port free.
PORTS = range(15_000, 32_000)
_given = set()


def free_port():
    """A port of the loopback that nobody listens on, and that this process was not given before."""
    while True:
        port = random.choice(PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            # As servers do: connections of a former one that linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def wait_until(condition, seconds, what, every=0.05):
    """The first true value of `condition()`; a TimeoutError that says `what` was awaited."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(every)


def _die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child process whose output goes to the end of `log`.

    `detached` ones go on when this program ends; the others are killed with it, however it ends.
    """

    def __init__(self, name, command, log, env=None, detached=False):
        self.name, self.command, self.log = name, [str(part) for part in command], pathlib.Path(log)
        self.env, self.detached = {**os.environ, **(env or {})}, detached
        self.child = None

    @property
    def pid(self):
        return self.child.pid if self.child else None

    @property
    def running(self):
        return self.child is not None and self.child.poll() is None

    def start(self):
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as output:
            output.write(f"--- {' '.join(self.command)}\n".encode())
            self.started_at = output.tell()
            self.child = subprocess.Popen(
                self.command, env=self.env, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=self.detached,
                preexec_fn=None if self.detached else _die_with_parent,
            )
        return self

    def output(self):
        """What it has written since it was last started."""
        if not self.log.exists():
            return ""
        with open(self.log, "rb") as log:
            log.seek(self.started_at)
            return log.read().decode(errors="replace")

    def tail(self, lines=40):
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def await_ready(self, condition, seconds=30):
        """Waits for `condition()`; a process that ends first is an error with its log."""

        def ready():
            if not self.running:
                raise ProcessDied(
                    f"{self.name} ended with {self.child.returncode}:\n{self.tail()}"
                )
            return condition()

        try:
            return wait_until(ready, seconds, f"{self.name} to be ready")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.tail()}") from None

    def kill(self):
        """SIGKILL: no goodbye, as when the machine goes."""
        if self.running:
            self.child.kill()
            self.child.wait(30)

    def stop(self, seconds=30):
        """SIGTERM, and the exit code. One that does not stop in time is killed: a TimeoutError."""
        if not self.running:
            return self.child.returncode if self.child else None
        self.child.terminate()
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"{self.name} did not stop within {seconds} s\n{self.tail()}") from None

    def pause(self):
        self.child.send_signal(signal.SIGSTOP)

    def resume(self):
        self.child.send_signal(signal.SIGCONT)

    def peak_memory(self):
        """The most bytes of memory it has ever had resident."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise ProcessDied(f"{self.name} has no memory figure: it has ended")
