"""Input as other people's producers write it: compressed, transactional, without keys, traced."""

from __future__ import annotations

import json
from typing import Any

from tests.broker.administration import configure
from tests.broker.pipeline import Pipeline
from tests.broker.poison import update
from tests.logs import ordered, read_topic
from worker.load.event import StreamEvent
from worker.load.generator import generate


def test_input_of_every_compression_is_read(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    sent = sum(
        pipeline.send(generate(sessions=100, seed=90 + number), compression=codec)
        for number, codec in enumerate(("none", "gzip", "snappy", "lz4", "zstd"))
    )
    worker = pipeline.worker()
    pipeline.wait_drained()
    worker.stop()
    assert pipeline.verdict(worker).require_clean().events == sent


def test_output_of_every_compression_is_written(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    worker = pipeline.prepared()
    for number, codec in enumerate(("gzip", "snappy", "lz4", "zstd", "none")):
        pipeline.send(generate(sessions=60, seed=95 + number))
        worker.environment["WORKER_COMPRESSION"] = codec
        worker.start()
        pipeline.wait_drained()
        worker.stop()
    pipeline.verdict(worker).require_clean()


def test_aborted_transactions_in_the_input_are_never_processed(pipeline: Pipeline) -> None:
    """Markers leave holes in the offsets; a partition may end with aborted records or with a marker."""
    pipeline.create_topics()
    producer = pipeline.producer(transactional_id=f"{pipeline.app_id}-shop")
    producer.init_transactions(20)
    committed = aborted = 0
    for number in range(12):
        abort = number % 3 == 2
        marked = b'"aborted"' if abort else b'"committed"'
        events = [
            StreamEvent("updated", key, update(key.decode(), {"attributes": {"kind": json.loads(marked)}}), 0)
            for key in (b"order-%d-%d" % (number % 4, n) for n in range(150))
        ]
        producer.begin_transaction()
        for event in events:
            pipeline.send_one(producer, event)
        pipeline.flush(producer)
        if abort:
            producer.abort_transaction(20)
            aborted += len(events)
        else:
            producer.commit_transaction(20)
            committed += len(events)
        if number == 4:
            worker = pipeline.worker()  # the rest arrives while it works
    pipeline.forget_targets()
    pipeline.wait_drained()
    worker.stop()

    verdict = pipeline.verdict(worker).require_clean()
    assert aborted > 0
    assert verdict.events == committed
    enriched = ordered(read_topic(pipeline.bootstrap, pipeline.names.enriched))
    assert not [record for record in enriched if b"aborted" in (record.value or b"")]


def test_records_without_a_key_are_sessions_by_their_body(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    events = [StreamEvent("updated", None, update(f"order-{n}"), 0) for n in range(300)]
    pipeline.send(events)
    worker = pipeline.worker()
    pipeline.wait_drained()
    worker.stop()
    assert pipeline.verdict(worker).require_clean().outcomes == {"accepted": 300}
    keys = {record.key for record in ordered(read_topic(pipeline.bootstrap, pipeline.names.enriched))}
    assert keys == {b"order-%d" % n for n in range(300)}


def test_trace_context_of_an_update_is_on_its_output(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    traced = (
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", b"vendor=x"),
        ("x-request-id", b"17"),
    )
    pipeline.send([StreamEvent("updated", b"order-1", update("order-1"), 0, traced)])
    worker = pipeline.worker()
    pipeline.wait_drained()
    worker.stop()
    pipeline.verdict(worker).require_clean()
    (record,) = ordered(read_topic(pipeline.bootstrap, pipeline.names.enriched))
    assert record.headers[-2:] == traced[:2]
    assert "x-request-id" not in dict(record.headers)


def test_strange_headers_and_timestamps_do_not_stop_the_worker(pipeline: Pipeline) -> None:
    """Kafka allows null header values, names twice and in any script, and any time since 1970."""
    pipeline.create_topics()
    # Else a broker that looks for old records in this moment deletes those of 1970.
    configure(pipeline, pipeline.names.updates, {"retention.ms": "-1"})
    null: Any = None
    headers = (("empty", null), ("twice", b"1"), ("twice", b""), ("größe", b"\x00"), ("traceparent", null))
    times = {"1970": 1, "9999": 253_402_300_799_999, "10000": 253_402_300_800_000, "far": 2**62}
    good = [StreamEvent("updated", name.encode(), update(name), time, headers) for name, time in times.items()]
    bad = [event._replace(value=b"not json") for event in good]
    dated = [
        event._replace(value=update(event.key.decode(), occurred_at="2026-11-22T10:00:00Z"))
        for event in good
        if event.key is not None
    ]
    sent = pipeline.send([*good, *bad, *dated], stamped=True)
    worker = pipeline.worker()
    pipeline.wait_drained()
    worker.stop()
    verdict = pipeline.verdict(worker).require_clean()
    assert verdict.events == sent
    # Without occurred_at the record's time is the event's, and years beyond 9999 cannot be written.
    assert verdict.outcomes == {"accepted": 4, "unchanged": 2, "rejected": 6}
