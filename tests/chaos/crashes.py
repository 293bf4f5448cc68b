"""Workers killed with -9 at random moments, and while they still restore after the kill before."""

from __future__ import annotations

import shutil
from typing import Any, Final

from tests.chaos.scenario import Run, scenario
from tests.chaos.workers import require_died_at, start_armed, wait_shared

SMALL_TRANSACTIONS: Final[Any] = {"batch_max_records": 20, "log_format": "json", "test_write_buffer_bytes": 65_536}
"""Many short transactions: a signal at a random moment nearly always meets one. RocksDB writes to disk all the time."""

WAITING: Final = 3_000
"""Events come only while no more than so many wait: enough for a fault to meet work, little to drain at the end."""


@scenario("kill-9-at-random")
def kill_at_random(run: Run) -> None:
    """The only worker is killed with -9 at random moments, under load, and started again, with either store."""
    run.pipeline.create_topics()
    with run.traffic(per_second=1_200, waiting=WAITING):
        worker = run.pipeline.worker(**SMALL_TRANSACTIONS)
        for _ in range(run.scaled(4, 30)):
            run.wait_progress(run.rng.randint(100, 1_000))
            worker.kill9()
            run.injected("kill -9")
            # RocksDB's files stay where they are meanwhile: the next start with it catches up.
            worker.environment["WORKER_STORE"] = run.rng.choice(("rocksdb", "memory"))
            with run.resuming():
                worker.start()


@scenario("kill-9-of-one-of-two")
def kill_one_of_two(run: Run) -> None:
    """One of two workers is killed with -9 and stays away: the other takes over after the session timeout."""
    run.pipeline.create_topics()
    with run.traffic(per_second=1_000, waiting=WAITING):
        workers = [run.pipeline.worker(name, **SMALL_TRANSACTIONS) for name in ("left", "right")]
        for _ in range(run.scaled(1, 6)):
            for worker in workers:
                if not worker.running:
                    worker.start()
            wait_shared(run, workers, [2, 2])
            run.wait_progress(run.rng.randint(500, 2_000))
            run.rng.shuffle(workers)
            victim, heir = workers
            victim.kill9()
            run.injected("kill -9")
            with run.resuming():
                wait_shared(run, [heir], [4])
            run.injected("takeover")


@scenario("kill-9-while-restoring")
def kill_while_restoring(run: Run) -> None:
    """A worker that lost its state is killed with -9 while it restores it, twice in a row, and starts again."""
    run.pipeline.create_topics()
    worker = run.pipeline.prepared(instance_id="one", **SMALL_TRANSACTIONS)
    for turn in range(run.scaled(2, 8)):
        worker.environment["WORKER_STORE"] = ("rocksdb", "memory")[turn % 2]
        with run.traffic(per_second=3_000, waiting=WAITING):
            worker.start()
            run.wait_progress(3_000)
            worker.kill9()
        shutil.rmtree(worker.state_dir)
        for _ in range(2):
            # With RocksDB the second start goes on where the first one ended, in another partition.
            start_armed(worker, "restore:1")
            require_died_at(worker, "restore")
            run.injected("kill -9 while restoring")
    with run.traffic(per_second=1_200, waiting=WAITING), run.resuming():
        worker.start()


@scenario("kill-9-while-joining")
def kill_while_joining(run: Run) -> None:
    """A worker that joins a running one is killed with -9 while it restores its first partitions, and starts again."""
    run.pipeline.create_topics()
    with run.traffic(per_second=1_000, waiting=WAITING):
        workers = [run.pipeline.worker("first", **SMALL_TRANSACTIONS)]
        for turn in range(run.scaled(1, 3)):
            run.wait_progress(1_000)
            joining = run.pipeline.prepared(
                f"joining-{turn}", store=("memory", "rocksdb")[turn % 2], **SMALL_TRANSACTIONS
            )
            start_armed(joining, "restore:1")
            require_died_at(joining, "restore")
            run.injected("kill -9 while restoring, in a rebalance")
            workers.append(joining)
            with run.resuming():
                joining.start()
                wait_shared(run, workers, {2: [2, 2], 3: [1, 1, 2], 4: [1, 1, 1, 1]}[len(workers)])
