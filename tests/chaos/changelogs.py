"""The changelog, which the state is restored from: compacted, with foreign transactions at its end, deleted, or holding
what this version cannot read. And input that is gone before it was read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from tests.broker.administration import configure, delete_topic, write_back
from tests.broker.pipeline import Pipeline
from tests.broker.processes import WorkerProcess
from tests.chaos.scenario import Run, scenario
from tests.chaos.state import Feed, wait_ready
from tests.chaos.workers import refused_start
from tests.logs import admin_of, ordered, partitions_of, read_topic
from tests.patience import PATIENCE_SECONDS
from worker.load.generator import generate

JSON: Final[Any] = {"log_format": "json"}
UNKNOWN_VERSION: Final = bytes([0x92, 99, 0x90])


@scenario("changelog-compacted")
def compacted(run: Run) -> None:
    """Compaction takes superseded rows out of the changelog, and a worker restores from what is left."""
    run.pipeline.create_topics()
    changelog = run.pipeline.names.changelog
    configure(
        run.pipeline,
        changelog,
        {"min.cleanable.dirty.ratio": "0.01"},
    )
    worker = run.pipeline.prepared(**JSON, batch_max_records=50)
    with _eager_cleaner(run.pipeline):
        for turn in range(run.scaled(1, 4)):
            worker.environment["WORKER_STORE"] = "rocksdb"
            if not worker.running:
                worker.start()
            run.pipeline.send(generate(sessions=1_000, seed=100 * run.seed + turn))
            run.pipeline.wait_drained()
            before = ordered(read_topic(run.pipeline.bootstrap, changelog))
            superseded = len(before) - len({(record.partition, record.key) for record in before})
            assert superseded > 500, f"{superseded} of {len(before)} records to compact"
            last = {record.partition: record.offset for record in before}
            configure(run.pipeline, changelog, {"segment.ms": "500"})
            with run.traffic(per_second=200):  # a segment is closed when the next record comes
                run.pipeline.wait_until(
                    lambda: _left(run, last) < len(before) - superseded // 2,  # noqa: B023
                    "the changelog is compacted",
                    PATIENCE_SECONDS,
                )
                run.injected("compaction")
                worker.kill9()
                if turn % 2 == 0:
                    shutil.rmtree(worker.state_dir)
                    worker.environment["WORKER_STORE"] = "memory"
                with run.resuming():
                    worker.start()
            run.pipeline.wait_drained()
            worker.stop()
            configure(run.pipeline, changelog, {"segment.ms": "604800000"})
    worker.environment["WORKER_STORE"] = "rocksdb"
    worker.start()


def _left(run: Run, last: Mapping[int, int]) -> int:
    """How many of the records up to these offsets the changelog still has."""
    records = ordered(read_topic(run.pipeline.bootstrap, run.pipeline.names.changelog))
    return sum(record.offset <= last.get(record.partition, -1) for record in records)


@contextmanager
def _eager_cleaner(pipeline: Pipeline) -> Iterator[None]:
    """The broker looks for what to compact twice a second, instead of every 15 s."""
    admin = admin_of(pipeline.bootstrap)
    node = next(iter(admin.list_topics(timeout=20).brokers))

    def set_backoff(entry: ConfigEntry) -> None:
        resource = ConfigResource(ResourceType.BROKER, str(node), incremental_configs=[entry])
        for done in admin.incremental_alter_configs([resource]).values():
            done.result(timeout=20)

    name = "log.cleaner.backoff.ms"
    set_backoff(ConfigEntry(name, "500", incremental_operation=AlterConfigOpType.SET))
    try:
        yield
    finally:
        set_backoff(ConfigEntry(name, "", incremental_operation=AlterConfigOpType.DELETE))


@scenario("foreign-transactions-in-the-changelog")
def foreign_transactions(run: Run) -> None:
    """At the changelog's end lie an aborted transaction and one that somebody leaves open, with rows of ours behind
    it: a restore skips the one, and waits for the other to end instead of stopping in front of it."""
    run.pipeline.create_topics()
    feed = Feed(run)
    worker = run.pipeline.prepared(**JSON)
    changelog = run.pipeline.names.changelog
    for turn in range(run.scaled(1, 4)):
        feed(2_000)
        worker.start()
        run.pipeline.wait_drained()
        _junk(run, f"{changelog}-aborted-{turn}").abort_transaction(20)
        run.injected("aborted transaction")
        stranger = _junk(run, f"{changelog}-open-{turn}")
        feed(2_000)
        run.pipeline.wait_drained()
        worker.kill9()
        if turn % 2 == 0:
            shutil.rmtree(worker.state_dir)
        worker.start()
        run.pipeline.wait_until(lambda: bool(worker.logged("restore_waits")), "the restore waits for the transaction")
        assert not worker.logged("ready")
        run.injected("transaction left open")
        stranger.abort_transaction(20)
        wait_ready(run, worker)
        feed(1_000)
        run.pipeline.wait_drained()
        worker.stop()
    worker.start()


def _junk(run: Run, transactional_id: str) -> Producer:
    """A transaction that is begun and holds rows nobody may ever see."""
    producer = run.pipeline.producer(transactional_id=transactional_id)
    producer.init_transactions(20)
    producer.begin_transaction()
    for partition in range(run.pipeline.partitions):
        producer.produce(run.pipeline.names.changelog, b"junk", b"order-junk", partition=partition)
    assert producer.flush(20) == 0
    return producer


@scenario("changelog-deleted-and-created-again")
def recreated(run: Run) -> None:
    """The changelog is deleted and created again: no worker goes on without it or begins anew; restored from a backup,
    with offsets that look plausible, the store is rebuilt from it."""
    run.pipeline.create_topics()
    feed = Feed(run)
    names = run.pipeline.names
    worker = run.pipeline.prepared(**JSON)
    worker.may_fail = True
    for _ in range(run.scaled(1, 3)):
        feed(2_000)
        worker.start()
        run.pipeline.wait_drained()
        worker.stop()
        kept = run.directory / "kept"
        shutil.copytree(worker.state_dir, kept)
        worker.start()
        wait_ready(run, worker)
        backup = ordered(read_topic(run.pipeline.bootstrap, names.changelog))
        worker.expected_up = False
        delete_topic(run.pipeline, names.changelog)
        partitions_of.cache_clear()
        run.pipeline.create_topics(only=names.changelog)
        feed(500)
        assert worker.wait_exit() in (2, 70), worker.tail()
        run.injected("changelog deleted under a running worker")
        _require_state_lost(worker)
        shutil.rmtree(worker.state_dir)
        _require_state_lost(worker)
        run.injected("start without state refused", 2)

        shutil.rmtree(worker.state_dir)
        kept.rename(worker.state_dir)
        # As many records and more than the store has seen.
        write_back(run.pipeline, names.changelog, [*backup[: len(backup) // 2], *backup])
        with run.resuming():
            worker.start()
        wait_ready(run, worker)
        reasons = [event["reason"] for event in worker.logged("store_rebuilt")]
        assert reasons == ["the changelog was deleted and created again"] * 4, reasons
        run.injected("store rebuilt", len(reasons))
        run.pipeline.wait_drained()
        worker.stop()
    worker.start()


def _require_state_lost(worker: WorkerProcess) -> None:
    told = refused_start(worker, 5)
    assert told["error"] == "StateLost", told
    assert "WORKER_APP_ID" in told["what_to_do"], told


@scenario("row-of-an-unknown-version")
def unknown_version(run: Run) -> None:
    """Another version of the worker wrote rows: this one ends with 4 before it serves or overwrites any of them."""
    run.pipeline.create_topics()
    feed = Feed(run)
    names = run.pipeline.names
    worker = run.pipeline.prepared(**JSON)
    for turn in range(run.scaled(1, 4)):
        worker.environment["WORKER_STORE"] = ("rocksdb", "memory")[turn % 2]
        feed(1_500)
        worker.start()
        run.pipeline.wait_drained()
        worker.stop()
        rows = {
            r.key: r
            for r in ordered(read_topic(run.pipeline.bootstrap, names.changelog))
            if r.key and r.key[:1] != b"\xff"
        }
        write_back(run.pipeline, names.changelog, [row._replace(value=UNKNOWN_VERSION) for row in rows.values()])
        feed(1_500)
        for _ in range(2):
            told = refused_start(worker, 4)
            assert told["error"] == "UnknownFormat", told
            assert "this one with 92 63" in told["problem"], told
        run.injected("unknown version refused", 2)
        write_back(run.pipeline, names.changelog, rows.values())
        with run.resuming():
            worker.start()
        run.pipeline.wait_drained()
        worker.stop()
    worker.environment["WORKER_STORE"] = "rocksdb"
    worker.start()


@scenario("input-deleted-by-retention")
def input_deleted(run: Run) -> None:
    """Retention deletes input: of what was processed nothing is missed, whatever the group's offsets say; of what was
    not, the worker says which offsets, and ends with 5."""
    old = run.pipeline
    old.create_topics()
    feed = Feed(run)
    worker = old.prepared(**JSON)
    feed(2_000)
    worker.start()
    old.wait_drained()
    worker.stop()
    old.verdict(worker).require_clean()
    done = old.committed()

    old.wait_group_empty()
    old.set_group_offsets(dict.fromkeys(done, 0))
    _delete_before(old, done)
    worker.start()
    wait_ready(run, worker)
    assert {event["used"] for event in worker.logged("group_offset_differs")} == {"state_position"}
    run.injected("group's offset below the input's beginning")
    worker.stop()

    feed(500)
    _delete_before(old, run.ends())
    told = refused_start(worker, 5)
    assert told["error"] == "InputLost", told
    assert "were deleted before they were processed" in told["problem"], told
    run.injected("unread input deleted")

    anew = Pipeline(old.bootstrap, f"{old.app_id}-2", old.directory / "2")
    (old.directory / "2").mkdir()
    run.pipeline = anew
    anew.create_topics()
    Feed(run)(1_000)
    anew.worker("anew", **JSON)


def _delete_before(pipeline: Pipeline, offsets: dict[int, int]) -> None:
    topic = pipeline.names.updates
    asked = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    for deleted in admin_of(pipeline.bootstrap).delete_records(asked).values():
        deleted.result(timeout=20)
