"""Users, logins and access rules: from the command line to what clients may do."""
import os
import subprocess
import time

import confluent_kafka
import kafka
import pytest
from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, NewTopic, ResourcePatternType,
    ResourceType, ScramMechanism, ScramCredentialInfo, UserScramCredentialDeletion, UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError

from local import wait_until
from local.node import binary

pytestmark = pytest.mark.parametrize("store", ["file"])

SASL = ("sasl_plaintext",)
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
PASSWORDS = {"root": "root's marked password", "alice": "alice's marked password"}


@pytest.fixture
def weir(place):
    """Runs `weir ...` on the store and gives what it prints; `fails` is the exit code that it must have."""

    def run(*arguments, text=None, fails=0):
        done = subprocess.run(
            [binary(), *arguments], input=text, capture_output=True, text=True, timeout=120,
            env={**os.environ, **place.env, "WEIR_STORE": place.url},
        )
        assert done.returncode == fails, f"weir {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    return run


@pytest.fixture
def users(weir):
    """`root`, a superuser, and `alice`."""
    weir("user", "create", "root", "--superuser", "--password-stdin", text=PASSWORDS["root"])
    weir("user", "create", "alice", "--password-stdin", text=PASSWORDS["alice"])


@pytest.fixture
def node(make_node, place, users):
    """A node at which clients log in."""
    return make_node(place, security=SASL).start()


def login(node, user, mechanism="SCRAM-SHA-256", password=None):
    """The configuration of librdkafka."""
    return login_at(node.secured["sasl_plaintext"], user, mechanism, password)


def login_at(address, user, mechanism="SCRAM-SHA-256", password=None):
    return {
        "bootstrap.servers": address, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism,
        "sasl.username": user, "sasl.password": password or PASSWORDS[user], "log_level": 0,
    }


def admin(node, user="root"):
    return AdminClient(login(node, user))


def done(futures):
    return {key: future.result(20) for key, future in futures.items()}


def make(node, *topics):
    """Makes topics; the client has to live until they are there."""
    client = admin(node)
    done(client.create_topics([NewTopic(topic, 1) for topic in topics]))


def code(futures):
    """The code with which each failed, or 0."""
    codes = []
    for future in futures.values():
        try:
            future.result(20)
            codes.append(0)
        except confluent_kafka.KafkaException as error:
            codes.append(error.args[0].code())
    return codes


def produce(node, user, topic, **config):
    """The error of producing one record; None if there is none."""
    told = []
    producer = confluent_kafka.Producer({**login(node, user), "message.timeout.ms": 8000, **config})
    producer.produce(topic, b"value", on_delivery=lambda error, _: told.append(error and error.code()))
    producer.flush(15)
    return told[0]


def rule(principal, operation, topic, pattern=ResourcePatternType.LITERAL, permission=AclPermissionType.ALLOW):
    return AclBinding(ResourceType.TOPIC, topic, pattern, f"User:{principal}", "*", operation, permission)


# The command line.

def test_an_empty_bucket_gets_users_and_rules_before_any_node_runs(weir):
    refused = weir("user", "create", "alice", "--password-stdin", text="pencil\n", fails=1)
    assert "superuser" in refused
    said = weir("user", "create", "root", "--superuser", "--password-stdin", text="pencil\n")
    assert "ends now" in said and "created superuser root" in said
    weir("user", "create", "alice", "--no-password")
    weir("user", "alter", "alice", "--add-to", "analysts")
    weir("acl", "add", "--allow", "Group:analysts", "--operation", "read", "--topic", "app.", "--prefixed")
    weir("acl", "add", "--deny", "User:alice", "--operation", "read", "--topic", "app.secret")
    listed = weir("user", "list")
    assert "SCRAM-SHA-256,SCRAM-SHA-512" in listed and "analysts" in listed
    allowed = weir("acl", "test", "User:alice", "read", "--topic", "app.x")
    assert allowed.startswith("allowed") and "Group:analysts" in allowed
    weir("acl", "test", "User:alice", "describe", "--topic", "app.x")
    denied = weir("acl", "test", "User:alice", "read", "--topic", "app.secret", fails=1)
    assert "DENY User:alice READ" in denied
    weir("acl", "test", "User:alice", "write", "--topic", "app.x", fails=1)
    weir("acl", "test", "User:root", "alter", "--cluster")
    assert "app.secret" in weir("acl", "list", "--principal", "User:alice")
    weir("acl", "remove", "--principal", "User:alice", "--all")
    weir("acl", "test", "User:alice", "read", "--topic", "app.secret")
    weir("acl", "remove", "--topic", "nothing", fails=1)


