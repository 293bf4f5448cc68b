"""What the generator means by its kinds, judged by the decoder: valid kinds are updates, broken ones are not."""

from __future__ import annotations

import pytest

from worker.load.event import StreamEvent
from worker.load.generator import generate
from worker.load.poison import INVALID, MALFORMED, OVER_LIMITS, Entry
from worker.session import limits
from worker.session.model import Limits, Update
from worker.session.rejections import Rejected
from worker.wire.update import decode

BROKEN_TABLES = ("malformed", "invalid")


def entries(table: dict[str, Entry]) -> list[object]:
    return [pytest.param(entry, id=name) for name, entry in table.items()]


@pytest.fixture(scope="module")
def stream() -> list[StreamEvent]:
    return list(generate(3_000, seed=5))


def test_every_event_of_a_valid_kind_is_an_update_of_its_session(stream: list[StreamEvent]) -> None:
    for event in stream:
        if event.kind.partition(":")[0] not in BROKEN_TABLES:
            update = decode(event.value, event.key, event.timestamp_ms)
            assert isinstance(update, Update), (event, update)
            assert update.integration_id.encode() == event.key


def test_every_event_of_a_broken_kind_is_refused(stream: list[StreamEvent]) -> None:
    broken = [event for event in stream if event.kind.partition(":")[0] in BROKEN_TABLES]
    assert len(broken) > 40
    for event in broken:
        assert isinstance(decode(event.value, event.key, event.timestamp_ms), Rejected), event


@pytest.mark.parametrize("entry", entries(dict(MALFORMED)))
def test_malformed_records_are_refused_as_malformed(entry: Entry) -> None:
    key, value = entry("order-1")
    refused = decode(value, key, 0)
    assert isinstance(refused, Rejected)
    assert refused.code == "malformed"


@pytest.mark.parametrize("entry", entries(dict(INVALID)))
def test_invalid_updates_are_refused_by_the_schema(entry: Entry) -> None:
    key, value = entry("order-1")
    refused = decode(value, key, 0)
    assert isinstance(refused, Rejected)
    assert refused.code == "schema_invalid"


@pytest.mark.parametrize("entry", entries(dict(OVER_LIMITS)))
def test_updates_over_a_limit_are_well_formed_and_exceed_it(entry: Entry) -> None:
    key, value = entry("order-1")
    update = decode(value, key, 0)
    assert isinstance(update, Update)
    refused = limits.check(update, Limits())
    assert refused is not None
    assert refused.code == "limit_exceeded"
