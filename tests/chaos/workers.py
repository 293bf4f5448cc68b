"""What scenarios do to workers: arm their failpoints, see them die there, and who serves which partition."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

from tests.broker.processes import WorkerProcess
from tests.chaos.scenario import Run
from worker.engine.failpoint import ENVIRONMENT_NAME


def arm(worker: WorkerProcess, failpoint: str | None) -> None:
    """Its next start acts at this failpoint; None: at none."""
    if failpoint is None:
        worker.environment.pop(ENVIRONMENT_NAME, None)
    else:
        worker.environment[ENVIRONMENT_NAME] = failpoint
        # It ends when its failpoint says so: nobody who waits should take that for a failure.
        worker.expected_up = False


def start_armed(worker: WorkerProcess, failpoint: str) -> None:
    arm(worker, failpoint)
    worker.start()
    worker.expected_up = False


def require_died_at(worker: WorkerProcess, step: str) -> None:
    """Waits until the worker has killed itself at this step of its failpoint: nobody else sent the signal."""
    code = worker.wait_exit()
    arm(worker, None)
    assert code == -signal.SIGKILL, f"{worker.name} exited {code}, not by its failpoint\n{worker.tail()}"
    last = [line for line in worker.said().splitlines() if line.startswith("failpoint ")][-1:]
    assert last == [f"failpoint {step}"], f"{worker.name} reached {last or 'no failpoint'}\n{worker.tail()}"


def refused_start(worker: WorkerProcess, code: int) -> dict[str, Any]:
    """Starts it, requires that it ends with this code, and returns what it logged as its one failure."""
    worker.start()
    worker.expected_up = False
    assert worker.wait_exit() == code, worker.tail()
    (told,) = worker.logged("worker_failed")
    return told


def partitions_of(worker: WorkerProcess) -> list[int]:
    """Those it serves, by what it said last since its start; none before it is ready."""
    ready = worker.logged("ready")
    partitions: list[int] = ready[-1]["partitions"] if ready else []
    return partitions


def share(workers: Iterable[WorkerProcess]) -> list[int]:
    """How many partitions each serves, fewest first; empty while not every one is ready, or two claim the same."""
    each = [partitions_of(worker) for worker in workers if worker.logged("ready")]
    served = [partition for partitions in each for partition in partitions]
    settled = len(each) == len(list(workers)) and len(set(served)) == len(served)
    return sorted(map(len, each)) if settled else []


def wait_shared(run: Run, workers: list[WorkerProcess], shares: list[int]) -> None:
    """Waits until the workers serve so many partitions each, fewest first."""
    names = ", ".join(worker.name for worker in workers)
    run.pipeline.wait_until(lambda: share(workers) == shares, f"{names} serve {shares} partitions")


def rebalances(worker: WorkerProcess) -> int:
    """How many assignments it has finished since its start."""
    return len(worker.logged("ready"))
