"""Fixtures: stores, nodes, clients. Every process and every file of a test is gone or kept in
target/test-logs when the test ends; the logs of the processes are shown when it fails.

Tests run in one process, or in several workers side by side (pytest-xdist). Each worker has its own stores, shared broker,
clients and ports. A test marked `alone` runs while no other test does.
"""
import fcntl
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
from local import FileStore, LoadBalancer, LocalStack, MinIO, Node, process  # noqa: E402
from local.node import binary  # noqa: E402
from local.stores import ROOT, SETUP  # noqa: E402

LOGS = pathlib.Path(os.environ.get("WEIR_TEST_LOGS") or ROOT / "target" / "test-logs")
STORES = {"file": FileStore, "localstack": LocalStack, "minio": MinIO}
CI = os.environ.get("CI") == "true"
WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1, ...; None in the process that the user started


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


def pytest_sessionstart(session):
    config = session.config
    if WORKER:
        number, of = int(WORKER.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        process.PORTS = process.PORTS[number::of]
    elif not config.getoption("collectonly"):
        if not elsewhere(config) and not binary().exists():
            pytest.exit(f"{binary()} is not there: cargo build --release", returncode=2)
        shutil.rmtree(LOGS, ignore_errors=True)
        LOGS.mkdir(parents=True)


def pytest_collection_modifyitems(config, items):
    if elsewhere(config):
        kept = [item for item in items if item.get_closest_marker("kafka")]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    # Those that run alone at the end, when nobody has to wait for them, and just before them the quick ones, so that all
    # workers come to that point at the same time.
    def rank(item):
        if item.get_closest_marker("alone"):
            return 2
        return 0 if item.get_closest_marker("slow") else 1

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """A test holds a lock that all may hold at once; one that runs alone holds it while nobody else does.

    Around everything, the timeout too: to wait for its turn costs a test none of its time.
    """
    with open(SETUP / "turns", "a") as turns:
        fcntl.flock(turns, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        return (yield)


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
def shared_logs():
    """The folder of the logs of what many tests of this worker share."""
    folder = LOGS / (WORKER or "shared")
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def logs(request):
    """The folder of this test's logs."""
    folder = LOGS / re.sub(r"[^\w.-]+", "-", request.node.nodeid.removeprefix("tests/"))[:150]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def shown(request):
    """Processes added to this list have the end of their logs shown when the test fails."""
    request.node.processes = []
    return request.node.processes


@pytest.fixture(scope="session")
def stores(shared_logs, tmp_path_factory):
    """Each store by name, started when a test first asks for it."""
    started = {}

    def get(name):
        need(STORES[name].missing())
        if name not in started:
            started[name] = STORES[name](
                tmp_path_factory.mktemp(name),
                **({} if name == "file" else {"log": shared_logs / f"{name}.log"}),
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
def shared_broker(request, shared_logs, tmp_path_factory):
    """One broker on the file store for all the tests that only need some Kafka broker."""
    if address := request.config.getoption("--bootstrap"):
        yield address
        return
    directory = tmp_path_factory.mktemp("shared")
    if request.config.getoption("--reference"):
        need(Reference.missing())
        broker = Reference(directory, shared_logs / "kafka.log").start()
    else:
        broker = Node("shared", FileStore(directory).bucket("shared"), shared_logs / "shared.log").start()
    request.session.shared_broker = broker
    yield broker.kafka
    broker.stop()


@pytest.fixture
def bootstrap(shared_broker, all_drivers, request, shown):
    """The address of the shared broker; tests use names of their own for what they make there."""
    all_drivers.lasting.add(shared_broker)
    broker = getattr(request.session, "shared_broker", None)
    if broker:
        shown.append(broker)
        if not broker.running:
            broker.start()
    return shared_broker


class Drivers:
    """Driver processes by client and address, each started when it is first asked for: `drivers("java", node.kafka)`.

    Those for an address in `lasting`, of a broker that many tests share, stay. The others end with their test: a client
    whose broker is gone only looks for it, and a JVM of each test would fill the memory.
    """

    def __init__(self, logs):
        self.logs, self.running, self.lasting = logs, {}, set()

    def __call__(self, name, bootstrap):
        need({
            "kafkajs": None if shutil.which("node") else "Node.js",
            "java": None if shutil.which("java") else "Java",
        }.get(name))
        client = self.running.get((name, bootstrap))
        if client is None or client.process.poll() is not None:
            client = self.running[name, bootstrap] = Client(name, bootstrap, self.logs / f"{name}.log")
        return client

    def close(self, kept=()):
        for name, bootstrap in list(self.running):
            if bootstrap not in kept:
                self.running.pop((name, bootstrap)).close()


@pytest.fixture(scope="session")
def all_drivers(shared_logs):
    drivers = Drivers(shared_logs)
    yield drivers
    drivers.close()


@pytest.fixture
def drivers(all_drivers):
    yield all_drivers
    all_drivers.close(kept=all_drivers.lasting)


@pytest.fixture(params=COMMANDS)
def client(request, drivers, bootstrap):
    """Every client in turn, on the shared broker."""
    return drivers(request.param, bootstrap)


@pytest.fixture
def names():
    """Names that no other test uses: `names("topic")`."""
    suffix = uuid.uuid4().hex[:10]
    return lambda name: f"{name}-{suffix}"
