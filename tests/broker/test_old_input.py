"""Input that is years old by its timestamps, on a broker that looks for old records twice a second."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.cimpl import NewTopic

from tests.broker.administration import configure
from tests.broker.pipeline import Pipeline
from tests.logs import admin_of, beginning_offsets, end_offsets
from worker.kafka.embedded import EmbeddedKafka
from worker.load.generator import generate

YEAR_2010_MS = 1_262_304_000_000
OFTEN = {"log.retention.check.interval.ms": "500", "log.initial.task.delay.ms": "500"}


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    with EmbeddedKafka(properties=OFTEN) as kafka:
        pipeline = Pipeline(kafka.bootstrap_servers, f"old-input-{uuid.uuid4().hex[:8]}", tmp_path)
        try:
            yield pipeline
        finally:
            pipeline.destroy()


def test_nothing_that_comes_of_old_input_is_deleted_for_its_age(pipeline: Pipeline) -> None:
    """Claims and answers lie there unread, dead letters and ledger read by nobody, while the broker deletes all
    that is old: as it does with a topic of the same age beside them."""
    pipeline.create_topics()
    configure(pipeline, pipeline.names.updates, {"retention.ms": "-1"})
    events = [
        event._replace(timestamp_ms=YEAR_2010_MS + number)
        for number, event in enumerate(generate(sessions=300, seed=11))
    ]
    pipeline.send(events, stamped=True)
    worker = pipeline.prepared(batch_max_records=25, test_failpoint="7:12")
    worker.start()
    worker.expected_up = False
    worker.wait_exit()
    wait_until_old_records_are_deleted(pipeline)

    del worker.environment["WORKER_TEST_FAILPOINT"]
    worker.start()
    pipeline.wait_drained()
    wait_until_old_records_are_deleted(pipeline)
    worker.stop()
    verdict = pipeline.verdict(worker).require_clean()
    assert verdict.outcomes["rejected"] > 0


def wait_until_old_records_are_deleted(pipeline: Pipeline) -> None:
    """A record of 2010 in a topic that keeps a day's is gone, so whatever else was too old is."""
    topic = f"{pipeline.app_id}-canary-{uuid.uuid4().hex[:4]}"
    new = NewTopic(topic, num_partitions=1, replication_factor=1, config={"retention.ms": "86400000"})
    admin_of(pipeline.bootstrap).create_topics([new])[topic].result(timeout=20)
    producer = pipeline.producer()
    producer.produce(topic, b"old", timestamp=YEAR_2010_MS)
    assert producer.flush(20) == 0
    pipeline.wait_until(lambda: beginning_offsets(pipeline.bootstrap, topic) == {0: 1}, "the old record is deleted")
    assert end_offsets(pipeline.bootstrap, topic) == {0: 1}
