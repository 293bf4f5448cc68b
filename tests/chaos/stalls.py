"""Workers that hang: the watchdog ends them, with all stacks in the log, and the restart goes on."""

from __future__ import annotations

import json

from tests.chaos.crashes import WAITING
from tests.chaos.scenario import Run, scenario
from tests.chaos.workers import arm, start_armed
from worker.errors import Stalled
from worker.load.event import StreamEvent

WATCHDOG_SECONDS = 15
"""Longer than a start takes on the busiest machine: between fencing and work nothing shows that it goes on."""


def stalls(run: Run, action: str, task_is_named: bool) -> None:
    run.pipeline.create_topics()
    worker = run.pipeline.prepared(watchdog_seconds=WATCHDOG_SECONDS, batch_max_records=50, log_format="json")
    with run.traffic(per_second=600, waiting=WAITING):
        for _ in range(run.scaled(1, 5)):
            step = run.rng.choice(("3", "4", "4b", "5", "5b", "6"))
            start_armed(worker, f"{step}:{run.rng.randint(5, 40)}:{action}")
            run.pipeline.wait_until(lambda: f"failpoint {step}" in worker.said(), f"it hangs at {step}")  # noqa: B023
            before = run.pipeline.committed()
            code = worker.wait_exit()
            arm(worker, None)
            now = run.pipeline.committed()
            went_on = sum(offset > before.get(partition, 0) for partition, offset in now.items())
            assert code == Stalled.exit_code, f"exit code {code}\n{worker.tail()}"
            (stacks,) = worker.logged("stacks")
            hung = [name for name, stack in stacks["tasks"].items() if "failpoint.py" in stack]
            if task_is_named:
                assert len(hung) == 1, stacks["tasks"].keys()
                assert hung[0].startswith("transactions-"), hung
                assert went_on >= run.pipeline.partitions - 1, f"{went_on} partitions went on beside the one that hung"
            else:
                assert "failpoint.py" in stacks["threads"]["MainThread"], stacks["threads"].keys()
            run.injected(f"stall at {step}")
            with run.resuming():
                worker.start()
            worker.kill9()
        worker.start()


@scenario("event-loop-blocked")
def event_loop_blocked(run: Run) -> None:
    """Code blocks the worker's event loop for ever: the watchdog ends it with 72 and the stacks of all threads."""
    stalls(run, "block", task_is_named=False)


@scenario("one-partition-hangs")
def one_partition_hangs(run: Run) -> None:
    """One partition's transaction never ends, the others go on: the watchdog ends the worker all the same, with 72."""
    stalls(run, "hang", task_is_named=True)


@scenario("hang-while-the-source-rests")
def hangs_at_the_bound(run: Run) -> None:
    """A transaction hangs that took only part of its batch, as much as may wait for an answer: ended with 72 too."""
    run.pipeline.create_topics()
    worker = run.pipeline.prepared(watchdog_seconds=WATCHDOG_SECONDS, log_format="json")
    for turn in range(run.scaled(1, 3)):
        # One session, bound to a profile, with twice as many updates as may be held for its answer.
        run.pipeline.send(_update(f"order-hot-{turn}", number) for number in range(600))
        start_armed(worker, "4:1:hang")
        code = worker.wait_exit()
        arm(worker, None)
        assert code == Stalled.exit_code, f"exit code {code}\n{worker.tail()}"
        assert "failpoint 4" in worker.said(), f"it stalled somewhere else\n{worker.tail()}"
        run.injected("stall of a transaction at the bound")
        with run.resuming():
            worker.start()
        run.pipeline.wait_drained()
        worker.stop()
    worker.start()


def _update(integration_id: str, number: int) -> StreamEvent:
    body = {
        "profile_id": f"customer-of-{integration_id}",
        "referral_code": f"{number}",
        "attributes": {"pad": "x" * 500},
    }
    event = {"integration_id": integration_id, "application_id": 7, "customer_session": body}
    return StreamEvent("updated", integration_id.encode(), json.dumps(event).encode(), 0)
