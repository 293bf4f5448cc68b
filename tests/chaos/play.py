"""Plays scenarios: finds them a broker and a pipeline, and says what came of it."""

from __future__ import annotations

import shutil
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.broker.pipeline import Pipeline
from tests.chaos.proxy import HOST, Proxy
from tests.chaos.scenario import Run, Scenario
from tests.verdict import Verdict
from worker.kafka.embedded import EmbeddedKafka
from worker.kafka.node import free_ports

CLUSTER_NODES: Final = 3


@dataclass(frozen=True)
class Played:
    """A row of the table."""

    scenario: Scenario
    run: Run
    seconds: float
    verdict: Verdict | None
    failure: str | None

    @property
    def resumed(self) -> str:
        """Seconds until work went on: the median and the slowest time; empty when the scenario measures none."""
        seconds = self.run.resume_seconds
        return f"{statistics.median(seconds):.1f} / {max(seconds):.1f}" if seconds else ""

    @property
    def faults(self) -> str:
        counted = [f"{times} × {fault}" for fault, times in self.run.faults.items()]
        if self.run.aborted_records:
            counted.append(f"{self.run.aborted_records} × aborted record")
        return ", ".join(counted + [f"{what} {seconds:.1f} s" for what, seconds in self.run.times.items()])


class Brokers:
    """The Kafkas scenarios play on, started when first asked for."""

    def __init__(self, shared: EmbeddedKafka | None = None) -> None:
        """shared: one node that runs already and is left running."""
        self._given = shared
        self._shared: EmbeddedKafka | None = None
        self._cluster: EmbeddedKafka | None = None
        self._proxied: EmbeddedKafka | None = None
        self.proxy: Proxy | None = None
        """In front of the node of scenarios with broker="proxied"."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._shared, self._cluster, self._proxied, self.proxy):
            if each is not None:
                each.close()

    def of(self, scenario: Scenario) -> EmbeddedKafka:
        """Ready to be played on, whatever the scenario before did to it."""
        if scenario.broker == "cluster":
            return self._healed_cluster()
        if scenario.broker == "proxied":
            return self._healed_proxied()
        return self._given or self._own_shared()

    def _own_shared(self) -> EmbeddedKafka:
        if self._shared is None:
            self._shared = EmbeddedKafka()
            self._shared.start()
        return self._shared

    def _healed_cluster(self) -> EmbeddedKafka:
        if self._cluster is None:
            self._cluster = EmbeddedKafka(nodes=CLUSTER_NODES)
        self._cluster.resume()
        self._cluster.start()
        return self._cluster

    def _healed_proxied(self) -> EmbeddedKafka:
        if self._proxied is None or self.proxy is None:
            port, behind = free_ports(2)
            # The broker looks for transactions that took too long this often, instead of every ten seconds.
            often = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000"}
            self._proxied = EmbeddedKafka(port=behind, advertised_port=port, properties=often)
            self.proxy = Proxy(port, behind)
            self.proxy.start()
        self.proxy.heal()
        self._proxied.resume()
        self._proxied.start()
        return self._proxied

    def discard(self, scenario: Scenario) -> None:
        """Closes what may be hurt: after a failure nobody knows what state it is in."""
        if scenario.broker == "cluster" and self._cluster is not None:
            self._cluster.close()
            self._cluster = None
        if scenario.broker == "proxied" and self._proxied is not None and self.proxy is not None:
            self._proxied.close()
            self.proxy.close()
            self._proxied = self.proxy = None


@contextmanager
def prepared(scenario: Scenario, brokers: Brokers, directory: Path, seed: int, *, long: bool) -> Iterator[Run]:
    """A run of the scenario, ready to play; its workers end with the `with`."""
    kafka = brokers.of(scenario)
    pipeline = Pipeline(
        kafka.internal_servers if scenario.broker == "proxied" else kafka.bootstrap_servers,
        f"{scenario.name}-{uuid.uuid4().hex[:8]}",
        directory,
        replicas=CLUSTER_NODES if scenario.broker == "cluster" else 1,
    )
    run = Run(scenario.name, kafka, pipeline, directory, seed, long=long)
    if scenario.broker == "proxied" and brokers.proxy is not None:
        # The workers' way leads through the proxy; traffic and oracle have one of their own, past all faults.
        pipeline.environment["WORKER_BOOTSTRAP_SERVERS"] = f"{HOST}:{brokers.proxy.port}"
        run.through(brokers.proxy)
    try:
        with run.bounds.watched():
            yield run
    finally:
        run.pipeline.destroy()


def play(scenario: Scenario, brokers: Brokers, directory: Path, seed: int, *, long: bool) -> Played:
    """The long or the short form, as a row of the table. The directory with all logs is kept when it fails."""
    directory.mkdir(parents=True)
    started = time.monotonic()
    verdict, failure = None, None
    with prepared(scenario, brokers, directory, seed, long=long) as run:
        try:
            scenario.play(run)
            verdict = run.finish()
        except Exception as error:  # noqa: BLE001 - a failed scenario is a row of the table, the next one is played
            failure = f"{type(error).__name__}: {error}"
    if failure is None:
        shutil.rmtree(directory)
    else:
        brokers.discard(scenario)
    return Played(scenario, run, time.monotonic() - started, verdict, failure)
