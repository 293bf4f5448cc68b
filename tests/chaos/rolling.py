"""Restarts within the session timeout: a static member gets its partitions back, and nobody else notices."""

from __future__ import annotations

from typing import Any, Final

from tests.broker.processes import WorkerProcess
from tests.chaos.commits import Commits
from tests.chaos.crashes import WAITING
from tests.chaos.scenario import Run, scenario
from tests.chaos.workers import partitions_of, rebalances, wait_shared

PATIENT: Final[Any] = {"session_timeout_seconds": 60, "log_format": "json"}
"""Longer than a start takes on the busiest machine: past the session timeout a rebalance would be right."""


def restart(run: Run, commits: Commits, worker: WorkerProcess, how: str) -> None:
    """Ends the worker, starts it again at once, and measures from its start until all its partitions go on."""
    mine = partitions_of(worker)
    if how == "clean restart":
        worker.stop()
    else:
        worker.kill9()
    started = commits.now()
    worker.start()
    run.pipeline.wait_until(lambda: commits.all_went_on(mine, started), f"partitions {mine} go on")
    run.resume_seconds.append(commits.seconds_until(mine, started))
    run.pipeline.wait_until(lambda: partitions_of(worker) == mine, f"{worker.name} has its partitions {mine} back")
    run.injected(how)


def roll(run: Run, names: tuple[str, ...], restarts: int) -> None:
    """Restarts the workers in turn, under load; the others may not see a rebalance."""
    run.pipeline.create_topics()
    with run.traffic(per_second=800, waiting=WAITING), Commits(run.pipeline) as commits:
        workers = [run.pipeline.worker(name, **PATIENT) for name in names]
        wait_shared(run, workers, [4] if len(workers) == 1 else [2, 2])
        for turn in range(restarts):
            run.wait_progress(run.rng.randint(100, 800))
            victim = workers[turn % len(workers)]
            others = [worker for worker in workers if worker is not victim]
            before = [rebalances(worker) for worker in others]
            begun = commits.now()
            restart(run, commits, victim, ("clean restart", "kill -9 and restart")[turn // len(workers) % 2])
            assert [rebalances(worker) for worker in others] == before, "the restart caused a rebalance"
            if theirs := [partition for worker in others for partition in partitions_of(worker)]:
                gap = commits.longest_gap_seconds(theirs, begun, commits.now())
                run.measured("longest gap of the other worker", gap)


@scenario("rolling-restart")
def rolling_restart(run: Run) -> None:
    """Two workers are ended, cleanly or with -9, and started again in turn: no rebalance, the other's work goes on."""
    roll(run, ("left", "right"), run.scaled(3, 40))


@scenario("restart-of-the-only-worker")
def only_worker(run: Run) -> None:
    """The only worker is ended, cleanly or with -9, and started again at once."""
    roll(run, ("one",), run.scaled(2, 20))
