"""The stores that a cluster can run on here: a folder, LocalStack, MinIO.

Each has `bucket(name)`, which gives the `--store` URL of an empty place, and `env`, what a client
of it needs in its environment.
"""
import importlib.machinery
import importlib.util
import os
import pathlib
import shutil
import urllib.request

from .process import Process, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
SETUP = pathlib.Path(os.environ.get("WEIR_SETUP_DIR") or ROOT / "target" / "setup")

_loader = importlib.machinery.SourceFileLoader(
    "create_bucket", str(ROOT / "localstack" / "create-bucket")
)
_script = importlib.util.module_from_spec(importlib.util.spec_from_loader("create_bucket", _loader))
_loader.exec_module(_script)
create_bucket, signed_put = _script.create_bucket, _script.signed_put


def answers(url):
    """Whether a GET of `url` gives 200 within a second."""
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return response.status == 200
    except OSError:
        return False


class FileStore:
    """A folder of this machine. Nothing to start."""

    name, env, process = "file", {}, None

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    @staticmethod
    def missing():
        return None

    def start(self):
        return self

    def bucket(self, name):
        path = self.directory / name
        path.mkdir(parents=True, exist_ok=True)
        return f"file://{path}"

    def stop(self):
        pass


class S3Store:
    """A process that speaks S3 on a free port."""

    access, secret = "test", "test"

    def __init__(self, directory, log=None, port=None, detached=False):
        self.directory, self.port = pathlib.Path(directory), port or free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.process = Process(
            self.name, self.command(), log or self.directory / f"{self.name}.log",
            self.environment(), detached,
        )

    @property
    def env(self):
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_REGION": "us-east-1",
        }

    def environment(self):
        return {}

    def start(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process.start()
        self.process.await_ready(lambda: answers(self.endpoint + self.health), 60)
        return self

    def bucket(self, name):
        create_bucket(self.endpoint, name, self.access, self.secret)
        return f"s3://{name}/cluster"

    def stop(self):
        self.process.stop()


class LocalStack(S3Store):
    """LocalStack in host mode. What it stores is gone when it stops."""

    name, health = "localstack", "/_localstack/health"

    @staticmethod
    def missing():
        return None if (SETUP / "localstack/bin/python").exists() else "LocalStack: run tests/setup"

    def command(self):
        return [ROOT / "localstack/start", SETUP / "localstack", self.directory, self.port]


class MinIO(S3Store):
    """One MinIO server on a folder."""

    name, health = "minio", "/minio/health/ready"
    access, secret = "weir-tests", "weir-tests-secret"

    @staticmethod
    def binary():
        found = SETUP / "bin/minio"
        return found if found.exists() else shutil.which("minio")

    @classmethod
    def missing(cls):
        return None if cls.binary() else "MinIO: run tests/setup"

    def command(self):
        return [
            self.binary(), "server", self.directory / "data", "--quiet",
            "--address", f"127.0.0.1:{self.port}", "--console-address", f"127.0.0.1:{free_port()}",
        ]

    def environment(self):
        return {
            "MINIO_ROOT_USER": self.access, "MINIO_ROOT_PASSWORD": self.secret,
            "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_CALLHOME_ENABLE": "off",
        }