def test_nobody_is_locked_out_by_a_slip(weir, users):
    for arguments in [("alter", "root", "--disabled", "yes"), ("alter", "root", "--superuser", "no"), ("delete", "root")]:
        assert "nobody could administer" in weir("user", *arguments, fails=1)
    weir("user", "delete", "alice")
    assert "everybody may do everything" in weir("user", "delete", "root", fails=1)
    weir("user", "delete", "root", "--open-to-everybody")
    assert "everybody" in weir("user", "list")


def test_a_password_is_shown_nowhere(weir, place, node, logs):
    for user in ("root", "alice"):
        assert produce(node, user, "orders", **{"sasl.mechanism": "PLAIN"}) in (None, 29, 3)
        assert produce(node, "root", "orders", **{"sasl.password": "wrong marked password"}) is not None
    shown = [weir("user", "list"), weir("user", "list", "--output", "json"), node.get("/metrics")]
    for number in range(1, 6):
        inspected = subprocess.run(
            [binary(), "inspect", str(number)], capture_output=True, text=True, timeout=60,
            env={**os.environ, **place.env, "WEIR_STORE": place.url},
        )
        shown.append(inspected.stdout + inspected.stderr)
    assert "CreateUser" in "".join(shown) and "(hidden" in "".join(shown)
    shown += [path.read_text() for path in logs.iterdir() if path.is_file()]
    assert "marked password" not in "".join(shown)
    for path, _, files in os.walk(place.url.removeprefix("file://")):
        for name in files:
            with open(os.path.join(path, name), "rb") as file:
                assert b"marked password" not in file.read()


# Logging in.

@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka_logs_in_by_each_mechanism(node, mechanism):
    client = AdminClient(login(node, "root", mechanism))
    done(client.create_topics([NewTopic("orders", 1)]))
    assert "orders" in client.list_topics(timeout=10).topics
    assert produce(node, "root", "orders", **{"sasl.mechanism": mechanism}) is None


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kafka_python_logs_in_by_each_mechanism(node, mechanism):
    def config(password):
        return {
            "bootstrap_servers": node.secured["sasl_plaintext"], "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": mechanism,
            "sasl_plain_username": "root", "sasl_plain_password": password,
        }

    make(node, "orders")
    producer = kafka.KafkaProducer(**config(PASSWORDS["root"]))
    producer.send("orders", b"value").get(15)
    producer.close()
    with pytest.raises((KafkaError, ValueError)):
        kafka.KafkaAdminClient(**config("wrong"), api_version_auto_timeout_ms=3000).list_topics()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password_is_told_to_the_client(node, mechanism):
    errors = []
    for user, password in [("root", "wrong"), ("nobody", "wrong")]:
        client = AdminClient({**login(node, user, mechanism, password), "error_cb": errors.append})
        with pytest.raises(confluent_kafka.KafkaException):
            client.list_topics(timeout=4)
        client.poll(1)
        wait_until(lambda c=client: c.poll(0.1) is not None and errors, 10, "the error")
        assert any(error.code() == confluent_kafka.KafkaError._AUTHENTICATION for error in errors), errors
        errors.clear()
    failed = node.metrics()["weir_kafka_logins_total"]
    assert sum(count for labels, count in failed.items() if 'result="failed"' in labels) >= 2


