"""What a worker finds out about its brokers before it starts, and how it says what is wrong."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from worker.errors import BrokerUnreachable, SettingsError
from worker.kafka.connection import BrokerFacts, client_settings, judge, probe
from worker.kafka.distribution import KAFKA_VERSION, java_executable
from worker.kafka.embedded import EmbeddedKafka
from worker.kafka.handshake import BrokerApis, NotKafka, ask_api_versions
from worker.settings import load_settings

pytestmark = pytest.mark.usefixtures("no_settings")

PLAIN_LISTENER = {
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.client.plain.sasl.jaas.config": (
        'org.apache.kafka.common.security.plain.PlainLoginModule required user_worker="s3cret";'
    ),
}


def find_out(**settings: object) -> BrokerFacts:
    return asyncio.run(probe(load_settings(settings)))


@pytest.mark.parametrize(
    ("end_txn", "metadata_version", "release", "at_least_kafka_4"),
    [
        # What real brokers of these releases answered.
        (3, 19, "3.7", False),
        (4, 21, "3.9", False),
        (5, 25, "4.0", True),
        (5, 27, "4.1", True),
        (5, 29, "4.2", True),
        (5, 30, "4.3", True),
        (5, 33, "4.4", True),
        # Levels no released broker had stand for what lies between.
        (5, 40, "newer than 4.4", True),
        (3, 10, "3.6 or older", False),
        # ZooKeeper mode and other implementations have no metadata.version.
        (3, None, "older than 4.0", False),
        (5, None, "4.0 or newer", True),
    ],
)
def test_a_broker_is_judged_by_its_transaction_protocol(
    end_txn: int, metadata_version: int | None, release: str, at_least_kafka_4: bool
) -> None:
    supported = {} if metadata_version is None else {"metadata.version": metadata_version}
    verdict = judge(BrokerApis({22: 4, 26: end_txn}, supported))
    assert (verdict.release, verdict.transactions, verdict.at_least_kafka_4) == (release, True, at_least_kafka_4)


@pytest.mark.parametrize("apis", [{}, {22: 4}, {26: 5}])
def test_a_broker_without_both_transaction_requests_has_no_transactions(apis: dict[int, int]) -> None:
    assert not judge(BrokerApis(apis)).transactions


def test_the_embedded_broker_is_what_it_is(kafka: EmbeddedKafka) -> None:
    facts = find_out(bootstrap_servers=kafka.bootstrap_servers)
    assert facts.cluster_id
    assert kafka.bootstrap_servers in facts.brokers.values()
    if isinstance(kafka, EmbeddedKafka):
        assert facts.release == KAFKA_VERSION.rpartition(".")[0]
        assert facts.warnings == ()


def test_a_closed_port_is_said_quickly_and_by_name() -> None:
    started = time.monotonic()
    with pytest.raises(BrokerUnreachable) as refusal:
        find_out(bootstrap_servers="127.0.0.1:1")
    assert time.monotonic() - started < 15  # the client by itself takes 40
    assert "127.0.0.1:1" in refusal.value.problem
    assert "WORKER_BOOTSTRAP_SERVERS" in refusal.value.remedy
    assert refusal.value.exit_code == 3


def test_a_port_that_never_answers_is_said_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(BrokerUnreachable, match=r"timed out|no answer"):
            find_out(bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < 15  # the client by itself takes 40


def test_one_reachable_address_of_several_is_enough(kafka: EmbeddedKafka) -> None:
    assert find_out(bootstrap_servers=f"127.0.0.1:1,{kafka.bootstrap_servers}").cluster_id


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, int]]:
    """A server that says `answer` to whatever the first client sends."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
        b"\0\0\0\x0a\0\0\0\x01\0\0\xff\xff\xff\xff",  # a length that lies
        b"\0\0\0\x06\0\0\0\x01\0\0",  # cut after the error code
    ],
)
def test_something_that_is_not_kafka_is_not_taken_for_a_broker(answer: bytes) -> None:
    with answering(answer) as address, pytest.raises(NotKafka):
        ask_api_versions(address, None, 2)


@pytest.fixture(scope="module")
def guarded() -> Iterator[EmbeddedKafka]:
    """A broker that asks for a user name and a password."""
    with EmbeddedKafka(properties=PLAIN_LISTENER) as broker:
        yield broker


