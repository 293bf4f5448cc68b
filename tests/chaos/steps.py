"""kill -9 at every numbered step of the protocol (worker/engine/transaction.py), alone and in a rebalance.

The worker kills itself there (worker/engine/failpoint.py), so the moment is exact: the test sends no signal. What
must be found afterwards is known for each step, and looked for.
"""

from __future__ import annotations

import json
from typing import Final

from tests.broker.processes import WorkerProcess
from tests.chaos.crashes import SMALL_TRANSACTIONS, WAITING
from tests.chaos.scenario import Run, scenario
from tests.chaos.workers import arm, require_died_at, start_armed, wait_shared
from tests.logs import end_offsets, open_records, read_stores
from tests.oracle import POSITION_KEY

STEPS: Final = ("2", "3", "4", "4b", "5", "5b", "6", "restore", "7", "fence")
"""`restore` comes behind 6: there the kept store is behind the changelog."""

OPEN: Final = ("4b", "5", "5b")
"""Records lie in a transaction that nobody will end: fencing aborts it."""

REVOKED: Final = ("4b", "5", "5b", "6", "7")
"""Where a transaction that runs while its partition is being given up can be."""


def at_every_step(run: Run, store: str, steps: tuple[str, ...]) -> None:
    """One worker, killed at each of the steps in turn; in the long form several times."""
    pipeline = run.pipeline
    pipeline.create_topics()
    worker = pipeline.prepared(store=store, **SMALL_TRANSACTIONS)
    deaths: list[dict[int, int]] = []
    with run.traffic(per_second=1_200, waiting=WAITING):
        worker.start()
        run.wait_progress(500)
        worker.kill9()
        for _ in range(run.scaled(1, 3)):
            for step in steps:
                once = step in ("fence", "restore")
                start_armed(worker, f"{step}:{1 if once else run.rng.randint(5, 60)}")
                require_died_at(worker, step)
                require_traces(run, worker, step)
                deaths.append(end_offsets(pipeline.bootstrap, pipeline.names.ledger))
                run.injected(f"kill -9 at {step}")
        with run.resuming():
            worker.start()
    # Only now is it decided what was committed before each death.
    pipeline.wait_drained()
    run.injected("death between a claim and its answer", sum(pipeline.held(before=ends) > 0 for ends in deaths))


def require_traces(run: Run, worker: WorkerProcess, step: str) -> None:
    """What a death at this step leaves behind."""
    if step in OPEN:
        left = open_records(run.pipeline.bootstrap, run.pipeline.names[1:])
        assert left, f"a death at step {step} left no open transaction"
        run.injected("record left in an open transaction", left)
    if step == "6" and worker.environment["WORKER_STORE"] == "rocksdb":
        positions = {
            partition: json.loads(rows[POSITION_KEY])["offset"] if POSITION_KEY in rows else 0
            for partition, rows in read_stores(worker.state_dir).items()
        }

        def is_behind() -> bool:
            return any(positions.get(p, 0) < offset for p, offset in run.pipeline.committed().items())

        run.pipeline.wait_until(is_behind, "a commit that the store has not", 10)
        run.injected("store behind the changelog")


@scenario("kill-9-at-every-step-rocksdb-alone")
def rocksdb_alone(run: Run) -> None:
    """The only worker, with RocksDB, kills itself at each step of the protocol."""
    at_every_step(run, "rocksdb", STEPS if run.long else ("3", "4b", "5b", "6", "restore"))


@scenario("kill-9-at-every-step-memory-alone")
def memory_alone(run: Run) -> None:
    """The only worker, with its store in memory, kills itself at each step of the protocol."""
    at_every_step(run, "memory", STEPS if run.long else ("2", "4", "5", "7", "fence"))


def in_a_rebalance(run: Run, store: str, steps: tuple[str, ...]) -> None:
    """The first of two workers dies at each step while a second joins; in the long form also while it leaves.

    Steps a running transaction passes are reached while the partitions are being given up; the others in the first
    transaction, or before it, of what is then assigned.
    """
    pipeline = run.pipeline
    pipeline.create_topics()
    first = pipeline.prepared("first", store=store, **SMALL_TRANSACTIONS)
    workers = [first]
    # More than the first one can do: each of its partitions has a transaction open when another joins.
    with run.traffic(per_second=2_000, waiting=WAITING):
        start_armed(first, in_the_middle(steps[0]))
        for number, step in enumerate(steps, start=1):
            run.wait_progress(1_000)
            second = pipeline.worker(f"second-{number}", store=store, **SMALL_TRANSACTIONS)
            require_died_at(first, step)
            run.injected(f"kill -9 at {step}, another joins")
            last = number == len(steps) and not run.long
            arm(first, None if last else in_the_middle(step if run.long else steps[number]))
            first.start()
            first.expected_up = last
            workers = [first, second] if run.long else [*workers, second]
            wait_shared(run, workers, even(len(workers)))
            if run.long:
                second.stop()
                require_died_at(first, step)
                run.injected(f"kill -9 at {step}, another leaves")
                arm(first, in_the_middle(steps[number]) if number < len(steps) else None)
                first.start()
                first.expected_up = number == len(steps)
                wait_shared(run, [first], [4])


def in_the_middle(step: str) -> str:
    """The failpoint of the first time this step is reached after a revocation began."""
    return f"revoke:1,{step}:1"


def even(workers: int) -> list[int]:
    """How four partitions are spread."""
    return {2: [2, 2], 3: [1, 1, 2], 4: [1, 1, 1, 1]}[workers]


@scenario("kill-9-at-every-step-rocksdb-rebalance")
def rocksdb_rebalance(run: Run) -> None:
    """A worker with RocksDB kills itself at each step while another joins or leaves."""
    in_a_rebalance(run, "rocksdb", ("2", "3", "4", *REVOKED, "fence") if run.long else ("5b", "6"))


@scenario("kill-9-at-every-step-memory-rebalance")
def memory_rebalance(run: Run) -> None:
    """A worker with its store in memory kills itself at each step while another joins or leaves."""
    in_a_rebalance(run, "memory", ("2", "3", "4", *REVOKED, "fence") if run.long else ("4b", "7"))
