"""What a chaos scenario is.

A scenario is a function `play(run)` with a name. It starts workers on a real Kafka, lets events come, injects
its fault and heals it. What happens then is the same for all, in `Run.finish`: the input drains, the workers
stop, the oracle judges every record. A scenario whose fault did not bite fails: it must count each one it saw
with `run.injected`. The same function is the short form (`make test`) and the long one (`make chaos`); it asks
`run.scaled(short, long)` how much to do, and `run.rng` for every choice, so that a seed repeats a run's choices.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tests.broker.pipeline import Pipeline
from tests.broker.processes import WorkerProcess
from tests.chaos.bounds import Bounds
from tests.chaos.proxy import Proxy
from tests.chaos.traffic import Traffic
from tests.logs import end_offsets
from tests.patience import PATIENCE_SECONDS
from tests.verdict import Verdict
from worker.kafka.embedded import EmbeddedKafka
from worker.load.generator import generate

Broker = Literal["shared", "cluster", "proxied"]
"""On which Kafka a scenario plays: one node that many share and nobody hurts; three nodes (replication 3,
min.insync.replicas 2) that may be hurt and are healed between scenarios; one node behind a proxy that the workers
must pass, both may be hurt too (but kill -9 of a single node is not judged: see EmbeddedKafka.kill)."""

READY: Final = re.compile(r"\bready\b")
"""Logged in either format."""
SCHEMA_EVERY: Final = 50
"""Faults change what is written and when, not how a record looks."""


@dataclass(frozen=True)
class Scenario:
    """A named fault."""

    name: str
    broker: Broker
    play: Callable[[Run], None]
    has_short_form: bool = True

    @property
    def about(self) -> str:
        """What goes wrong, in a line."""
        return (self.play.__doc__ or "").strip().split("\n")[0]


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(
    name: str, *, broker: Broker = "shared", has_short_form: bool = True
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Registers a function as the scenario `name`. Its docstring's first line says what goes wrong.

    has_short_form: False leaves it to `make chaos`, because it takes too long, or a short one covers the same.
    """

    def register(play: Callable[[Run], None]) -> Callable[[Run], None]:
        assert name not in SCENARIOS, f"two scenarios are called {name}"
        SCENARIOS[name] = Scenario(name, broker, play, has_short_form)
        return play

    return register


