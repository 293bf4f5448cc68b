"""The bytes on the wire are the ones pinned in `golden/`: a change of them is a decision, never an accident."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.wire.golden import DIRECTORY, FILES, row_in
from tests.wire.story import tell
from worker.session.model import EventType
from worker.session.rejections import CODES
from worker.wire import row
from worker.wire.spelling import OutputCase


@pytest.mark.parametrize("name", FILES)
def test_the_bytes_are_the_pinned_ones(name: str) -> None:
    # Lines, so that a failure shows the one that differs.
    assert FILES[name]().split(b"\n") == (DIRECTORY / name).read_bytes().split(b"\n")


def test_every_event_type_every_code_and_every_outcome_is_pinned() -> None:
    told = tell()
    types = {dict(record.headers)["ce_type"].decode() for record in told.enriched}
    codes = {dict(record.headers)["dead_letter.code"].decode() for record in told.dead_letters}
    assert types == set(get_args(EventType))
    assert codes == set(CODES)
    ledger, of_answers = told.ledger
    assert ledger.value is not None
    assert b'"answers":' in (of_answers.value or b"")
    for outcome in ("accepted", "unchanged", "duplicate", "rejected"):
        assert f'"{outcome}":0'.encode() not in ledger.value


def test_there_is_no_golden_file_that_nothing_compares() -> None:
    assert {path.name for path in DIRECTORY.glob("*.txt")} == set(FILES)


@pytest.mark.parametrize("case", ["snake", "camel"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_size_of_batches_changes_no_byte_but_in_the_ledger(case: OutputCase, batch_size: int) -> None:
    whole, parts = tell(case), tell(case, batch_size)
    assert (parts.enriched, parts.dead_letters, parts.rows) == (whole.enriched, whole.dead_letters, whole.rows)
    assert len(parts.ledger) > len(whole.ledger)


@pytest.mark.parametrize("key", ["order-1", "order-2", "bestellung-ß"])
def test_a_row_stored_by_the_pinned_version_can_still_be_read(key: str) -> None:
    stored = row_in((DIRECTORY / "rows.txt").read_bytes(), key)
    session = row.decode(stored)
    assert session.integration_id == key
    assert row.encode(session) == stored
