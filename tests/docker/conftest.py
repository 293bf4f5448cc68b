"""Docker for the tests here: where there is none they are skipped, and fail when REQUIRE_DOCKER=1."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from tests.broker.conftest import pipeline
from tests.broker.pipeline import Pipeline
from tests.broker.processes import PROJECT
from tests.docker.containers import KafkaContainer, WorkerContainer

__all__ = ["pipeline"]

REQUIRE_VARIABLE = "REQUIRE_DOCKER"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory needs Docker."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("docker")


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Any]:
    """A client of the Docker engine here, which has `docker compose` beside it."""
    missing = ""
    try:
        client = docker.from_env()
        client.ping()
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=True)
    except docker.errors.DockerException:
        missing = "no Docker engine answers"
    except (FileNotFoundError, subprocess.CalledProcessError):
        missing = "`docker compose` is not installed"
    if missing:
        if os.environ.get(REQUIRE_VARIABLE) == "1":
            pytest.fail(f"{REQUIRE_VARIABLE}=1, and {missing}", pytrace=False)
        pytest.skip(f"container tests need Docker: {missing}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def kafka(docker_engine: Any) -> Iterator[KafkaContainer]:
    """One Kafka in a container for all tests here, in place of the embedded one."""
    with KafkaContainer() as broker:
        yield broker


@pytest.fixture(scope="session")
def worker_image(docker_engine: Any) -> Iterator[str]:
    """The worker's image, built as `docker compose up` builds it, under a name of its own."""
    image = f"session-worker:test-{uuid.uuid4().hex[:8]}"
    built = subprocess.run(
        ["docker", "compose", "build", "worker-1"],
        cwd=PROJECT,
        env=os.environ | {"WORKER_IMAGE": image},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout
    yield image
    docker_engine.images.remove(image, force=True)


@pytest.fixture
def worker_container(worker_image: str, kafka: KafkaContainer, pipeline: Pipeline) -> Callable[..., WorkerContainer]:
    """Makes workers of the test's pipeline as containers, for the test to start; `settings` by their names."""

    def prepared(name: str = "one", **settings: object) -> WorkerContainer:
        extra = {f"WORKER_{setting.upper()}": str(value) for setting, value in settings.items()}
        worker = WorkerContainer(worker_image, kafka, name, pipeline.environment | extra, pipeline.directory)
        pipeline.workers.append(worker)
        return worker

    return prepared
