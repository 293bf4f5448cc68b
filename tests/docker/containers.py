"""Kafka and the worker as containers: the image and settings of docker-compose.yml, the interface of WorkerProcess."""

from __future__ import annotations

import io
import shutil
import signal
import tarfile
import uuid
from pathlib import Path
from typing import Any, Final

import requests.exceptions
import yaml
from docker.errors import APIError
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tests.broker.processes import PROJECT, WorkerProcess
from tests.patience import PATIENCE_SECONDS
from worker.kafka.node import HOST, free_ports

COMPOSE_FILE: Final = PROJECT / "docker-compose.yml"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load(COMPOSE_FILE.read_text())
STATE_DIR: Final = "/state"
HARDENED: Final[dict[str, Any]] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}
"""What docker-compose.yml gives every container of the worker (tests/test_compose_file.py)."""


class KafkaContainer:
    """The broker of docker-compose.yml on a network of its own; use as a context manager.

    Tests on the host reach it as `bootstrap_servers`, containers on `network` as `INSIDE`.
    """

    INSIDE: Final = "kafka:9092"

    def __init__(self) -> None:
        service = COMPOSE["services"]["kafka"]
        port = free_ports(1)[0]
        self.bootstrap_servers = f"{HOST}:{port}"
        self.network = Network()
        self._container = (
            DockerContainer(service["image"])
            .with_envs(**{name: str(value) for name, value in service["environment"].items()})
            # Compose would have replaced the variables in these two.
            .with_env("KAFKA_ADVERTISED_LISTENERS", f"CONTAINERS://{self.INSIDE},HOST://{self.bootstrap_servers}")
            .with_env("KAFKA_HEAP_OPTS", "-Xmx512m -Xms256m")
            .with_network(self.network)
            .with_network_aliases("kafka")
            .waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(120))
        )
        # with_bind_ports knows only ports that the whole network could reach.
        self._container.ports["29092/tcp"] = (HOST, port)  # type: ignore[assignment]

    def __enter__(self) -> KafkaContainer:
        self.network.create()
        try:
            self._container.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._container.stop()
        self.network.remove()


class WorkerContainer(WorkerProcess):
    """The worker's image as a container; started again, it is a new container on the volume of the one before."""

    def __init__(
        self, image: str, kafka: KafkaContainer, name: str, environment: dict[str, str], directory: Path
    ) -> None:
        super().__init__(name, environment | {"WORKER_BOOTSTRAP_SERVERS": kafka.INSIDE}, directory)
        del self.environment["WORKER_STATE_DIR"]  # the image has its own
        self.volume = f"worker-test-{uuid.uuid4().hex[:12]}"
        self._image, self._network = image, kafka.network
        self._docker: DockerContainer | None = None

    @property
    def container(self) -> Any:
        """The container as docker-py knows it, its state as of now."""
        assert self._docker is not None, f"{self.name} was never started, or has ended"
        container = self._docker.get_wrapped_container()
        container.reload()
        return container

    @property
    def health(self) -> str:
        """What Docker makes of the health check: starting, healthy or unhealthy."""
        return str(self.container.attrs["State"]["Health"]["Status"])

    def start(self) -> WorkerContainer:
        assert self._docker is None, f"{self.name} is already running"
        self.expected_up = True
        self._docker = (
            DockerContainer(self._image)
            .with_envs(**self.environment)
            .with_network(self._network)
            .with_volume_mapping(self.volume, STATE_DIR, "rw")
            .with_kwargs(**HARDENED)
        )
        self._docker.start()
        return self

    @property
    def running(self) -> bool:
        return self._docker is not None and self.container.status == "running"

    def kill9(self) -> None:
        """SIGKILL; when this returns the container is gone and its volume is left."""
        self.expected_up = False
        self._signal(signal.SIGKILL)
        assert self.wait_exit() == 128 + signal.SIGKILL

    def wait_exit(self, timeout_seconds: float = PATIENCE_SECONDS) -> int:
        """The exit code (128 + n: signal n); AssertionError with the log's tail when it runs on.

        The container goes; its log is kept, and `state_dir` becomes a copy of its volume.
        """
        container = self.container
        try:
            code = int(container.wait(timeout=timeout_seconds)["StatusCode"])
        except requests.exceptions.RequestException:
            raise AssertionError(f"{self.name} still runs after {timeout_seconds} s\n{self.tail()}") from None
        self._copy_state(container)
        self._remove_container()
        return code

    def require_running(self) -> None:
        if not self.running:
            raise AssertionError(f"{self.name} is not running\n{self.tail()}")

    def output(self) -> str:
        current = self.container.logs().decode(errors="replace") if self._docker is not None else ""
        return super().output() + current

    def destroy(self) -> None:
        """End it whatever its state, and delete its volume."""
        self.expected_up = False
        if self._docker is not None:
            self._remove_container()
        client = DockerContainer(self._image).get_docker_client().client
        for volume in client.volumes.list(filters={"name": self.volume}):
            volume.remove()
        client.close()

    def _copy_state(self, container: Any) -> None:
        shutil.rmtree(self.state_dir, ignore_errors=True)
        chunks, _ = container.get_archive(f"{STATE_DIR}/.")
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            archive.extractall(self.state_dir, filter="data")

    def _remove_container(self) -> None:
        assert self._docker is not None
        with self.log.open("ab") as log:
            log.write(self.container.logs())
        self._docker.stop()
        self._docker = None

    def _signal(self, number: signal.Signals) -> None:
        try:
            self.container.kill(signal=number.name)
        except APIError as error:
            raise AssertionError(f"{self.name} is not running ({error})\n{self.tail()}") from error