LOGIN = {"security_protocol": "sasl_plaintext", "sasl_mechanism": "plain", "sasl_username": "worker"}


@pytest.mark.broker
def test_the_right_password_opens_and_the_wrong_one_is_said_without_showing_it(
    guarded: EmbeddedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    assert find_out(bootstrap_servers=guarded.bootstrap_servers, sasl_password="s3cret", **LOGIN).cluster_id
    with caplog.at_level(logging.INFO), pytest.raises(BrokerUnreachable, match="Authentication failed") as refusal:
        find_out(bootstrap_servers=guarded.bootstrap_servers, sasl_password="wr0ng", **LOGIN)
    assert "WORKER_SASL_PASSWORD" in refusal.value.remedy
    assert "wr0ng" not in str(refusal.value) + caplog.text


@pytest.mark.broker
def test_no_login_where_one_is_needed_is_said(guarded: EmbeddedKafka) -> None:
    with pytest.raises(BrokerUnreachable, match="does not let this worker in"):
        find_out(bootstrap_servers=guarded.bootstrap_servers)


@pytest.mark.broker
def test_an_advertised_address_that_cannot_be_reached_is_said() -> None:
    unreachable = {"advertised.listeners": "CLIENT://127.0.0.1:3,INTERNAL://127.0.0.1:3"}
    with EmbeddedKafka(properties=unreachable) as broker, pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:3"):
        find_out(bootstrap_servers=broker.bootstrap_servers)


def keytool(*arguments: str) -> None:
    """The keytool of the same Java runtime that runs the broker."""
    tool = java_executable().with_name("keytool")
    subprocess.run([tool, *arguments, "-storepass", "changeit"], check=True, capture_output=True, text=True)


@pytest.mark.broker
def test_tls_is_verified_against_the_given_authority(tmp_path: Path) -> None:
    store, authority, stranger = tmp_path / "broker.p12", tmp_path / "ca.pem", tmp_path / "stranger.pem"
    for path, pem in ((store, authority), (tmp_path / "other.p12", stranger)):
        keytool(
            *("-genkeypair", "-alias", "k", "-keyalg", "RSA", "-dname", "CN=localhost", "-keystore", str(path)),
            *("-ext", "SAN=ip:127.0.0.1,dns:localhost", "-ext", "BC:critical=ca:true"),
        )
        keytool("-exportcert", "-rfc", "-alias", "k", "-keystore", str(path), "-file", str(pem))
    properties = {
        "listener.security.protocol.map": "CLIENT:SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listener.name.client.ssl.keystore.type": "PKCS12",
        "listener.name.client.ssl.keystore.location": str(store),
        "listener.name.client.ssl.keystore.password": "changeit",
    }
    with EmbeddedKafka(properties=properties) as broker:
        servers = broker.bootstrap_servers
        assert find_out(bootstrap_servers=servers, security_protocol="ssl", ssl_cafile=authority).cluster_id
        with pytest.raises(BrokerUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            find_out(bootstrap_servers=servers, security_protocol="ssl", ssl_cafile=stranger)
        with pytest.raises(BrokerUnreachable, match="WORKER_SECURITY_PROTOCOL"):
            find_out(bootstrap_servers=servers)


@pytest.mark.parametrize("field", ["ssl_cafile", "ssl_certfile", "ssl_keyfile"])
def test_a_missing_file_is_said_with_its_setting(field: str, tmp_path: Path) -> None:
    present = tmp_path / "present.pem"
    present.write_text("")
    files: dict[str, object] = {"ssl_certfile": present, "ssl_keyfile": present, field: tmp_path / "absent.pem"}
    with pytest.raises(SettingsError, match=f"WORKER_{field.upper()}=.*absent.pem"):
        client_settings(load_settings({"security_protocol": "SSL", **files}))


def test_a_file_that_is_no_certificate_is_said_with_its_setting(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("not a certificate")
    with pytest.raises(SettingsError, match="WORKER_SSL_CAFILE"):
        client_settings(load_settings({"security_protocol": "SSL", "ssl_cafile": nonsense}))


def test_client_settings_carry_the_login_in_the_clients_own_names() -> None:
    arguments = client_settings(load_settings({"bootstrap_servers": "a:1,b:2", "sasl_password": "s3cret", **LOGIN}))
    assert arguments == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SASL_PLAINTEXT",
        "ssl_context": None,
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "worker",
        "sasl_plain_password": "s3cret",
    }
