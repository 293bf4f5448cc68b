"""A real Apache Kafka of one to three nodes on 127.0.0.1, for development, the demo and the tests.

Not for production: small heaps, one machine, no authentication unless `properties` asks for it.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from worker.errors import BrokerUnreachable
from worker.kafka.distribution import java_executable, kafka_classpath
from worker.kafka.handshake import ask_brokers

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 90.0
"""6 s on an idle machine; a CI machine that runs three JVMs on two cores needs much longer."""
STOP_SECONDS: Final = 30.0
PR_SET_PDEATHSIG: Final = 1
POLL_SECONDS: Final = 0.1
LOG_TAIL_LINES: Final = 40
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


@dataclass
class _Node:
    number: int
    directory: Path
    client_port: int
    internal_port: int
    controller_port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class EmbeddedKafka:
    """A Kafka cluster that lives as long as this object, and never longer than this process.

    Use it as a context manager, or `start()` and `close()`. Every node is broker and controller. Nodes are
    numbered from 1 and keep their ports when they are stopped and started again. Not thread-safe.

    `properties` are added to every node's server.properties and win over what stands there. Clients use the
    listener named CLIENT (`listener.name.client.…`), PLAINTEXT unless `listener.security.protocol.map` says
    otherwise; the nodes talk to each other on a plaintext listener of their own.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        port: int | None = None,
        data_directory: Path | None = None,
        properties: Mapping[str, str] | None = None,
        full_jit: bool = False,
    ) -> None:
        """Prepare, start nothing.

        port: of the first node, the others follow it; free ports when not given.
        data_directory: kept on close; a temporary one, removed on close, when not given.
        full_jit: let the JVM optimise fully: slower to start, faster after a minute. For benchmarks.
        """
        if not 1 <= nodes <= 3:
            raise ValueError(f"1 to 3 nodes, not {nodes}")
        self.keeps_data = data_directory is not None
        self.data_directory = (data_directory or Path(tempfile.mkdtemp(prefix="session-worker-kafka-"))).absolute()
        self._properties = dict(properties or {})
        self._jit = [] if full_jit else ["-XX:TieredStopAtLevel=1"]
        # A JVM dies with the thread that started it (PR_SET_PDEATHSIG): that thread must live as long as this object.
        self._launcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-kafka")
        taken: set[int] = set()
        self._nodes = {
            number: _Node(
                number,
                self.data_directory / f"node-{number}",
                port + number - 1 if port else _free_port(taken),
                _free_port(taken),
                _free_port(taken),
            )
            for number in range(1, nodes + 1)
        }

    @property
    def bootstrap_servers(self) -> str:
        """host:port of every node, running or not."""
        return ",".join(f"{HOST}:{node.client_port}" for node in self._nodes.values())

    @property
    def nodes(self) -> list[int]:
        """The numbers of all nodes, running or not."""
        return list(self._nodes)

    def port(self, node: int) -> int:
        """The port of a node's client listener."""
        return self._nodes[node].client_port

    def pid(self, node: int) -> int | None:
        """Process id of a running node's JVM."""
        process = self._nodes[node].process
        return process.pid if process is not None and process.poll() is None else None

    def log(self, node: int) -> Path:
        """The file with a node's log."""
        return self._nodes[node].directory / "logs" / "kafka.log"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, node: int | None = None, *, wait: bool = True) -> None:
        """Start a node, or all that do not run; with `wait`, return when they serve metadata.

        Raises BrokerUnreachable with the end of the node's log when it exits or takes over 90 s.
        """
        starting = [n for n in self._selected(node) if not n.running]
        classpath = kafka_classpath()
        for unformatted in [n for n in starting if not (n.directory / "data" / "meta.properties").exists()]:
            self._format(unformatted, classpath)
        for each in starting:
            self._launch(each, classpath)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when every running node answers metadata requests and lists every running node."""
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            for node in self._nodes.values():
                if node.process is not None and node.process.poll() is not None and node.process.returncode > 0:
                    raise self._failure(node, f"exited with {node.process.returncode}")
            if time.monotonic() > deadline:
                node = next(n for n in self._nodes.values() if n.running)
                raise self._failure(node, f"did not serve within {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def stop(self, node: int | None = None) -> None:
        """SIGTERM: a clean shutdown, with SIGKILL after 30 s. A node that is paused goes on first."""
        stopping = [n for n in self._selected(node) if n.running]
        for each in stopping:
            _signal(each, signal.SIGCONT)
            _signal(each, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for each in stopping:
            assert each.process is not None
            try:
                each.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.kill(each.number)

    def kill(self, node: int | None = None) -> None:
        """SIGKILL, and wait until the process is gone."""
        for each in self._selected(node):
            _signal(each, signal.SIGKILL)
            if each.process is not None:
                each.process.wait()

    def pause(self, node: int | None = None) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        for each in self._selected(node):
            _signal(each, signal.SIGSTOP)

    def resume(self, node: int | None = None) -> None:
        """SIGCONT after `pause`."""
        for each in self._selected(node):
            _signal(each, signal.SIGCONT)

    def close(self) -> None:
        """Stop everything for good. Cleanly when the data is kept; else at once, and the data is removed."""
        if self.keeps_data:
            self.stop()
        self.kill()
        self._launcher.shutdown()
        if not self.keeps_data:
            shutil.rmtree(self.data_directory, ignore_errors=True)

    def _selected(self, node: int | None) -> list[_Node]:
        return list(self._nodes.values()) if node is None else [self._nodes[node]]

    def _ready(self) -> bool:
        running = {node.number for node in self._nodes.values() if node.running}
        for number in running:
            try:
                known = ask_brokers((HOST, self._nodes[number].internal_port), timeout_seconds=2.0)
            except OSError:
                return False
            if not running <= known.keys():
                return False
        return bool(running)

    def _format(self, node: _Node, classpath: list[Path]) -> None:
        """Write a node's configuration and an empty storage: once in the life of its directory."""
        (node.directory / "logs").mkdir(parents=True, exist_ok=True)
        (node.directory / "log4j2.xml").write_text(LOG4J2)
        cluster = self.data_directory / "cluster.id"
        if not cluster.exists():
            # The same form as Kafka's own random ids: 16 bytes in 22 characters of URL-safe base64.
            cluster.write_text(uuid4().hex[:22])
        self._write_properties(node)
        command = [*self._java(node, classpath), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command += ["-t", cluster.read_text(), "-c", str(node.directory / "server.properties")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise self._failure(node, f"could not format its storage:\n{done.stdout}")

    def _launch(self, node: _Node, classpath: list[Path]) -> None:
        self._write_properties(node)
        command = [*self._java(node, classpath), "kafka.Kafka", str(node.directory / "server.properties")]
        with (node.directory / "logs" / "console.log").open("ab") as console:

            def start() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C in a terminal must reach this process alone: it decides in which order things stop.
                    start_new_session=True,
                    preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - takes no lock
                )

            node.process = self._launcher.submit(start).result()

    def _java(self, node: _Node, classpath: list[Path]) -> list[str]:
        return [
            str(java_executable()),
            *("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", *self._jit),
            f"-Dlog4j2.configurationFile={node.directory / 'log4j2.xml'}",
            f"-Dkafka.logs.dir={node.directory / 'logs'}",
            "-cp",
            ":".join(str(jar) for jar in classpath),
        ]

    def _write_properties(self, node: _Node) -> None:
        replicas = len(self._nodes)
        voters = ",".join(f"{n.number}@{HOST}:{n.controller_port}" for n in self._nodes.values())
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(node.number),
            "controller.quorum.voters": voters,
            "listeners": f"CLIENT://{HOST}:{node.client_port},INTERNAL://{HOST}:{node.internal_port},"
            f"CONTROLLER://{HOST}:{node.controller_port}",
            "advertised.listeners": f"CLIENT://{HOST}:{node.client_port},INTERNAL://{HOST}:{node.internal_port}",
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "INTERNAL",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(node.directory / "data"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": str(min(3, replicas)),
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.replication.factor": str(min(3, replicas)),
            "transaction.state.log.min.isr": "2" if replicas == 3 else "1",
            "min.insync.replicas": "2" if replicas == 3 else "1",
            # A node killed with -9 may register again only after its old session ends (9 s by default).
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
            "share.coordinator.state.topic.replication.factor": str(min(3, replicas)),
            "share.coordinator.state.topic.min.isr": "1",
        } | self._properties
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (node.directory / "server.properties").write_text(text)

    def _failure(self, node: _Node, what: str) -> BrokerUnreachable:
        logs = node.directory / "logs"
        tails = [_tail(logs / name) for name in ("console.log", "kafka.log")]
        return BrokerUnreachable(
            f"node {node.number} of the embedded Kafka ({HOST}:{node.client_port}) {what}\n" + "\n".join(tails),
            "read the end of its log above; a port in use or a full disk are the usual causes.",
        )


def _die_with_parent() -> None:
    """In the child, before exec: SIGKILL when the starting thread ends, however it ends (prctl(2))."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# Looked up before the fork: after it, only what is sure to take no lock may run.
_LIBC: Final = ctypes.CDLL(None)
if sys.platform == "linux":
    _LIBC.prctl  # noqa: B018 - resolves the symbol now


def _signal(node: _Node, number: signal.Signals) -> None:
    if node.running:
        assert node.process is not None
        os.kill(node.process.pid, number)


def _free_port(taken: set[int]) -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as candidate:
            if port not in taken and candidate.connect_ex((HOST, port)) != 0:
                taken.add(port)
                return port


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    lines = path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return f"--- {path}\n" + "\n".join(lines)
