"""One node of the embedded Kafka: its directory, its configuration and its process."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.child_process import dies_with_parent
from worker.errors import BrokerUnreachable
from worker.kafka.distribution import java_executable

HOST: Final = "127.0.0.1"
LOG_TAIL_LINES: Final = 15
LOG_ERRORS: Final = 8
# Below Linux' ephemeral range (32768-60999): a port in it may be taken by an outgoing connection while its
# node is down, and a client that retries a closed port there can even end up connected to itself.
PORTS: Final = range(12_000, 32_000)

LOG4J2: Final = """\
<Configuration status="warn">
  <Appenders>
    <RollingFile name="file" fileName="${sys:kafka.logs.dir}/kafka.log"
                 filePattern="${sys:kafka.logs.dir}/kafka.log.%i">
      <PatternLayout pattern="%d %p %m (%c)%n"/>
      <SizeBasedTriggeringPolicy size="10 MB"/>
      <DefaultRolloverStrategy max="3"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Root level="info"><AppenderRef ref="file"/></Root>
  </Loggers>
</Configuration>
"""


@dataclass(frozen=True)
class Ports:
    """Where a node listens: for clients, for the other brokers, for the other controllers."""

    client: int
    internal: int
    controller: int
    advertised: int
    """What clients are told to connect to: the client port, or that of a proxy in front of it."""


class Node:
    """Broker and controller in one JVM. The cluster decides when; this knows how."""

    def __init__(self, number: int, directory: Path, ports: Ports, jvm_options: Sequence[str]) -> None:
        self.number = number
        self.ports = ports
        self.paused = False
        self.process: subprocess.Popen[bytes] | None = None
        self._directory = directory
        self._jvm_options = jvm_options

    @property
    def log(self) -> Path:
        """Kafka's own log; what the JVM itself prints is in console.log beside it."""
        return self._directory / "logs" / "kafka.log"

    @property
    def running(self) -> bool:
        """Whether there is a process, serving or paused."""
        return self.process is not None and self.process.poll() is None

    @property
    def formatted(self) -> bool:
        """Whether the storage has been prepared, by this object or an earlier one on the same directory."""
        return (self._directory / "data" / "meta.properties").exists()

    def configure(self, properties: Mapping[str, str]) -> None:
        """Write server.properties: what every node has of its own, then `properties`."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        (self._directory / "log4j2.xml").write_text(LOG4J2)
        own = {
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "listeners": f"CLIENT://{HOST}:{self.ports.client},INTERNAL://{HOST}:{self.ports.internal},"
            f"CONTROLLER://{HOST}:{self.ports.controller}",
            "advertised.listeners": f"CLIENT://{HOST}:{self.ports.advertised},INTERNAL://{HOST}:{self.ports.internal}",
            "log.dirs": str(self._directory / "data"),
        }
        text = "".join(f"{name}={value}\n" for name, value in {**own, **properties}.items())
        self._properties_file.write_text(text)

    def format(self, cluster_id: str, classpath: Sequence[Path]) -> None:
        """Prepare an empty storage, once in the life of a directory. Raises BrokerUnreachable."""
        command = [*self._java(classpath), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command += ["-t", cluster_id, "-c", str(self._properties_file)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise self.failure(f"could not format its storage:\n{done.stdout}")

    def launch(self, classpath: Sequence[Path], launcher: Executor) -> None:
        """Start the process and return. It dies with the thread of `launcher` that starts it."""
        command = [*self._java(classpath), "kafka.Kafka", str(self._properties_file)]
        with (self.log.parent / "console.log").open("ab") as console:

            def start() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C in a terminal must reach this process alone: it decides in which order things stop.
                    start_new_session=True,
                    preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509 - takes no lock
                )

            self.process = launcher.submit(start).result()
        self.paused = False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one. After SIGSTOP it does nothing more when this returns."""
        if self.process is not None and self.running:
            os.kill(self.process.pid, number)
            self.paused = number == signal.SIGSTOP
            if self.paused and hasattr(os, "waitid"):  # not in macOS' Python 3.11
                # Each thread of it stops only when it is its turn, and may answer a request before.
                os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the end of the process; False when it still runs after the timeout."""
        try:
            if self.process is not None:
                self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def failure(self, what: str) -> BrokerUnreachable:
        """An error that says what happened and shows the errors and the end of the logs."""
        tails = "\n".join(_tail(path) for path in (self.log.parent / "console.log", self.log))
        return BrokerUnreachable(
            f"node {self.number} of the embedded Kafka ({HOST}:{self.ports.client}) {what}\n{tails}",
            "read the end of its log above; a port in use, too little memory or a full disk are the usual causes.",
        )

    @property
    def _properties_file(self) -> Path:
        return self._directory / "server.properties"

    def _java(self, classpath: Sequence[Path]) -> list[str]:
        return [
            str(java_executable()),
            *self._jvm_options,
            f"-Dlog4j2.configurationFile={self._directory / 'log4j2.xml'}",
            f"-Dkafka.logs.dir={self.log.parent}",
            "-cp",
            ":".join(str(jar) for jar in classpath),
        ]


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now. Nothing keeps them free: a start may still fail, and says so."""
    found: set[int] = set()
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as candidate:
            if candidate.connect_ex((HOST, port)) != 0:
                found.add(port)
    return list(found)


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    lines = path.read_text(errors="replace").splitlines()
    # A shutdown writes a hundred lines after the error that caused it; the exception is on the line below the error.
    errors = [at for at, line in enumerate(lines) if " ERROR " in line or " FATAL " in line][:LOG_ERRORS]
    shown = sorted({at + below for at in errors for below in (0, 1)} | set(range(len(lines))[-LOG_TAIL_LINES:]))
    return f"--- {path}\n" + "\n".join(lines[at] for at in shown if at < len(lines))
