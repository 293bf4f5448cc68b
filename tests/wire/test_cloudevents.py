"""The CloudEvents library reads our records as events in Kafka's binary mode."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.story import TRACE, Source, tell
from worker.agents.sessions import SessionsConfig, SessionsHandler
from worker.engine.batch import Batch, OutRecord

ENRICHED = tell().enriched
CONFIG = SessionsConfig()


def read(record: OutRecord) -> BaseCloudEvent:
    """The event, by a reader that finds out by itself in which mode it comes."""
    assert record.value is not None
    assert len(dict(record.headers)) == len(record.headers)
    return from_kafka(KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat())


@pytest.mark.parametrize("record", ENRICHED, ids=[dict(record.headers)["ce_id"].decode() for record in ENRICHED])
def test_the_library_reads_the_event_that_was_emitted(record: OutRecord) -> None:
    event = read(record)
    value = json.loads(record.value or b"")
    assert event.get_specversion() == "1.0"
    assert event.get_id() == f"{value['integration_id']}/{value['revision']}"
    assert event.get_type() == value["type"]
    assert event.get_source() == f"/session-worker/{value['application_id']}"
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == value
    # The key is the library's own addition; the trace is Kafka's business, not the event's.
    attributes = {"specversion", "id", "type", "source", "time", "datacontenttype", "partitionkey"}
    assert set(event.get_attributes()) == attributes


def test_the_time_is_the_moment_of_the_update_to_the_microsecond() -> None:
    assert read(ENRICHED[0]).get_time() == datetime(2026, 11, 22, 10, 15, 30, 123_456, tzinfo=UTC)
    assert read(ENRICHED[1]).get_time() == datetime(2026, 11, 22, 10, 16, tzinfo=UTC)


def enriched(integration_id: str, application_id: int, headers: Sequence[tuple[str, bytes]] = ()) -> OutRecord:
    """The record of a session's creation."""
    update = {"integration_id": integration_id, "application_id": application_id, "customer_session": {}}
    source = Source(0, 0, integration_id.encode(), json.dumps(update).encode(), headers)
    [record] = SessionsHandler(CONFIG)(Batch("updates", 0, 0, [source]), {}).sends[CONFIG.enriched_topic]
    return record


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    st.integers(-(2**63), 2**63 - 1),
)
def test_whatever_the_session_is_called_the_event_can_be_read(integration_id: str, application_id: int) -> None:
    event = read(enriched(integration_id, application_id))
    assert event.get_id() == f"{integration_id}/1"
    assert event.get_source() == f"/session-worker/{application_id}"
    assert event.get_time() == datetime(1970, 1, 1, tzinfo=UTC)


def test_of_the_producers_headers_only_the_trace_is_carried_over_as_it_came() -> None:
    theirs = [("ce_id", b"theirs"), *TRACE, ("content-type", b"text/plain"), ("Traceparent", b"another name")]
    assert enriched("order-1", 7, theirs).headers == [*enriched("order-1", 7).headers, *TRACE]


def test_a_trace_header_without_a_value_is_not_carried_over() -> None:
    # Kafka allows it and clients deliver None, whatever their types say.
    theirs = [("traceparent", None), ("tracestate", b"")]
    record = enriched("order-1", 7, theirs)  # type: ignore[arg-type]
    assert record.headers == [*enriched("order-1", 7).headers, ("tracestate", b"")]