def test_a_new_password_holds_at_once_and_a_disabled_user_is_cut_off(weir, node):
    make(node, "orders")
    weir("acl", "add", "--allow", "User:alice", "--operation", "write", "--topic", "orders")
    weir("user", "passwd", "alice", "--password-stdin", text="another password")
    changed = {"sasl.password": "another password"}
    assert produce(node, "alice", "orders", **changed) is None
    assert produce(node, "alice", "orders") is not None
    told = []
    producer = confluent_kafka.Producer({**login(node, "alice"), **changed, "message.timeout.ms": 5000})

    def stored():
        producer.produce("orders", b"value", on_delivery=lambda error, _: told.append(error and error.code()))
        producer.flush(15)
        return told[-1]

    assert stored() is None
    weir("user", "alter", "alice", "--disabled", "yes")
    # The connection that it has is worth nothing any more, as soon as the node has heard of it.
    wait_until(lambda: stored() is not None, 20, "the user to be cut off")


# What one may do.

def test_rules_made_by_kafkas_tools_decide_what_one_may_do(node):
    root, alice = admin(node), admin(node, "alice")
    done(root.create_topics([NewTopic("app.orders", 1), NewTopic("other", 1)]))
    assert code(alice.create_topics([NewTopic("mine", 1)])) == [29]
    assert alice.list_topics(timeout=10).topics == {}
    assert produce(node, "alice", "app.orders") == 29
    read = rule("alice", AclOperation.READ, "app.", ResourcePatternType.PREFIXED)
    write = rule("alice", AclOperation.WRITE, "app.orders")
    assert code(alice.create_acls([read])) == [31]
    done(root.create_acls([read, write]))
    assert list(alice.list_topics(timeout=10).topics) == ["app.orders"]
    assert produce(node, "alice", "app.orders", **{"enable.idempotence": True}) is None
    assert code(alice.delete_topics(["app.orders"])) == [29]
    # A denial decides, whatever is allowed.
    deny = rule("alice", AclOperation.WRITE, "*", permission=AclPermissionType.DENY)
    done(root.create_acls([deny]))
    assert produce(node, "alice", "app.orders") == 29
    any_rule = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, "User:alice", None, AclOperation.ANY, AclPermissionType.ANY,
    )
    found = root.describe_acls(any_rule).result(20)
    assert {(one.name, one.operation) for one in found} == {
        ("app.", AclOperation.READ), ("app.orders", AclOperation.WRITE), ("*", AclOperation.WRITE),
    }
    deleted = next(iter(done(root.delete_acls([any_rule])).values()))
    assert len(deleted) == 3
    assert produce(node, "alice", "app.orders") == 29


def test_whoever_does_not_log_in_may_do_what_everybody_may(weir, node):
    make(node, "news", "secret")
    anonymous = AdminClient({"bootstrap.servers": node.kafka, "log_level": 0})
    assert anonymous.list_topics(timeout=10).topics == {}
    weir("acl", "add", "--allow", "User:*", "--operation", "read", "--topic", "news")
    wait_until(lambda: list(anonymous.list_topics(timeout=10).topics) == ["news"], 20, "the rule")


def test_kafkas_tools_set_passwords(node):
    root = admin(node)
    password = b"set by a tool"
    upsert = UserScramCredentialUpsertion(
        "bob", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), password,
    )
    done(root.alter_user_scram_credentials([upsert]))
    described = root.describe_user_scram_credentials(["bob"])["bob"].result(20)
    assert [info.iterations for info in described.scram_credential_infos] == [4096]
    for mechanism in ("SCRAM-SHA-512", "PLAIN"):
        client = AdminClient(login(node, "bob", mechanism, password.decode()))
        assert client.list_topics(timeout=10).topics == {}
    gone = UserScramCredentialDeletion("bob", ScramMechanism.SCRAM_SHA_512)
    done(root.alter_user_scram_credentials([gone]))
    with pytest.raises(confluent_kafka.KafkaException):
        AdminClient(login(node, "bob", "SCRAM-SHA-512", password.decode())).list_topics(timeout=4)


