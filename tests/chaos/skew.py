"""Work that is spread unevenly: the rest goes on."""

from __future__ import annotations

import json
from itertools import islice

from tests.broker.pipeline import Pipeline
from tests.chaos.commits import Commits
from tests.chaos.crashes import WAITING
from tests.chaos.scenario import Run, scenario
from tests.chaos.workers import partitions_of, wait_shared
from tests.logs import read_topic
from tests.patience import PATIENCE_SECONDS
from worker.load.event import StreamEvent
from worker.load.generator import generate
from worker.wire.claim import partition_of

BUSY = 0
"""The partition that has far too much to do."""
HOT_PROFILE = b"customer-of-all"


@scenario("backlog-in-one-partition")
def backlog(run: Run) -> None:
    """One partition has a long backlog, the others light traffic: theirs is done all the while the backlog lasts."""
    run.pipeline.create_topics()
    fill(run.pipeline, islice(generate(sessions=None, seed=run.seed + 1_000), run.scaled(8_000, 200_000)))
    others = [partition for partition in range(run.pipeline.partitions) if partition != BUSY]
    # Small transactions make the backlog last.
    worker = run.pipeline.prepared(batch_max_records=run.scaled(40, 100), log_format="json")
    with run.traffic(per_second=200), Commits(run.pipeline) as commits:
        backlog_end = run.ends()[BUSY]
        worker.start()
        run.pipeline.wait_until(lambda: run.pipeline.committed().get(BUSY, 0) > 0, "the backlog is begun")
        begun = commits.now()
        run.pipeline.wait_until(
            lambda: run.pipeline.committed()[BUSY] >= backlog_end, "the backlog is done", 2 * PATIENCE_SECONDS
        )
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
    with run.traffic(per_second=500, waiting=WAITING + updates):
        with run.resuming():
            run.pipeline.worker(log_format="json")
        run.wait_progress(updates, timeout_seconds=2 * PATIENCE_SECONDS)


@scenario("hot-profile")
def hot_profile(run: Run) -> None:
    """All sessions are of one customer, so all claims go to one partition; its owner is killed with -9 on the way."""
    run.pipeline.create_topics()
    sessions = run.scaled(3_000, 30_000)
    busy = partition_of(HOT_PROFILE.decode(), run.pipeline.partitions)
    with run.traffic(per_second=500, waiting=WAITING + sessions):
        workers = [run.pipeline.worker(name, batch_max_records=50, log_format="json") for name in ("left", "right")]
        wait_shared(run, workers, [2, 2])
        run.pipeline.send(_bound(number) for number in range(sessions))
        for _ in range(run.scaled(1, 6)):
            run.wait_progress(200)
            owner = next(worker for worker in workers if busy in partitions_of(worker))
            owner.kill9()
            run.injected("kill -9 of the profile's owner")
            with run.resuming():
                owner.start()
            wait_shared(run, workers, [2, 2])
    run.pipeline.wait_drained()
    claims = read_topic(run.pipeline.bootstrap, run.pipeline.names.claims)
    claimed = sum(record.key == HOT_PROFILE for record in claims[busy])
    assert claimed == sessions, f"{claimed} claims on the profile, of {sessions} sessions"
    run.injected("claim on one profile", claimed)


def _bound(number: int) -> StreamEvent:
    update = {
        "integration_id": f"order-of-all-{number}",
        "application_id": 1,
        "customer_session": {"profile_id": HOT_PROFILE.decode(), "referral_code": f"{number}"},
    }
    return StreamEvent("created", f"order-of-all-{number}".encode(), json.dumps(update).encode(), 0)


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
