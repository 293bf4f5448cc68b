"""One app on a Kafka with logins and ACLs: its topics, its users, its workers and commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from tests.broker.pipeline import Pipeline
from tests.broker.processes import PROJECT, WorkerProcess
from tests.patience import PATIENCE_SECONDS
from tests.secured.kafka import SecuredKafka
from worker.kafka.rights import Right

PASSWORD: Final = "pa55-that-nobody-may-read"
WRONG: Final = "wr0ng-that-nobody-may-read"
ACCESS_DENIED: Final = 6
UNREACHABLE: Final = 3

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
            timeout=PATIENCE_SECONDS,
        )
        require_no_secret(done.stdout)
        return done.returncode, done.stdout


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
    assert worker.wait_exit() == code, worker.tail()
    text = worker.output()
    for name in named:
        assert name in text, f"{name!r} is not named in:\n{text}"
    return text
