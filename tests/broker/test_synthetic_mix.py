"""The synthetic mix of session semantics, section 8: 50,000 events and more, hot key and hot profile included."""

from __future__ import annotations

import pytest

from tests.broker.pipeline import Pipeline
from tests.broker.processes import open_files, resident_bytes
from tests.logs import ordered, read_topic
from worker.load.generator import generate


@pytest.mark.parametrize("store", ["rocksdb", "memory"])
def test_fifty_thousand_events_of_every_kind_come_out_exactly_once(pipeline: Pipeline, store: str) -> None:
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=9_000, seed=11))
    assert sent >= 50_000

    worker = pipeline.worker(store=store)
    pipeline.wait_drained()
    files, resident = open_files(worker.pid), resident_bytes(worker.pid)
    worker.stop()
    # Bounds to notice a leak by, far above what 9,000 sessions need.
    assert files < 256
    assert resident < 1 << 30

    verdict = pipeline.verdict(*[worker] if store == "rocksdb" else []).require_clean()
    assert verdict.events == sent
    assert set(verdict.outcomes) == {"accepted", "unchanged", "duplicate", "rejected"}
    print(verdict, f"{files} open files, {resident >> 20} MiB resident", sep="\n")


def test_camel_case_output_without_compression_from_small_transactions(pipeline: Pipeline) -> None:
    """The other settings of the output, and transactions of 50 records at most."""
    pipeline.environment |= {"WORKER_OUTPUT_CASE": "camel", "WORKER_COMPRESSION": "none"}
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=1_000, seed=12))

    worker = pipeline.worker(batch_max_records=50, transaction_pause_ms=0)
    pipeline.wait_drained()
    worker.stop()

    verdict = pipeline.verdict(worker).require_clean()
    assert verdict.events == sent
    assert verdict.transactions >= sent / 50
    # The oracle's model spells as the worker does; that it is camelCase is for this line to say.
    enriched = ordered(read_topic(pipeline.bootstrap, pipeline.names.enriched))
    assert all(b'"integrationId"' in (r.value or b"") and b"_id" not in (r.value or b"") for r in enriched)
