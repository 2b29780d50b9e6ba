"""Fixtures: stores, nodes, clients. Every process and every file of a test is gone or kept in
target/test-logs when the test ends; the logs of the processes are shown when it fails."""
import itertools
import os
import pathlib
import re
import shutil
import sys
import uuid

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "infra")]
os.environ["PATH"] += os.pathsep + "/usr/sbin"

from harness.clients import COMMANDS, Client  # noqa: E402
from harness.reference import Reference  # noqa: E402
from local import FileStore, LoadBalancer, LocalStack, MinIO, Node  # noqa: E402
from local.node import binary  # noqa: E402
from local.stores import ROOT  # noqa: E402

LOGS = pathlib.Path(os.environ.get("WEIR_TEST_LOGS") or ROOT / "target" / "test-logs")
STORES = {"file": FileStore, "localstack": LocalStack, "minio": MinIO}
CI = os.environ.get("CI") == "true"


def pytest_addoption(parser):
    parser.addoption(
        "--reference", action="store_true",
        help="run the tests marked `kafka` against Apache Kafka instead of Weir",
    )
    parser.addoption("--bootstrap", help="... against the broker that listens at this address")


def need(missing):
    """Skips the test, loudly, when something is missing; where everything must be there it fails."""
    if missing:
        if CI:
            pytest.fail(f"MISSING {missing}", pytrace=False)
        pytest.skip(f"MISSING {missing}")


def elsewhere(config):
    """Whether the broker under test is not Weir."""
    return config.getoption("--reference") or config.getoption("--bootstrap")


def pytest_collection_modifyitems(config, items):
    if elsewhere(config):
        kept = [item for item in items if item.get_closest_marker("kafka")]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    elif not config.getoption("collectonly") and not binary().exists():
        pytest.exit(f"{binary()} is not there: cargo build --release", returncode=2)


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section("SKIPPED TESTS", sep="!", red=True)
        for report in skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            terminalreporter.line(f"NOT TESTED {report.nodeid}: {reason}", red=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if report.failed:
        for process in getattr(item, "processes", []):
            report.sections.append((f"the end of {process.log}", process.tail(60)))


@pytest.fixture(scope="session")
def fresh_logs():
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    return LOGS


@pytest.fixture
def logs(fresh_logs, request):
    """The folder of this test's logs."""
    folder = fresh_logs / re.sub(r"[^\w.-]+", "-", request.node.nodeid.removeprefix("tests/"))[:150]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def shown(request):
    """Processes added to this list have the end of their logs shown when the test fails."""
    request.node.processes = []
    return request.node.processes


@pytest.fixture(scope="session")
def stores(fresh_logs, tmp_path_factory):
    """Each store by name, started when a test first asks for it."""
    started = {}

    def get(name):
        need(STORES[name].missing())
        if name not in started:
            started[name] = STORES[name](
                tmp_path_factory.mktemp(name),
                **({} if name == "file" else {"log": fresh_logs / f"{name}.log"}),
            ).start()
        return started[name]

    yield get
    for store in started.values():
        store.stop()


class Place:
    """An empty place in a store, for one cluster."""

    def __init__(self, store):
        self.store, self.env = store, store.env
        self.url = store.bucket(f"weir-{uuid.uuid4().hex[:12]}")


@pytest.fixture(params=STORES)
def store(request):
    """Every store in turn, by name; `@pytest.mark.parametrize("store", [...])` picks some."""
    return request.param


@pytest.fixture
def place(stores, store):
    return Place(stores(store))


@pytest.fixture
def make_node(logs, shown):
    """Makes nodes (not started) that are killed when the test ends."""
    numbers, made = itertools.count(1), []

    def make(place, name=None, **options):
        name = name or f"weir-{next(numbers)}"
        node = Node(name, place.url, logs / f"{name}.log", {**place.env, **options.pop("env", {})}, **options)
        made.append(node)
        shown.append(node)
        return node

    yield make
    for node in made:
        node.kill()


@pytest.fixture
def node(make_node, place):
    """One running node on the store."""
    return make_node(place).start()


@pytest.fixture
def make_balancer(logs, shown, tmp_path):
    """HAProxy in front of nodes."""
    need(LoadBalancer.missing())
    made = []

    def make(nodes, port=None):
        balancer = LoadBalancer(
            tmp_path, logs / "haproxy.log", [(node.name, node.kafka, node.http) for node in nodes], port,
        ).start()
        made.append(balancer)
        shown.append(balancer)
        return balancer

    yield make
    for balancer in made:
        balancer.kill()


@pytest.fixture(scope="session")
def shared_broker(request, fresh_logs, tmp_path_factory):
    """One broker on the file store for all the tests that only need some Kafka broker."""
    if address := request.config.getoption("--bootstrap"):
        yield address
        return
    directory = tmp_path_factory.mktemp("shared")
    if request.config.getoption("--reference"):
        need(Reference.missing())
        broker = Reference(directory, fresh_logs / "kafka.log").start()
    else:
        broker = Node("shared", FileStore(directory).bucket("shared"), fresh_logs / "shared.log").start()
    request.session.shared_broker = broker
    yield broker.kafka
    broker.stop()


@pytest.fixture
def bootstrap(shared_broker, request, shown):
    """The address of the shared broker; tests use names of their own for what they make there."""
    broker = getattr(request.session, "shared_broker", None)
    if broker:
        shown.append(broker)
        if not broker.running:
            broker.start()
    return shared_broker


@pytest.fixture(scope="session")
def drivers(fresh_logs):
    """Driver processes by client and address, started once."""
    running = {}

    def get(name, bootstrap):
        need({
            "kafkajs": None if shutil.which("node") else "Node.js",
            "java": None if shutil.which("java") else "Java",
        }.get(name))
        client = running.get((name, bootstrap))
        if client is None or client.process.poll() is not None:
            client = running[name, bootstrap] = Client(name, bootstrap, fresh_logs / f"{name}.log")
        return client

    yield get
    for client in running.values():
        client.close()


@pytest.fixture(params=COMMANDS)
def client(request, drivers, bootstrap):
    """Every client in turn, on the shared broker."""
    return drivers(request.param, bootstrap)


@pytest.fixture
def names():
    """Names that no other test uses: `names("topic")`."""
    suffix = uuid.uuid4().hex[:10]
    return lambda name: f"{name}-{suffix}"