class Run:
    """One run of a scenario: its pipeline, its choices, and what is told about it afterwards."""

    def __init__(
        self, name: str, kafka: EmbeddedKafka, pipeline: Pipeline, directory: Path, seed: int, *, long: bool
    ) -> None:
        self.name = name
        self.directory = directory
        self.long = long
        self.seed = seed
        self.rng = random.Random(f"{name}/{seed}")
        self.events = generate(sessions=None, seed=seed)
        """The synthetic stream without end. Sessions begun in one part of it go on in the next."""
        self.kafka = kafka
        self.pipeline = pipeline
        """An app of its own; a scenario may go on with another."""
        self.bounds = Bounds(lambda: self.pipeline.workers)
        self.faults: Counter[str] = Counter()
        self.aborted_records = 0
        self.resume_seconds: list[float] = []
        self.times: dict[str, float] = {}
        self._proxy: Proxy | None = None

    @property
    def proxy(self) -> Proxy:
        """Between the workers and the broker, with broker="proxied"."""
        assert self._proxy is not None, "this scenario's broker is not behind a proxy"
        return self._proxy

    def through(self, proxy: Proxy) -> None:
        """Names the proxy that is in the workers' way."""
        self._proxy = proxy

    def scaled(self, short: int, long: int) -> int:
        """How much of something: of events, kills, rounds."""
        return long if self.long else short

    def injected(self, fault: str, times: int = 1) -> None:
        """Counts a fault that was seen to bite, in words for the table: "kill -9", "transaction aborted"."""
        assert times > 0, f"it did not bite: {fault}"
        self.faults[fault] += times

    def measured(self, what: str, seconds: float) -> None:
        """A time worth telling, in words for the table; the longest of those measured in one run is shown."""
        self.times[what] = max(seconds, self.times.get(what, 0.0))

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Measures how long a worker takes to leave: tell it inside the `with`, and wait for its exit."""
        started = time.monotonic()
        yield
        self.measured("SIGTERM to exit", time.monotonic() - started)

    def count_aborted(self) -> int:
        """Counts the records that were written and then aborted, so that faults in mid-transaction show."""
        uncommitted = self.pipeline.written(isolation="read_uncommitted")
        committed = self.pipeline.written(isolation="read_committed")
        self.aborted_records = sum(uncommitted.values()) - sum(committed.values())
        return self.aborted_records

    @contextmanager
    def traffic(self, per_second: int = 1_000, **knobs: int) -> Iterator[Traffic]:
        """Further events of the run's stream arrive in the background inside the `with`; see Traffic."""
        with Traffic(self.pipeline, self.events, per_second=per_second, **knobs) as traffic:
            yield traffic

    @contextmanager
    def resuming(self, *, since: float | None = None) -> Iterator[None]:
        """Measures, from the `with`'s beginning (or `since`, of time.monotonic), until every partition that has had
        work since that beginning has committed some: put the healing inside the `with`, under load. A fault comes
        before it: what is committed until the fault bites would count as going on. Without work nothing is measured."""
        before = self.pipeline.committed()
        started = time.monotonic() if since is None else since
        yield
        waiting = self._behind(before)
        if not waiting:
            return
        self.pipeline.wait_until(lambda: not (waiting & self._stuck_at(before)), f"partitions {sorted(waiting)} go on")
        self.resume_seconds.append(time.monotonic() - started)

    def wait_progress(self, events: int, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Waits until `events` more are committed than now; they must be there or be coming."""
        goal = sum(self.pipeline.committed().values()) + events
        self.pipeline.wait_until(
            lambda: sum(self.pipeline.committed().values()) >= goal, f"{events} more committed", timeout_seconds
        )

    def ends(self) -> dict[int, int]:
        """Where the input ends now, per partition."""
        return end_offsets(self.pipeline.bootstrap, self.pipeline.names.updates)

    def _is_ready(self, worker: WorkerProcess) -> bool:
        if not worker.is_fleet:
            return bool(READY.search(worker.said()))
        served = [partition for partitions in worker.served().values() for partition in partitions]
        return sorted(served) == list(range(self.pipeline.partitions))

    def lag(self, partition: int) -> int:
        """Offsets of the partition that are not committed yet."""
        return self.ends()[partition] - self.pipeline.committed().get(partition, 0)

    def _behind(self, committed: dict[int, int]) -> set[int]:
        return {p for p, end in self.ends().items() if committed.get(p, 0) < end}

    def _stuck_at(self, before: dict[int, int]) -> set[int]:
        now = self.pipeline.committed()
        return {p for p in range(self.pipeline.partitions) if now.get(p, 0) <= before.get(p, 0)}

    def finish(self) -> Verdict:
        """Drains, stops every running worker, and judges: raises AssertionError unless all is as it must be."""
        running = [worker for worker in self.pipeline.workers if worker.running]
        assert running, "no worker is left to heal what the scenario did"
        self.pipeline.forget_targets()
        self.pipeline.wait_drained()
        for worker in running:
            # One that was started last may still restore: stopped then, its store would be behind, and rightly so.
            self.pipeline.wait_until(lambda: self._is_ready(worker), f"{worker.name} is ready")  # noqa: B023
        self.bounds.look()
        for worker in running:
            worker.stop()
        self.bounds.require_kept()
        self.count_aborted()
        with_store = [worker for worker in running if _keeps_store(worker)]
        verdict = self.pipeline.verdict(*with_store, schema_every=SCHEMA_EVERY).require_clean()
        assert verdict.events, "no event was there to judge"
        assert self.faults, "the scenario's fault did not bite"
        return verdict


def _keeps_store(worker: WorkerProcess) -> bool:
    """Whether its state directory has what it served last: not with a store in memory, beside which lies what an
    earlier start left, nor when it had no time to flush."""
    kept = worker.environment.get("WORKER_STORE") != "memory" and any(worker.state_dir.glob("**/sessions"))
    return kept and not any(event in worker.said() for event in ("stopped_without_broker", "child_killed"))