def test_a_login_is_repeated_on_the_connection_when_it_expires(make_node, place, users):
    node = make_node(place, security=SASL, arguments=("--max-login", "3s")).start()
    make(node, "orders")
    told = []
    producer = confluent_kafka.Producer({**login(node, "root"), "message.timeout.ms": 10_000})
    until = time.monotonic() + 10
    while time.monotonic() < until:
        producer.produce("orders", b"value", on_delivery=lambda error, _: told.append(error))
        producer.poll(0.2)
    producer.flush(15)
    assert len(told) > 20 and not any(told), [error for error in told if error][:3]
    logins = node.metrics()["weir_kafka_logins_total"]
    assert sum(count for labels, count in logins.items() if 'result="succeeded"' in labels) >= 4


# TLS.

@pytest.fixture
def certificate(tmp_path):
    """Writes a certificate that vouches for itself, and its key, always to the same files."""
    files = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}

    def write():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", files["key"], "-out", files["cert"], "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True,
        )
        return files

    write.files = files
    write()
    return write


def test_clients_log_in_over_tls_and_a_new_certificate_is_shown_without_a_restart(
    make_node, place, users, certificate, tmp_path,
):
    files = certificate.files
    node = make_node(place, security=("ssl", "sasl_ssl"),
                     arguments=("--tls-cert", files["cert"], "--tls-key", files["key"])).start()

    def over_tls(user, authority):
        return {**login_at(node.secured["sasl_ssl"], user), "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN",
                "ssl.ca.location": authority}

    old = tmp_path / "old.pem"
    old.write_text(open(files["cert"]).read())
    root = AdminClient(over_tls("root", str(old)))
    done(root.create_topics([NewTopic("orders", 1)]))
    told = []
    producer = confluent_kafka.Producer(over_tls("root", str(old)))
    producer.produce("orders", b"value", on_delivery=lambda error, _: told.append(error))
    producer.flush(15)
    assert told == [None]
    # TLS alone is no login.
    anonymous = AdminClient({"bootstrap.servers": node.secured["ssl"], "security.protocol": "SSL",
                             "ssl.ca.location": str(old), "log_level": 0})
    assert anonymous.list_topics(timeout=10).topics == {}

    certificate()

    def is_shown():
        shown = subprocess.run(
            ["openssl", "s_client", "-connect", node.secured["sasl_ssl"], "-CAfile", files["cert"],
             "-verify_return_error"], input=b"", capture_output=True, timeout=20,
        )
        return shown.returncode == 0

    wait_until(is_shown, 20, "the new certificate")
    # Who is connected stays.
    producer.produce("orders", b"value", on_delivery=lambda error, _: told.append(error))
    producer.flush(15)
    assert told == [None, None]


def test_no_old_version_of_tls_is_spoken(make_node, place, certificate):
    files = certificate.files
    node = make_node(place, security=("ssl",),
                     arguments=("--tls-cert", files["cert"], "--tls-key", files["key"])).start()

    def shakes(*arguments):
        return subprocess.run(
            ["openssl", "s_client", "-connect", node.secured["ssl"], *arguments], input=b"", capture_output=True, timeout=20,
        )

    for version in ("-tls1_2", "-tls1_3"):
        shaken = shakes(version)
        assert shaken.returncode == 0, shaken.stderr
        assert b"Compression: NONE" in shaken.stdout
    for version in ("-tls1", "-tls1_1"):
        assert shakes(version, "-cipher", "ALL:@SECLEVEL=0").returncode != 0
    weak = shakes("-tls1_2", "-cipher", "AES128-SHA:AES256-SHA:DES-CBC3-SHA:@SECLEVEL=0")
    assert weak.returncode != 0
