"""A project of `docker compose`: docker-compose.yml under a name, a port and an image of its own."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from typing import Any

from tests.broker.processes import PROJECT
from worker.kafka.node import HOST, free_ports

CALL_SECONDS = 180


class ComposeProject:
    """Use as a context manager: at its end everything the project made is removed."""

    def __init__(self, image: str, **variables: str) -> None:
        port = free_ports(1)[0]
        self.name = f"session-worker-test-{uuid.uuid4().hex[:8]}"
        self.bootstrap_servers = f"{HOST}:{port}"
        given = {"COMPOSE_PROJECT_NAME": self.name, "WORKER_IMAGE": image, "KAFKA_PORT": str(port), **variables}
        self._environment = os.environ | given

    def __enter__(self) -> ComposeProject:
        return self

    def __exit__(self, *_: object) -> None:
        self("--profile", "*", "down", "--volumes", "--remove-orphans")

    def __call__(self, *arguments: str) -> str:
        """What `docker compose …` prints on stdout. AssertionError with all it says when it fails."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=PROJECT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            logs = "" if "logs" in arguments else self.logs()
            raise AssertionError(f"compose {arguments}: exit code {done.returncode}\n{logs}{done.stdout}{done.stderr}")
        return done.stdout

    def logs(self) -> str:
        """The last lines of every service."""
        return self("--profile", "*", "logs", "--no-color", "--tail", "20")

    def containers(self) -> dict[str, dict[str, Any]]:
        """Every container by its service, as `docker compose ps` knows it: State, Health, ExitCode, …"""
        listed = self("--profile", "*", "ps", "--all", "--format", "json").splitlines()
        return {each["Service"]: each for each in map(json.loads, listed)}
