"""Brokers that die, one of three or two: killed, upgraded one after the other, coordinators that move."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final

from tests.broker.processes import WorkerProcess
from tests.chaos.cluster import Cluster
from tests.chaos.restarts import Restarts
from tests.chaos.scenario import READY, Run, scenario
from tests.patience import PATIENCE_SECONDS

JSON: Final[Any] = {"log_format": "json"}
PER_SECOND = 300
"""Rounds with waits for replicas take minutes, and the oracle holds every record in memory."""


@scenario("broker-killed", broker="cluster", has_short_form=False)
def broker_killed(run: Run) -> None:
    """Each of three brokers is killed with -9 in turn, under load; the worker never ends."""
    run.pipeline.create_topics()
    cluster = Cluster(run.kafka, run.pipeline)
    worker = run.pipeline.prepared()
    with run.traffic(per_second=PER_SECOND):
        worker.start()
        run.wait_progress(500)
        for node in _in_turn(run, short=1, rounds=2):
            since = time.monotonic()
            cluster.kafka.kill(node)
            with run.resuming(since=since):
                run.injected("broker killed")
            run.wait_progress(run.scaled(200, 2_000))
            cluster.start(node, wait_in_sync=run.long)
        worker.require_running()
    cluster.wait_in_sync()


@scenario("rolling-upgrade", broker="cluster", has_short_form=False)
def rolling_upgrade(run: Run) -> None:
    """Each of three brokers is stopped cleanly and started again in turn, under load; the worker never ends."""
    run.pipeline.create_topics()
    cluster = Cluster(run.kafka, run.pipeline)
    worker = run.pipeline.prepared()
    with run.traffic(per_second=PER_SECOND):
        worker.start()
        run.wait_progress(500)
        for node in _in_turn(run, short=1, rounds=2):
            since = time.monotonic()
            cluster.kafka.stop(node)
            with run.resuming(since=since):
                run.injected("broker restarted")
            cluster.start(node, wait_in_sync=run.long)
            run.wait_progress(200)
        worker.require_running()
    cluster.wait_in_sync()


@scenario("coordinator-killed", broker="cluster")
def coordinator_killed(run: Run) -> None:
    """The broker that coordinates the group or a transaction is killed with -9, under load; the worker never ends."""
    run.pipeline.create_topics()
    cluster = Cluster(run.kafka, run.pipeline)
    worker = run.pipeline.prepared(batch_max_records=100)
    with run.traffic(per_second=PER_SECOND):
        worker.start()
        run.wait_progress(500)
        for round_ in range(run.scaled(1, 6)):
            if round_ % 2 == 0:
                node, what = cluster.group_coordinator(), "group coordinator killed"
            else:
                node, what = cluster.transaction_coordinator(run.rng.randrange(4)), "transaction coordinator killed"
            since = time.monotonic()
            cluster.kafka.kill(node)
            with run.resuming(since=since):
                run.injected(what)
            run.wait_progress(run.scaled(200, 1_500))
            cluster.start(node, wait_in_sync=run.long)
        worker.require_running()
    cluster.wait_in_sync()


@scenario("coordinator-moves-while-a-worker-starts", broker="cluster")
def coordinator_moves_at_start(run: Run) -> None:
    """A worker starts while its group's coordinator moves: it goes on from its state's own position."""
    run.pipeline.create_topics()
    cluster = Cluster(run.kafka, run.pipeline)
    worker = run.pipeline.prepared(batch_max_records=100)
    moved: Counter[str] = Counter()
    with run.traffic(per_second=PER_SECOND):
        worker.start()
        run.wait_progress(1_000)
        for _ in range(8):
            if not run.long and moved["during a start"]:
                break
            worker.kill9()
            coordinator = cluster.group_coordinator()
            with run.resuming():
                _start_up_to(run, worker, "worker_starting")
                # From here on it finds the coordinator, joins, fences and restores: a moment anywhere in that.
                time.sleep(run.rng.uniform(0, 0.6))
                if run.rng.random() < 0.5:
                    cluster.kafka.kill(coordinator)
                else:
                    cluster.kafka.stop(coordinator)
                during = not READY.search(worker.said())
            run.pipeline.wait_until(lambda: cluster.group_coordinator() != coordinator, "it has moved")  # noqa: B023
            moved["during a start" if during else "just after a start"] += 1
            cluster.start(coordinator, wait_in_sync=True)
    run.injected("coordinator moved during a start", moved.pop("during a start", 0))
    for when, times in moved.items():
        run.injected(f"coordinator moved {when}", times)
    cluster.wait_in_sync()


@scenario("worker-starts-while-a-broker-hangs", broker="cluster", has_short_form=False)
def starts_while_a_broker_hangs(run: Run) -> None:
    """A worker starts while one of three brokers hangs: it takes connections and never answers."""
    run.pipeline.create_topics()
    cluster = Cluster(run.kafka, run.pipeline)
    worker = run.pipeline.prepared(**JSON)
    with run.traffic(per_second=PER_SECOND):
        worker.start()
        for node in _in_turn(run, short=1, rounds=2):
            run.wait_progress(500)
            worker.stop()
            started = time.monotonic()
            cluster.kafka.pause(node)
            worker.start()
            # Nothing is asked of the brokers here: the one that hangs may lead what is asked for.
            run.pipeline.wait_until(lambda: bool(worker.logged("ready")), "it is ready", 2 * PATIENCE_SECONDS)
            run.resume_seconds.append(time.monotonic() - started)
            run.injected("start while a broker hangs")
            cluster.kafka.resume(node)
            cluster.wait_in_sync()


@scenario("two-of-three-brokers-lost", broker="cluster")
def two_lost(run: Run) -> None:
    """Two of three brokers are gone at once, so that nothing can be written, and come back."""
    run.pipeline.create_topics()
    cluster = Cluster(run.kafka, run.pipeline)
    worker = run.pipeline.prepared(**JSON)
    with run.traffic(per_second=PER_SECOND):
        worker.start()
        run.wait_progress(500)
        with Restarts(worker, {3, 70, 71}) as restarts:
            for round_ in range(run.scaled(1, 4)):
                lost = run.rng.sample(run.kafka.nodes, 2)
                for node in lost:
                    # Paused as well as killed: connections that stay open are another thing than refused ones.
                    cluster.kafka.pause(node) if round_ % 2 == 0 else cluster.kafka.kill(node)
                # Longer than a session; in the long form longer than a transaction may take.
                time.sleep(run.scaled(8, 40))
                since = time.monotonic()
                for node in lost:
                    cluster.kafka.resume(node)
                    cluster.kafka.start(node, wait=False)
                cluster.kafka.wait_until_ready()
                # Before that nobody could say what is committed.
                with run.resuming(since=since):
                    run.injected("two of three brokers lost")
                cluster.wait_in_sync()
    for code, times in restarts.ended.items():
        run.injected(f"worker ended with {code}", times)


@scenario("worker-and-broker-killed", broker="cluster", has_short_form=False)
def worker_and_broker_killed(run: Run) -> None:
    """The worker and a broker are killed with -9 at the same moment; a new start goes on with two brokers."""
    run.pipeline.create_topics()
    cluster = Cluster(run.kafka, run.pipeline)
    worker = run.pipeline.prepared(batch_max_records=100)
    with run.traffic(per_second=PER_SECOND):
        worker.start()
        for node in _in_turn(run, short=1, rounds=2):
            run.wait_progress(run.rng.randint(500, 1_500))
            since = time.monotonic()
            cluster.kafka.kill(node)
            worker.kill9()
            worker.start()
            with run.resuming(since=since):
                run.injected("worker and broker killed together")
            cluster.start(node, wait_in_sync=run.long)
    cluster.wait_in_sync()


def _in_turn(run: Run, *, short: int, rounds: int) -> list[int]:
    """Nodes in a random order: a few, or each of them several times."""
    if not run.long:
        return run.rng.sample(run.kafka.nodes, short)
    return [node for _ in range(rounds) for node in run.rng.sample(run.kafka.nodes, len(run.kafka.nodes))]


def _start_up_to(run: Run, worker: WorkerProcess, event: str) -> None:
    """Starts the worker and waits until it has logged the event."""
    before = worker.output().count(event)
    worker.start()
    run.pipeline.wait_until(lambda: worker.output().count(event) > before, f"{event} is logged")
