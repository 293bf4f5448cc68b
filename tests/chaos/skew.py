"""Work that is spread unevenly: the rest goes on."""

from __future__ import annotations

import json
from itertools import islice

from tests.broker.pipeline import Pipeline
from tests.chaos.commits import Commits
from tests.chaos.scenario import Run, scenario
from worker.load.event import StreamEvent
from worker.load.generator import generate

BUSY = 0
"""The partition that has far too much to do."""


@scenario("backlog-in-one-partition")
def backlog(run: Run) -> None:
    """One partition has a long backlog, the others light traffic: theirs is done all the while the backlog lasts."""
    run.pipeline.create_topics()
    fill(run.pipeline, islice(generate(sessions=None, seed=run.seed + 1_000), run.scaled(20_000, 200_000)))
    others = [partition for partition in range(run.pipeline.partitions) if partition != BUSY]
    # Small transactions make the backlog last.
    worker = run.pipeline.prepared(batch_max_records=run.scaled(40, 100), log_format="json")
    with run.traffic(per_second=200), Commits(run.pipeline) as commits:
        backlog_end = run.ends()[BUSY]
        worker.start()
        run.pipeline.wait_until(lambda: run.pipeline.committed().get(BUSY, 0) > 0, "the backlog is begun")
        begun = commits.now()
        run.pipeline.wait_until(lambda: run.pipeline.committed()[BUSY] >= backlog_end, "the backlog is done", 240)
        done = commits.now()
        for partition in others:
            seen = commits.between(partition, begun, done)
            assert seen > 10, f"partition {partition} committed {seen} times while {BUSY} had its backlog"
        run.injected("transactions beside the backlog", sum(commits.between(p, begun, done) for p in others))
        run.measured("longest gap of the other partitions", commits.longest_gap_seconds(others, begun, done))
        run.measured("backlog", done - begun)


@scenario("hot-key")
def hot_key(run: Run) -> None:
    """Half of all events are of one session: its order and revisions hold, the other partitions go on."""
    run.pipeline.create_topics()
    updates = run.scaled(5_000, 60_000)
    fill(run.pipeline, (hot_update(number) for number in range(updates)))
    run.injected("update of one session", updates)
    with run.traffic(per_second=500):
        with run.resuming():
            run.pipeline.worker(log_format="json")
        run.wait_progress(updates, timeout_seconds=240)


def hot_update(number: int) -> StreamEvent:
    cart = [{"name": "mug", "sku": "M-1", "quantity": number % 50 + 1, "price": 0.1}]
    update = {"integration_id": "hot", "application_id": 1, "customer_session": {"cart_items": cart}}
    return StreamEvent("updated", b"hot", json.dumps(update).encode(), 0)


def fill(pipeline: Pipeline, events: object) -> None:
    """Sends all of them to one partition."""
    producer = pipeline.producer()
    for event in events:  # type: ignore[attr-defined]
        producer.produce(pipeline.names.updates, event.value, event.key, partition=BUSY, headers=list(event.headers))
        producer.poll(0)
    pipeline.flush(producer)
