"""Restarts within the session timeout: a static member gets its partitions back, and nobody else notices."""

from __future__ import annotations

from typing import Any, Final

from tests.broker.processes import WorkerProcess
from tests.chaos.commits import Commits
from tests.chaos.scenario import Run, scenario
from tests.chaos.workers import partitions_of, rebalances, wait_shared

DEFAULT_SESSION_TIMEOUT: Final[Any] = {"session_timeout_seconds": 10, "log_format": "json"}


def restart(run: Run, commits: Commits, worker: WorkerProcess, how: str) -> None:
    """Ends the worker, starts it again at once, and measures from its start until all its partitions go on."""
    mine = partitions_of(worker)
    if how == "clean":
        worker.stop()
    else:
        worker.kill9()
    started = commits.now()
    worker.start()
    run.pipeline.wait_until(lambda: commits.all_went_on(mine, started), f"partitions {mine} go on")
    run.resume_seconds.append(commits.seconds_until(mine, started))
    run.pipeline.wait_until(lambda: partitions_of(worker) == mine, f"{worker.name} has its partitions {mine} back")
    run.injected({"clean": "clean restart", "kill": "restart after kill -9"}[how])


def roll(run: Run, names: tuple[str, ...], how: str, restarts: int) -> None:
    """Restarts the workers in turn, under load; the others may not see a rebalance."""
    run.pipeline.create_topics()
    with run.traffic(per_second=800), Commits(run.pipeline) as commits:
        workers = [run.pipeline.worker(name, **DEFAULT_SESSION_TIMEOUT) for name in names]
        wait_shared(run, workers, [4] if len(workers) == 1 else [2, 2])
        run.wait_progress(500)
        for turn in range(restarts):
            victim = workers[turn % len(workers)]
            others = [worker for worker in workers if worker is not victim]
            before = [rebalances(worker) for worker in others]
            begun = commits.now()
            restart(run, commits, victim, how)
            assert [rebalances(worker) for worker in others] == before, "the restart caused a rebalance"
            theirs = [partition for worker in others for partition in partitions_of(worker)]
            if theirs:
                gap = commits.longest_gap_seconds(theirs, begun, commits.now())
                run.measured("longest gap of the other worker", gap)
            run.wait_progress(run.rng.randint(100, 800))


@scenario("rolling-restart")
def rolling_restart(run: Run) -> None:
    """Two workers are stopped and started again in turn, under load: no rebalance, the other's partitions go on."""
    roll(run, ("left", "right"), "clean", run.scaled(2, 20))


@scenario("rolling-kill-9")
def rolling_kill(run: Run) -> None:
    """Two workers are killed with -9 and started again in turn, under load: no rebalance, the other's go on."""
    roll(run, ("left", "right"), "kill", run.scaled(2, 20))


@scenario("only-worker-restarts")
def only_worker(run: Run) -> None:
    """The only worker is stopped and started again, under load."""
    roll(run, ("one",), "clean", run.scaled(1, 12))


@scenario("only-worker-kill-9")
def only_worker_killed(run: Run) -> None:
    """The only worker is killed with -9 and started again, under load."""
    roll(run, ("one",), "kill", run.scaled(1, 12))
