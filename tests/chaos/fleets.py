"""`run --processes N` under load: children that are killed, and who they are."""

from __future__ import annotations

import os
import signal

from tests.broker.fleet import fleet_of, pids, settled
from tests.broker.processes import WorkerProcess
from tests.chaos.crashes import WAITING
from tests.chaos.scenario import Run, scenario

NAMES = ("worker-1", "worker-2", "worker-3")


def starts(fleet: WorkerProcess, child: str) -> int:
    """How often the child got ready."""
    return [line["process"] for line in fleet.logged("ready")].count(child)


def wait_back(run: Run, fleet: WorkerProcess, child: str, before: int) -> None:
    """Waits until the child is ready once more, and all have their shares."""
    run.pipeline.wait_until(
        lambda: starts(fleet, child) > before and settled(fleet, [1, 1, 2]), f"{child} is back and each has its share"
    )


@scenario("supervised-worker-killed")
def child_killed(run: Run) -> None:
    """Children of `run --processes 3` are killed with -9 in turn: each comes back with its share, the others go on."""
    run.pipeline.create_topics()
    fleet = fleet_of(run.pipeline, len(NAMES))
    with run.traffic(per_second=1_000, waiting=WAITING):
        fleet.start()
        run.pipeline.wait_until(lambda: settled(fleet, [1, 1, 2]), "every process has partitions")
        for turn in range(run.scaled(2, 9)):
            run.wait_progress(run.rng.randint(300, 1_000))
            victim = NAMES[turn % len(NAMES)]
            before = starts(fleet, victim)
            os.kill(pids(fleet)[victim], signal.SIGKILL)
            with run.resuming():
                pass
            wait_back(run, fleet, victim, before)
            crash = fleet.logged("child_crashed")[-1]
            assert (crash["child"], crash["how"]) == (victim, "was ended by SIGKILL"), crash
            run.injected("kill -9 of a child")
        worked = {line["process"] for line in fleet.logged("ready")}
        assert worked == set(NAMES)


@scenario("supervisor-killed")
def parent_killed(run: Run) -> None:
    """The parent of `run --processes 2` is killed with -9: its children end too, and the next start goes on."""
    run.pipeline.create_topics()
    fleet = fleet_of(run.pipeline, 2)
    with run.traffic(per_second=1_000, waiting=WAITING):
        fleet.start()
        for _ in range(run.scaled(1, 8)):
            run.pipeline.wait_until(lambda: settled(fleet, [2, 2]), "both have partitions")
            run.wait_progress(run.rng.randint(300, 1_000))
            fleet.kill9()
            run.injected("kill -9 of the parent")
            run.pipeline.wait_until(lambda: not pids(fleet), "no worker is left")
            with run.resuming():
                fleet.start()
