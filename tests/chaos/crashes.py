"""Workers that die: at random, and at each step of the protocol."""

from __future__ import annotations

from typing import Any, Final

from tests.chaos.scenario import Run, scenario

SMALL_TRANSACTIONS: Final[Any] = {"batch_max_records": 50}
"""Many short transactions: a signal at a random moment nearly always meets one."""


@scenario("kill-9-at-random")
def kill_at_random(run: Run) -> None:
    """The only worker is killed with -9 at random moments, under load, and started again."""
    run.pipeline.create_topics()
    with run.traffic(per_second=2_000):
        worker = run.pipeline.worker(**SMALL_TRANSACTIONS)
        for _ in range(run.scaled(4, 30)):
            run.wait_progress(run.rng.randint(100, 2_000))
            worker.kill9()
            run.injected("kill -9")
            with run.resuming():
                worker.start()
