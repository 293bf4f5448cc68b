"""The worker's image: what is in it, what it may do, and a life of it as a container, judged by the oracle."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docker.errors import APIError

from tests.broker.pipeline import Pipeline
from tests.broker.processes import PROJECT
from tests.docker.containers import HARDENED, STATE_DIR, KafkaContainer, WorkerContainer
from tests.patience import PATIENCE_SECONDS
from worker import __version__
from worker.load.generator import generate

SMALL_TRANSACTIONS: Any = {"batch_max_records": 25}
"""Slow enough for a signal to hit work in progress."""

INSTALLED = """\
import importlib.metadata, json, shutil
tools = ["cc", "gcc", "g++", "c++", "clang", "ld", "make", "cargo", "rustc", "git"]
print(json.dumps({
    "packages": sorted({d.metadata["Name"].lower().replace("_", "-") for d in importlib.metadata.distributions()}),
    "tools": [tool for tool in tools if shutil.which(tool)],
}))
"""


@pytest.fixture
def container(docker_engine: Any, worker_image: str) -> Iterator[Callable[..., Any]]:
    """Starts a container of the image in the background, hardened as in docker-compose.yml; it goes with the test."""
    started = []

    def start(*command: str, **options: Any) -> Any:
        given = {**HARDENED, "tmpfs": {STATE_DIR: "uid=10001,mode=0750"}, **options}
        started.append(docker_engine.containers.run(worker_image, list(command), detach=True, **given))
        return started[-1]

    yield start
    for each in started:
        each.remove(force=True, v=True)


@pytest.fixture
def printed(container: Callable[..., Any]) -> Callable[..., str]:
    """What a command prints on stdout in a container that ends with exit code 0."""

    def run(*command: str, **options: Any) -> str:
        started = container(*command, **options)
        code = started.wait(timeout=PATIENCE_SECONDS)["StatusCode"]
        assert code == 0, started.logs().decode()
        output: bytes = started.logs(stderr=False)
        return output.decode()

    return run


def test_any_command_of_the_worker_runs(printed: Callable[..., str]) -> None:
    assert printed("--version") == f"{__version__}\n"


def test_it_says_what_it_is(docker_engine: Any, worker_image: str) -> None:
    labels = docker_engine.images.get(worker_image).labels
    assert labels["org.opencontainers.image.title"] == "session-worker"
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.description"]


def test_it_holds_the_pinned_packages_and_no_compilers_and_no_test_tools(printed: Callable[..., str]) -> None:
    found = json.loads(printed("-c", INSTALLED, entrypoint=["python"]))
    requirements = (PROJECT / "requirements.txt").read_text()
    pinned = set(re.findall(r"^([a-z0-9-]+)==", requirements, re.MULTILINE))
    # Pinned too, for platforms this image is not.
    elsewhere = set(
        re.findall(r"^([a-z0-9-]+)==[^;\n]+;[^\n]*(?:win32|Windows|emscripten)", requirements, re.MULTILINE)
    )
    assert set(found["packages"]) - pinned == set()
    assert pinned - set(found["packages"]) <= elsewhere
    assert found["tools"] == []


@pytest.mark.parametrize("path", ["/app/x", "/opt/venv/x", "/tmp/x", "/etc/x"])
def test_nothing_but_the_state_directory_is_writable(container: Callable[..., Any], path: str) -> None:
    started = container("-c", f"open('/state/x', 'w'); open({path!r}, 'w')", entrypoint=["python"])
    assert started.wait(timeout=PATIENCE_SECONDS)["StatusCode"] == 1
    said = started.logs().decode()
    assert path in said
    assert "Read-only file system" in said


def test_it_runs_as_nobody_special(printed: Callable[..., str]) -> None:
    who = "import os; print(os.getuid(), os.getgid(), open('/proc/self/status').read())"
    said = printed("-c", who, entrypoint=["python"])
    assert not said.startswith("0 ")
    assert " 0 " not in said.splitlines()[0]
    assert re.search(r"^CapEff:\s+0+$", said, re.MULTILINE)


def test_sigterm_ends_process_1_before_the_worker_serves(container: Callable[..., Any]) -> None:
    """The kernel keeps signals without a handler from process 1: it would run on until it is killed."""
    # Nobody answers in 192.0.2.0/24 (RFC 5737): the command waits for its broker.
    started = container("topics", "create", environment={"WORKER_BOOTSTRAP_SERVERS": "192.0.2.1:9092"})
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _handles(started, signal.SIGTERM):
        assert time.monotonic() < deadline, started.logs().decode()
    started.kill(signal="SIGTERM")
    assert started.wait(timeout=PATIENCE_SECONDS)["StatusCode"] == 128 + signal.SIGTERM


def _handles(container: Any, number: signal.Signals) -> bool:
    """Whether process 1 of the container has a handler for the signal."""
    try:
        status = container.exec_run(["cat", "/proc/1/status"]).output.decode()
    except APIError:  # not started yet
        return False
    caught = re.search(r"^SigCgt:\s+([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_check_finds_nothing_off(printed: Callable[..., str], kafka: KafkaContainer, pipeline: Pipeline) -> None:
    """Broker, topics, state directory and the schemas, which the image must hold too."""
    pipeline.create_topics()
    environment = pipeline.environment | {"WORKER_BOOTSTRAP_SERVERS": kafka.INSIDE}
    said = printed("check", "--json", environment=environment, network=kafka.network.name)
    assert all(row["ok"] for row in json.loads(said)), said


def test_it_starts_processes_and_stops_in_order(
    pipeline: Pipeline, worker_container: Callable[..., WorkerContainer]
) -> None:
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=2_000, seed=31))
    worker = worker_container().start()
    pipeline.wait_drained()
    pipeline.wait_until(lambda: worker.health == "healthy", "the health check passes")
    worker.stop()
    assert pipeline.committed() == pipeline.targets()
    assert pipeline.verdict(worker).require_clean().events == sent


def test_killed_in_mid_work_it_goes_on_from_its_volume(
    pipeline: Pipeline, worker_container: Callable[..., WorkerContainer]
) -> None:
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=2_500, seed=32))
    worker = worker_container(**SMALL_TRANSACTIONS).start()
    pipeline.wait_progress(2_000)
    worker.kill9()
    assert pipeline.remaining() > 0, "the kill came after the drain"

    worker.environment["WORKER_BATCH_MAX_RECORDS"] = "2000"
    worker.start()
    pipeline.wait_drained()
    worker.stop()
    assert pipeline.verdict(worker).require_clean().events == sent

    worker.start()
    pipeline.wait_until(lambda: worker.health == "healthy", "the health check passes")
    worker.stop()
    log = [json.loads(line) for line in worker.output().splitlines()]
    starts = [line["instance_id"] for line in log if line["event"] == "worker_starting"]
    assert len(starts) == 3
    assert len(set(starts)) == 1, "another member of the group: its identity was not on the volume"
    restored = [line["changelog_records"] for line in log if line["event"] == "restored"]
    assert restored[-1] == 0, "a stopped worker's rows were not on the volume"
