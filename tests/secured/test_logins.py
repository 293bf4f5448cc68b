"""Passwords and certificates, right and wrong: every refusal names the setting."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.broker.pipeline import Pipeline
from tests.broker.processes import WorkerProcess
from tests.secured.authority import Authority, Identity
from tests.secured.installation import UNREACHABLE, WRONG, Installation, closing, refused
from tests.secured.kafka import SecuredKafka
from worker.kafka import rights
from worker.load.generator import generate


def test_with_a_certificate_instead_of_a_password_the_worker_works(tmp_path: Path) -> None:
    with SecuredKafka(tmp_path / "kafka", mutual_tls=True) as kafka:
        identity = kafka.authority.identity("session-worker")
        with closing(Pipeline(kafka.open_servers, "certified", tmp_path, 1)) as one:
            one.create_topics()
            one.environment |= kafka.certified(identity)
            kafka.grant("CN=session-worker", rights.of_worker(one.settings))
            one.send(generate(sessions=50, seed=6))
            worker = one.worker()
            one.wait_drained()
            worker.stop()
            one.verdict(worker).require_clean()

            one.environment |= dict.fromkeys(("WORKER_SSL_CERTFILE", "WORKER_SSL_KEYFILE"), "")
            refused(one.worker("nobody"), UNREACHABLE, "WORKER_SSL_CERTFILE", "WORKER_SSL_KEYFILE")
            stranger = Authority(tmp_path / "strangers").identity("session-worker")
            one.environment |= kafka.certified(stranger)
            refused(one.worker("stranger"), UNREACHABLE, "WORKER_SSL_CERTFILE")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"WORKER_SASL_PASSWORD": WRONG}, "WORKER_SASL_PASSWORD"),
        ({"WORKER_SASL_USERNAME": "nobody"}, "WORKER_SASL_USERNAME"),
        ({"WORKER_SASL_MECHANISM": "PLAIN"}, "WORKER_SASL_MECHANISM"),
        ({"WORKER_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "WORKER_SSL_CAFILE": ""}, "WORKER_SECURITY_PROTOCOL"),
        ({"WORKER_SSL_CAFILE": "another authority"}, "WORKER_SSL_CAFILE"),
    ],
    ids=["password", "user", "mechanism", "no-tls", "authority"],
)
def test_a_wrong_setting_is_named(installation: Installation, changed: dict[str, str], named: str) -> None:
    one = installation
    one.environment = one.add_user("known", [])
    if changed.get("WORKER_SSL_CAFILE"):
        changed = {"WORKER_SSL_CAFILE": str(Authority(one.directory / "strangers").certificate)}
    one.environment |= changed
    text = refused(one.worker(), UNREACHABLE, named)
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [({"host": "127.0.0.2"}, "IP address mismatch"), ({"expired": True}, "certificate has expired")],
)
def test_a_brokers_certificate_that_does_not_fit_is_said(tmp_path: Path, wrong: Any, reason: str) -> None:
    authority = Authority(tmp_path)
    identity = authority.identity("broker", **wrong)
    with tls_server(identity) as address:
        environment = {
            "WORKER_BOOTSTRAP_SERVERS": address,
            "WORKER_SECURITY_PROTOCOL": "SSL",
            "WORKER_SSL_CAFILE": str(authority.certificate),
        }
        worker = WorkerProcess("careful", environment, tmp_path).start()
        try:
            refused(worker, UNREACHABLE, reason, "WORKER_SSL_CAFILE", "WORKER_BOOTSTRAP_SERVERS")
        finally:
            worker.destroy()


@contextmanager
def tls_server(identity: Identity) -> Iterator[str]:
    """The first words of a broker with that certificate; no client that looks at it gets further."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                context.wrap_socket(connection, server_side=True).recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "{}:{}".format(*server.getsockname())
        thread.join(10)
