"""Workers that stand still, for longer or shorter than their session timeout, and go on as if nothing had been."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tests.broker.fleet import fleet_of, pids, settled
from tests.broker.processes import WorkerProcess
from tests.chaos.crashes import SMALL_TRANSACTIONS, WAITING
from tests.chaos.scenario import Run, scenario
from tests.chaos.workers import arm, partitions_of, rebalances, start_armed, wait_shared
from worker.errors import Fenced


@scenario("pause-shorter-than-the-session-timeout")
def short_pause(run: Run) -> None:
    """One of two workers stands still for less than its session timeout: it just goes on, nobody takes over."""
    run.pipeline.create_topics()
    with run.traffic(per_second=1_000, waiting=WAITING):
        workers = [
            run.pipeline.worker(name, session_timeout_seconds=30, **SMALL_TRANSACTIONS) for name in ("paused", "other")
        ]
        wait_shared(run, workers, [2, 2])
        paused, _ = workers
        for _ in range(run.scaled(1, 10)):
            run.wait_progress(run.rng.randint(200, 1_000))
            before = [rebalances(worker) for worker in workers]
            mine = partitions_of(paused)
            paused.sigstop()
            time.sleep(run.rng.uniform(1.0, 3.0))  # the pause is the fault
            held = run.pipeline.committed()
            with run.resuming():
                paused.sigcont()
            run.pipeline.wait_until(
                lambda: all(run.pipeline.committed().get(p, 0) > held.get(p, 0) for p in mine),  # noqa: B023
                f"the paused worker's partitions {mine} go on",
            )
            assert [rebalances(worker) for worker in workers] == before, "there was a rebalance"
            run.injected("pause")


@scenario("zombie")
def between_transactions(run: Run) -> None:
    """A worker stands still past its session timeout, another takes over, it wakes up: it is fenced, exit code 71."""
    zombie_after(run, lambda zombie: zombie.sigstop())


@scenario("zombie-in-mid-transaction")
def in_mid_transaction(run: Run) -> None:
    """The same, standing still with a transaction open: the heir aborts it, nothing of it is ever seen."""

    def stop(zombie: WorkerProcess) -> None:
        run.pipeline.wait_until(lambda: zombie.standing, "the zombie stands at its failpoint")

    zombie_after(run, stop, ("4b", "5", "5b"))


def zombie_after(run: Run, stand_still: Callable[[WorkerProcess], None], steps: tuple[str, ...] = ()) -> None:
    run.pipeline.create_topics()
    # Longer than the heir needs on the busiest machine: a transaction the broker has aborted by then ends it with 70.
    zombie = run.pipeline.prepared("zombie", transaction_timeout_seconds=300, **SMALL_TRANSACTIONS)
    heir = run.pipeline.prepared("heir", **SMALL_TRANSACTIONS)
    zombie.may_fail = True
    for turn in range(run.scaled(1, 5)):
        with run.traffic(per_second=800, waiting=WAITING):
            if steps:
                start_armed(zombie, f"{steps[turn % len(steps)]}:{run.rng.randint(20, 60)}:stop")
            else:
                zombie.start()
                run.wait_progress(500)
            stand_still(zombie)
            zombie.expected_up = False
            arm(zombie, None)
            # Joins at once and waits for the zombie's session to time out, as the group does.
            with run.resuming():
                heir.start()
                wait_shared(run, [heir], [4])
        # With the input drained whatever is written now is the zombie's.
        run.pipeline.wait_drained()
        before = written(run)
        zombie.sigcont()
        code = zombie.wait_exit()
        assert code == Fenced.exit_code, f"exit code {code}\n{zombie.tail()}"
        assert zombie.logged("worker_failed")[-1]["error"] == "Fenced"
        assert written(run) == before, "the zombie wrote something"
        run.injected("zombie fenced")
        if run.long:
            heir.stop()
            run.pipeline.wait_group_empty()
    if not heir.running:
        heir.start()


def written(run: Run) -> dict[str, int]:
    return run.pipeline.written(isolation="read_uncommitted")


@scenario("zombie-under-a-supervisor")
def supervised(run: Run) -> None:
    """A child of `run --processes 2` stands still past its session timeout: fenced, it is started again and works."""
    run.pipeline.create_topics()
    fleet = fleet_of(run.pipeline, 2)
    fleet.may_fail = True
    with run.traffic(per_second=800, waiting=WAITING):
        fleet.start()
        run.pipeline.wait_until(lambda: settled(fleet, [2, 2]), "both have partitions")
        for _ in range(run.scaled(1, 4)):
            run.wait_progress(500)
            zombie = run.rng.choice(("worker-1", "worker-2"))
            heir = "worker-1" if zombie == "worker-2" else "worker-2"
            crashes = len(fleet.logged("child_crashed"))
            pid = pids(fleet)[zombie]
            # With work in hand it cannot come back quietly, as one could that first hears that the group forgot it.
            run.pipeline.wait_until(lambda: any(run.lag(p) for p in fleet.served()[zombie]), "it has work")  # noqa: B023
            os.kill(pid, signal.SIGSTOP)
            run.pipeline.wait_until(lambda: len(fleet.served()[heir]) == 4, "the other has all partitions")  # noqa: B023
            os.kill(pid, signal.SIGCONT)
            run.pipeline.wait_until(lambda: len(fleet.logged("child_crashed")) > crashes, "the zombie has ended")  # noqa: B023
            crash = fleet.logged("child_crashed")[-1]
            assert (crash["child"], crash["how"]) == (zombie, f"ended with exit code {Fenced.exit_code}"), crash
            run.injected("zombie fenced and restarted")
            with run.resuming():
                run.pipeline.wait_until(lambda: settled(fleet, [2, 2]), "the zombie is back and has its share")
