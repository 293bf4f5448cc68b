"""Members that come, go, or are one too many, under load."""

from __future__ import annotations

import shutil
import time

from tests.broker.fleet import fleet_of
from tests.broker.processes import WorkerProcess
from tests.chaos.crashes import SMALL_TRANSACTIONS, WAITING
from tests.chaos.scenario import Run, scenario
from tests.chaos.workers import partitions_of, rebalances, wait_shared
from tests.patience import PATIENCE_SECONDS
from worker.errors import Fenced

IDLE_SECONDS = 320
"""After 300 s without a fetch a consumer of Kafka's leaves its group, unless told otherwise."""


@scenario("workers-come-and-go")
def come_and_go(run: Run) -> None:
    """One worker becomes two, three and one again, under load."""
    run.pipeline.create_topics()
    names = ("one", "two", "three")
    one, two, three = (run.pipeline.prepared(name, **SMALL_TRANSACTIONS) for name in names)
    with run.traffic(per_second=1_000, waiting=WAITING):
        one.start()
        for _ in range(run.scaled(1, 5)):
            wait_shared(run, [one], [4])
            run.wait_progress(300)
            for joining, workers in ((two, [one, two]), (three, [one, two, three])):
                joining.start()
                wait_shared(run, workers, [2, 2] if joining is two else [1, 1, 2])
                run.injected("worker joined")
                run.wait_progress(300)
            two.stop()
            three.stop()
            run.injected("worker left", 2)
            with run.resuming():
                wait_shared(run, [one], [4])


@scenario("more-workers-than-partitions")
def one_too_many(run: Run) -> None:
    """Of three workers on two partitions one is idle, until one of the others is killed: it takes over."""
    run.pipeline.partitions = 2
    run.pipeline.environment["WORKER_PARTITIONS"] = "2"
    run.pipeline.create_topics()
    with run.traffic(per_second=500, waiting=WAITING):
        workers = [run.pipeline.worker(name, **SMALL_TRANSACTIONS) for name in ("one", "two", "three")]
        for turn in range(run.scaled(1, 5)):
            for worker in workers:
                if not worker.running:
                    worker.start()
            wait_shared(run, workers, [0, 1, 1])
            run.injected("idle worker")
            if run.long and turn == 0:
                time.sleep(IDLE_SECONDS)
                run.measured("idle for", IDLE_SECONDS)
            run.wait_progress(200)
            busy = [worker for worker in workers if partitions_of(worker)]
            busy[0].kill9()
            run.injected("kill -9")
            with run.resuming():
                wait_shared(run, [worker for worker in workers if worker.running], [1, 1])


@scenario("member-joins-and-leaves-every-3-s")
def restless_member(run: Run) -> None:
    """Beside a steady worker another joins and leaves every 3 s, never the same one, so that each is a rebalance."""
    run.pipeline.create_topics()
    with run.traffic(per_second=500, waiting=WAITING):
        steady = run.pipeline.worker("steady", **SMALL_TRANSACTIONS)
        wait_shared(run, [steady], [4])
        restless = run.pipeline.prepared("restless", **SMALL_TRANSACTIONS)
        for turn in range(run.scaled(2, 12)):
            before = members(run)
            restless.start()
            run.pipeline.wait_until(lambda: bool(members(run) - before), "it has joined")  # noqa: B023
            time.sleep(run.rng.uniform(0, 3))  # the fault is that it does not stay
            if turn % 2:
                restless.kill9()
            else:
                restless.stop()
            shutil.rmtree(restless.state_dir)  # the next one is a new member
            run.injected("member joined and left")
        with run.resuming():
            run.pipeline.wait_until(lambda: len(members(run)) == 1, "nobody else is left in the group")
            run.pipeline.wait_until(lambda: rebalances(steady) > 1, "a rebalance came of it")
            wait_shared(run, [steady], [4])
        run.injected("rebalance", rebalances(steady) - 1)


def members(run: Run) -> set[str]:
    """The group's members, by the ids the coordinator gave them."""
    return {member.member_id for member in run.pipeline.group().members}


@scenario("workers-start-at-the-same-moment")
def at_once(run: Run) -> None:
    """Two workers start at the same moment on an empty group with work waiting, and are both killed, and again."""
    run.pipeline.create_topics()
    with run.traffic(per_second=1_000, waiting=WAITING):
        workers = [run.pipeline.prepared(name, **SMALL_TRANSACTIONS) for name in ("left", "right")]
        for _ in range(run.scaled(2, 12)):
            with run.resuming():
                for worker in workers:
                    worker.start()
                wait_shared(run, workers, [2, 2])
            run.injected("start at once")
            run.wait_progress(500)
            for worker in workers:
                worker.kill9()
        for worker in workers:
            worker.start()


@scenario("instance-id-used-twice")
def same_instance(run: Run) -> None:
    """A second worker starts with the instance id of a running one: the first is fenced, exit code 71, and says why.

    Without load it is the group that tells it so, else most often a transaction. In the long form both are restarted
    by supervisors, until one of those gives up: they do not fence each other for ever.
    """
    run.pipeline.create_topics()
    first, second = (
        run.pipeline.prepared(name, instance_id="twin", **SMALL_TRANSACTIONS) for name in ("first", "second")
    )
    first.start()
    wait_shared(run, [first], [4])
    replaced_by(run, first, second)
    with run.traffic(per_second=500, waiting=WAITING):
        for _ in range(run.scaled(1, 5)):
            run.wait_progress(200)
            first, second = second, first
            with run.resuming():
                replaced_by(run, first, second)
    if run.long:
        second.stop()
        supervised_twins(run)


def replaced_by(run: Run, old: WorkerProcess, new: WorkerProcess) -> None:
    """Starts the second, and sees the first fenced."""
    old.expected_up, old.may_fail = False, True
    new.start()
    code = old.wait_exit()
    assert code == Fenced.exit_code, f"exit code {code}\n{old.tail()}"
    assert "WORKER_INSTANCE_ID" in old.logged("worker_failed")[-1]["what_to_do"]
    run.injected("twin fenced")
    wait_shared(run, [new], [4])


def supervised_twins(run: Run) -> None:
    fleets = [fleet_of(run.pipeline, 2, name, WORKER_INSTANCE_ID="twins") for name in ("fleet-a", "fleet-b")]
    with run.traffic(per_second=300, waiting=WAITING):
        for fleet in fleets:
            fleet.start()
            fleet.expected_up, fleet.may_fail = False, True
        run.pipeline.wait_until(
            lambda: not all(fleet.running for fleet in fleets), "one of them gives up", 2 * PATIENCE_SECONDS
        )
        (gone,) = [fleet for fleet in fleets if not fleet.running]
        assert gone.wait_exit(1) == Fenced.exit_code
        assert gone.logged("supervisor_gives_up"), gone.tail()
        run.injected("supervisor gave up")
