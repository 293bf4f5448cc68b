"""A real Apache Kafka of one to three nodes on 127.0.0.1, for development, the demo and the tests.

Not for production: small heaps, one machine, no authentication unless `properties` asks for it.
"""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from worker.kafka.distribution import kafka_classpath
from worker.kafka.handshake import ask_api_versions, ask_brokers
from worker.kafka.node import HOST, Node, Ports, free_ports

START_SECONDS: Final = 180.0
"""3 s on an idle machine; a CI machine that runs three JVMs on two busy cores needs much longer."""
STOP_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 2.0
MEMORY: Final = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC")


class EmbeddedKafka:
    """A Kafka cluster that lives as long as this object, and never longer than this process.

    Use it as a context manager, or `start()` and `close()`. Every node is broker and controller. Nodes are
    numbered from 1 and keep their ports when they are stopped and started again. Methods that take a node mean
    all of them without one. Not thread-safe.

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
        advertised_port: int | None = None,
    ) -> None:
        """Prepare, start nothing.

        port: of the first node, the others follow it; free ports when not given.
        data_directory: kept on close; a temporary one, removed on close, when not given.
        advertised_port: of a proxy that the clients of the first node must go through, to `port(1)`.
        full_jit: let the JVM optimise fully: slower to start, faster after a minute. For benchmarks.
        """
        if not 1 <= nodes <= 3:
            raise ValueError(f"1 to 3 nodes, not {nodes}")
        self._temporary = None
        if data_directory is None:
            # Removed at the end of the process at the latest.
            self._temporary = tempfile.TemporaryDirectory(prefix="session-worker-kafka-", ignore_cleanup_errors=True)
            data_directory = Path(self._temporary.name)
        self.data_directory = data_directory.absolute()
        self._properties = dict(properties or {})
        # A JVM dies with the thread that started it (PR_SET_PDEATHSIG): that thread must live as long as this object.
        self._launcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-kafka")
        jvm_options = MEMORY if full_jit else (*MEMORY, "-XX:TieredStopAtLevel=1")
        free = free_ports(3 * nodes)
        self._nodes = {}
        for number in range(1, nodes + 1):
            client = port + number - 1 if port else free.pop()
            advertised = advertised_port if advertised_port and number == 1 else client
            ports = Ports(client, free.pop(), free.pop(), advertised)
            self._nodes[number] = Node(number, self.data_directory / f"node-{number}", ports, jvm_options)

    @property
    def bootstrap_servers(self) -> str:
        """host:port of every node, running or not."""
        return ",".join(f"{HOST}:{node.ports.client}" for node in self._nodes.values())

    @property
    def internal_servers(self) -> str:
        """host:port of every node's plaintext listener, where the nodes talk to each other. With a login and ACLs on
        the listener for clients, this is the way in of whoever sets them up (`super.users=User:ANONYMOUS`)."""
        return ",".join(f"{HOST}:{node.ports.internal}" for node in self._nodes.values())

    @property
    def nodes(self) -> list[int]:
        """The numbers of all nodes, running or not."""
        return list(self._nodes)

    def port(self, node: int) -> int:
        """The port of a node's client listener."""
        return self._nodes[node].ports.client

    def pid(self, node: int) -> int | None:
        """Process id of a node's JVM; None when it does not run."""
        process = self._nodes[node].process
        return process.pid if process is not None and process.poll() is None else None

    def log(self, node: int) -> Path:
        """The file with a node's log."""
        return self._nodes[node].log

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
        """Start what does not run; with `wait`, return when it serves: see `wait_until_ready`."""
        starting = [n for n in self._selected(node) if not n.running]
        classpath = kafka_classpath()
        for each in starting:
            each.configure(self._shared_properties() | self._properties)
            if not each.formatted:
                each.format(self._cluster_id(), classpath)
        for each in starting:
            each.launch(classpath, self._launcher)
        if wait:
            self.wait_until_ready(node)

    def wait_until_ready(self, node: int | None = None) -> None:
        """Return when the nodes answer metadata requests and list each other and every other node that runs.

        A node killed with -9 needs about 6 s: the controller lets it in again when its old session has ended.
        Raises BrokerUnreachable with the end of the node's log when it exits or takes over START_SECONDS.
        """
        deadline = time.monotonic() + START_SECONDS
        waiting = self._selected(node)
        while not all(self._ready(each) for each in waiting):
            for each in waiting:
                if not each.running:
                    raise each.failure("exited")
            if time.monotonic() > deadline:
                slow = next((each for each in waiting if not self._ready(each)), waiting[0])
                raise slow.failure(f"did not serve within {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def stop(self, node: int | None = None) -> None:
        """SIGTERM: a clean shutdown, with SIGKILL after 30 s. A node that is paused goes on first."""
        deadline = time.monotonic() + STOP_SECONDS
        for each in self._selected(node):
            each.signal(signal.SIGCONT)
            each.signal(signal.SIGTERM)
        for each in self._selected(node):
            if not each.wait(max(0.1, deadline - time.monotonic())):
                self.kill(each.number)

    def kill(self, node: int | None = None) -> None:
        """SIGKILL, and wait until the process is gone.

        Judge exactly-once with three nodes, never with one: when the only node dies between a commit and its
        markers, Kafka 4.4.0 itself may drop them. The restarted coordinator takes partitions without a leader
        for deleted ("likely deleted already and hence can be skipped") and calls the transaction complete;
        read_committed readers then stop in front of it.
        """
        for each in self._selected(node):
            each.signal(signal.SIGKILL)
        for each in self._selected(node):
            each.wait()

    def pause(self, node: int | None = None) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        for each in self._selected(node):
            each.signal(signal.SIGSTOP)

    def resume(self, node: int | None = None) -> None:
        """SIGCONT after `pause`."""
        for each in self._selected(node):
            each.signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop everything for good. Cleanly when the data is kept; else at once, and the data is removed."""
        if self._temporary is None:
            self.stop()
        self.kill()
        self._launcher.shutdown()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _selected(self, node: int | None) -> list[Node]:
        return list(self._nodes.values()) if node is None else [self._nodes[node]]

    def _ready(self, node: Node) -> bool:
        expected = {other.number for other in self._nodes.values() if other.running and not other.paused}
        try:
            known = ask_brokers((HOST, node.ports.internal), ANSWER_SECONDS)
            # The client listener opens after the internal one, and fails when its port is taken.
            if self._client_listener_has_tls():
                socket.create_connection((HOST, node.ports.client), ANSWER_SECONDS).close()
            else:
                ask_api_versions((HOST, node.ports.client), None, ANSWER_SECONDS)
        except OSError:
            return False
        return expected <= known.keys()

    def _client_listener_has_tls(self) -> bool:
        protocols = self._properties.get("listener.security.protocol.map", "").split(",")
        return "CLIENT:SSL" in protocols or "CLIENT:SASL_SSL" in protocols

    def _cluster_id(self) -> str:
        file = self.data_directory / "cluster.id"
        if not file.exists():
            self.data_directory.mkdir(parents=True, exist_ok=True)
            # The same form as Kafka's own random ids: 16 bytes in 22 characters of URL-safe base64.
            file.write_text(uuid4().hex[:22])
        return file.read_text()

    def _shared_properties(self) -> dict[str, str]:
        replicas = str(len(self._nodes))
        in_sync = "2" if len(self._nodes) == 3 else "1"
        return {
            "controller.quorum.voters": ",".join(
                f"{node.number}@{HOST}:{node.ports.controller}" for node in self._nodes.values()
            ),
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "INTERNAL",
            "controller.listener.names": "CONTROLLER",
            "auto.create.topics.enable": "false",
            "min.insync.replicas": in_sync,
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "group.initial.rebalance.delay.ms": "0",
            # A node killed with -9 may register again only after its old session ends (9 s by default).
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
        }
