"""The worker on a Kafka with logins, TLS and ACLs: what it may do is enough and not too much, and every refusal says
which setting or right it is about, never the secret."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.broker.authority import Authority, Identity
from tests.broker.pipeline import Pipeline
from tests.broker.processes import PROJECT, WorkerProcess
from tests.broker.secured import SecuredKafka
from tests.kafka.clients import unique
from worker.errors import AccessDenied
from worker.kafka import rights, topics
from worker.kafka.rights import Right
from worker.load.generator import generate

PASSWORD = "pa55-that-nobody-may-read"
WRONG = "wr0ng-that-nobody-may-read"
ACCESS_DENIED = 6
UNREACHABLE = 3
START_SECONDS = 60
"""Many workers start at once here, on few cores."""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with SecuredKafka(tmp_path_factory.mktemp("secured")) as kafka:
        yield kafka


Installed = TypeVar("Installed", bound=Pipeline)


class Installation(Pipeline):
    """A pipeline whose workers log in; the tests themselves come through the open listener."""

    def __init__(self, kafka: SecuredKafka, app_id: str, directory: Path, *, partitions: int = 1) -> None:
        super().__init__(kafka.open_servers, app_id, directory, partitions)
        self.kafka = kafka
        self.environment |= {"WORKER_STORE": "memory", "WORKER_LOG_LEVEL": "debug"} | kafka.login(app_id, PASSWORD)

    def add_user(self, user: str, granted: list[Right]) -> dict[str, str]:
        """A user with exactly these rights; the environment of whoever logs in so."""
        self.kafka.add_user(user, PASSWORD, granted)
        return self.environment | {"WORKER_SASL_USERNAME": user}

    def run(self, environment: dict[str, str], *arguments: str) -> tuple[int, str]:
        """`python -m worker …` to its end: exit code and all it printed."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
        command = [sys.executable, "-m", "worker", *arguments]
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=inherited | environment | {"WORKER_STATE_DIR": str(self.directory / "state-cli")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        require_no_secret(done.stdout)
        return done.returncode, done.stdout


@pytest.fixture
def installation(secured: SecuredKafka, tmp_path: Path) -> Iterator[Installation]:
    with closing(Installation(secured, unique("secured"), tmp_path)) as one:
        yield one


@contextmanager
def closing(one: Installed) -> Iterator[Installed]:
    """Ends its workers, and looks whether any of them told a secret."""
    try:
        yield one
    finally:
        one.destroy()
    for worker in one.workers:
        require_no_secret(worker.output())


def require_no_secret(output: str) -> None:
    assert PASSWORD not in output
    assert WRONG not in output
    assert "PRIVATE KEY" not in output


def refused(worker: WorkerProcess, code: int, *named: str) -> str:
    """The text of a worker that ended by itself with `code`, naming these."""
    assert worker.wait_exit(START_SECONDS) == code, worker.tail()
    text = worker.output()
    for name in named:
        assert name in text, f"{name!r} is not named in:\n{text}"
    return text


# ---------------------------------------------------------------------- the right credentials


def test_each_command_does_its_work_with_exactly_its_rights(installation: Installation) -> None:
    one, settings = installation, installation.settings
    operator = one.add_user("operator", rights.of_topics_create(settings))
    inspector = one.add_user("inspector", rights.of_topics_check(settings))
    worker = one.add_user("worker", rights.of_worker(settings))
    producer = one.add_user("producer", rights.of_load(settings))
    auditor = one.add_user("auditor", rights.of_verify(settings))

    assert one.run(operator, "topics", "create")[0] == 0
    assert one.run(inspector, "topics", "check")[0] == 0
    assert one.run(worker, "check")[0] == 0
    code, text = one.run(producer, "load", "--sessions", "100", "--seed", "5")
    assert code == 0, text
    one.environment = worker
    process = one.worker(store="rocksdb")
    one.wait_drained()
    process.stop()
    one.verdict(process).require_clean()
    code, text = one.run(auditor, "verify")
    assert code == 0, text
    # Nobody can do another's work.
    assert "READ on group" in one.run(auditor, "check")[1]
    assert one.run(producer, "verify")[0] == ACCESS_DENIED
    code, text = one.run(inspector, "load", "--sessions", "1")
    assert (code, f"WRITE on topic {one.names.updates}" in text) == (ACCESS_DENIED, True), text


def test_without_the_right_to_create_topics_each_is_named(installation: Installation) -> None:
    one = installation
    environment = one.add_user("no-creator", rights.of_topics_check(one.settings))
    code, text = one.run(environment, "topics", "create")
    assert code == ACCESS_DENIED
    for name in one.settings.topic_names().values():
        assert f"CREATE on topic {name}" in text


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


# ---------------------------------------------------------------------- wrong credentials, wrong certificates


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


# ---------------------------------------------------------------------- missing rights


def test_each_right_that_is_missing_at_the_start_is_named_and_no_other(installation: Installation) -> None:
    one = installation
    one.create_topics()
    needed = rights.of_worker(one.settings)
    assert len(needed) == 13
    started = {}
    for number, lacking in enumerate(needed):
        user = f"lacks-{number}"
        environment = one.add_user(user, [right for right in needed if right != lacking])
        started[lacking] = WorkerProcess(user, environment, one.directory).start()
        one.workers.append(started[lacking])
    for lacking, worker in started.items():
        text = refused(worker, ACCESS_DENIED)
        assert f"lacks rights on the broker: {lacking}\n" in text
        assert "Traceback" not in text


def test_a_user_without_any_rights_is_told_all_of_them_at_once(installation: Installation) -> None:
    one = installation
    one.create_topics()
    one.environment = one.add_user("powerless", [])
    refused(one.worker(), ACCESS_DENIED, *map(str, rights.of_worker(one.settings)))


def test_missing_topics_are_missing_topics_to_who_may_see_them(installation: Installation) -> None:
    one = installation
    one.environment = one.add_user("early", rights.of_worker(one.settings))
    refused(one.worker(), 2, "topics create", one.names.updates)


def test_each_right_taken_from_a_running_worker_ends_it_by_name_and_given_back_nothing_is_lost(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    """What the broker itself refuses while the worker works, for each right that work needs: the list has none too
    many. (The changelog is read and configurations are asked for at the start only: see the next tests.)"""
    installations: list[tuple[Installation, Right, WorkerProcess]] = []
    try:
        for number in range(7):
            one = Installation(secured, unique("taken"), tmp_path / str(number))
            one.directory.mkdir()
            one.create_topics()
            # DESCRIBE stays: it is the right to read or write that is taken, not that to see.
            needed = rights.of_worker(one.settings)
            taken = [right for right in needed if is_used_at_work(right, one)][number]
            seeing = right_to_see(taken)
            one.environment = one.add_user(one.app_id, [*needed, seeing])
            installations.append((one, taken, one.worker()))
        for one, taken, worker in installations:
            one.wait_until(lambda worker=worker: " ready " in worker.output(), "ready")  # type: ignore[misc]
            secured.take(one.app_id, taken)
            worker.may_fail = True
            worker.expected_up = False
            one.send(generate(sessions=30, seed=7))
        for _, taken, worker in installations:
            resource = "" if taken.prefixed else f" {taken.name}"
            text = refused(worker, ACCESS_DENIED, f"refuses {taken.operation} on {taken.resource}{resource}")
            assert "python -m worker check" in text
        for one, taken, worker in installations:
            secured.grant(one.app_id, [taken])
            worker.start()
        for one, _, worker in installations:
            one.wait_drained()
            worker.stop()
            one.verdict().require_clean()
    finally:
        for one, _, worker in installations:
            one.destroy()
            require_no_secret(worker.output())


def is_used_at_work(right: Right, one: Installation) -> bool:
    return right.operation != "DESCRIBE_CONFIGS" and right != Right("READ", rights.Resource.TOPIC, one.names.changelog)


def right_to_see(right: Right) -> Right:
    return right._replace(operation="DESCRIBE")


def test_a_changelog_that_is_refused_while_restoring_ends_the_worker(installation: Installation) -> None:
    """Taken in the moment between the check of the rights and the restore: the restore itself is refused."""
    one = installation
    one.create_topics()
    one.send(generate(sessions=10, seed=8))
    one.environment = one.add_user("restorer", rights.of_worker(one.settings))
    first = one.worker("first")
    one.wait_drained()
    first.stop()
    second = one.prepared("second")
    second.environment["WORKER_TEST_FAILPOINT"] = "fence:1:stop"
    second.start()
    one.wait_until(lambda: is_stopped(second), "the producers are open, and nothing is restored")
    one.kafka.take("restorer", Right("READ", rights.Resource.TOPIC, one.names.changelog))
    second.sigcont()
    refused(second, ACCESS_DENIED, f"refuses READ on topic {one.names.changelog}")


def is_stopped(worker: WorkerProcess) -> bool:
    return Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_the_right_to_read_configurations_is_needed_to_compare_topics(installation: Installation) -> None:
    one = installation
    one.create_topics()
    needed = [right for right in rights.of_worker(one.settings) if right.operation != "DESCRIBE_CONFIGS"]
    one.environment = one.add_user("blind", needed)
    with pytest.raises(AccessDenied) as refusal:
        asyncio.run(topics.check(one.settings))
    for name in one.settings.topic_names().values():
        assert f"DESCRIBE_CONFIGS on topic {name}" in refusal.value.problem


def test_the_right_to_see_transactional_ids_is_not_that_to_use_them(installation: Installation) -> None:
    """The broker does not tell the difference beforehand: it shows when the first producer opens."""
    one = installation
    one.create_topics()
    needed = rights.of_worker(one.settings)
    one.environment = one.add_user("onlooker", [*needed[:-1], right_to_see(needed[-1])])
    refused(one.worker(), ACCESS_DENIED, f"WRITE on transactional id {needed[-1].name}0")


def test_a_group_that_is_refused_while_joining_ends_the_worker(installation: Installation) -> None:
    """aiokafka keeps such a refusal to itself: without a look at it the worker waited for partitions for ever."""
    one = installation
    one.create_topics()
    needed = rights.of_worker(one.settings)
    group = next(right for right in needed if right.resource is rights.Resource.GROUP)
    one.environment = one.add_user("idle", needed)
    worker = one.worker()
    one.wait_until(lambda: " ready " in worker.output(), "ready")
    worker.expected_up = False
    one.kafka.take("idle", group)  # no update comes: only the heartbeat is refused
    refused(worker, ACCESS_DENIED, f"refuses READ on group {group.name}")
