"""Dead letters, stored rows, the position and the ledger: what may be missing, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operate.verify.written import (
    BATCH,
    TOPIC,
    Record,
    ledger,
    letters,
    model,
    rows,
    source,
    written,
)
from worker.engine.position import POSITION_KEY, Position, encode_position
from worker.operate.verify.changelog import ChangelogView
from worker.operate.verify.findings import Findings
from worker.operate.verify.ledger_walk import entry_of

# ---------------------------------------------------------------------- dead letters


def test_letters_of_another_version_of_the_worker_agree() -> None:
    """After an upgrade the old letters are still right."""
    old = [
        record._replace(headers=(*record.headers[:-1], (record.headers[-1][0], b"0.0.1")))
        for record in written().letters
    ]
    assert letters(old).differences == 0
    without = [old[0]._replace(headers=old[0].headers[:-1]), *old[1:]]
    assert [one.kind for one in letters(without).suspects] == ["different"]


def test_letters_that_retention_deleted_are_not_missing_but_one_in_the_middle_is() -> None:
    found = written().letters
    findings = letters(found[3:], head_is_deleted=True)
    assert (findings.differences, findings.left_out["deleted by retention"]) == (0, 3)
    assert letters(found[3:]).differences == 3
    assert letters([*found[3:5], *found[6:]], head_is_deleted=True).differences == 1


def test_letters_of_the_window_may_be_there_or_not() -> None:
    last = written().letters[-1]
    offset = int(dict(last.headers)["dead_letter.offset"])
    window_from = next(number for number, record in enumerate(source()) if record.offset == offset)
    assert letters(written().letters, window_from=window_from).differences == 0
    assert letters(written().letters[:-1], window_from=window_from).differences == 0
    assert letters(written().letters[:-1], window_from=window_from + 1).differences == 1


def test_letters_out_of_order_twice_or_about_nothing_are_found() -> None:
    found = written().letters
    assert [one.kind for one in letters([found[1], found[0], *found[2:]]).suspects] == ["out of order"]
    assert [one.text for one in letters([*found, found[0]]).suspects] == ["it is there twice"]
    nameless = found[0]._replace(headers=())
    assert [one.text for one in letters([*found, nameless]).suspects] == ["it names no source offset"]


# ---------------------------------------------------------------------- changelog and position


@settings(max_examples=40)
@given(st.integers(0, len(source()) - 1), st.integers(0, 60))
def test_rows_of_any_moment_of_the_window_agree(window_from: int, transactions_behind: int) -> None:
    """A snapshot of the changelog holds the rows as of the end of some transaction of the window."""
    positions = [at for at, record in enumerate(written().changelog) if record.key == POSITION_KEY]
    ends = [at for number, at in enumerate(positions) if (number + 1) * BATCH >= window_from]
    end = ends[min(transactions_behind, len(ends) - 1)]
    assert rows(written().changelog[: end + 1], model(window_from)).differences == 0


def test_rows_from_before_the_window_differ_unless_rewritten_since() -> None:
    positions = [at for at, record in enumerate(written().changelog) if record.key == POSITION_KEY]
    early = written().changelog[: positions[-3] + 1]
    found = rows(early)
    assert found.differences > 0
    assert {one.kind for one in found.suspects} <= {"different", "missing"}
    keys = [suspect.key for suspect in found.suspects if suspect.key is not None]
    excused = rows(early, rewritten=keys)
    assert (excused.differences, excused.left_out["rewritten since"]) == (0, len(keys))


def test_compaction_of_the_changelog_changes_nothing() -> None:
    latest = {record.key: record for record in written().changelog}
    assert rows(latest.values()).differences == 0


def test_a_row_without_key_a_deleted_row_and_an_unknown_reserved_key_are_found() -> None:
    row = next(record for record in written().changelog if record.key is not None and record.key < b"\xff")
    extra = [row._replace(key=None), row._replace(value=None), row._replace(key=b"\xff\x07new")]
    found = rows([*{record.key: record for record in written().changelog}.values(), *extra])
    assert sorted(one.kind for one in found.suspects) == ["missing", "unexpected", "unexpected"]


@pytest.mark.parametrize(
    ("value", "timestamp", "says"),
    [
        (encode_position(Position(TOPIC, 30)), 5, None),
        (encode_position(Position(TOPIC, 40)), 6, None),
        (
            encode_position(Position(TOPIC, 35)),
            5,
            "says updates 35, answers 0; expected updates 30, answers 0 or updates 40",
        ),
        (encode_position(Position("other", 30)), 5, "says other 30"),
        (encode_position(Position(TOPIC, 30)), 6, "has timestamp 6; expected 5"),
        (b"?", 5, "cannot be read"),
        (None, 5, "is not there"),
    ],
)
def test_the_position_must_be_the_end_of_a_range_that_may_be_the_last(
    value: bytes | None, timestamp: int, says: str | None
) -> None:
    view = ChangelogView(Findings())
    view.take(Record(0, timestamp, POSITION_KEY, value, ()))
    told = view.compare_position({Position(TOPIC, 30): 5, Position(TOPIC, 40): 6})
    assert [says in one.text for one in told] == ([True] if says else []) if says else told == []


def test_no_position_is_expected_where_nothing_was_processed() -> None:
    view = ChangelogView(Findings())
    assert view.compare_position({None: 0}) == []
    assert view.compare_position({None: 0, Position(TOPIC, 3): 1}) == []
    view.take(Record(0, 1, POSITION_KEY, encode_position(Position(TOPIC, 3)), ()))
    assert "expected no record" in view.compare_position({None: 0})[0].text
    assert view.compare_position({None: 0, Position(TOPIC, 3): 1}) == []


# ---------------------------------------------------------------------- ledger


def test_a_missing_a_repeated_and_a_foreign_ledger_record_are_one_difference_each() -> None:
    found = written().ledger
    gap, _ = ledger([*found[:4], *found[5:]])
    skipped = entry_of(found[4])
    assert skipped is not None
    (suspect,) = gap.suspects
    assert suspect.kind == "missing"
    assert f"no range holds input offsets {skipped.first_offset} to {skipped.last_offset}" in suspect.text
    again, reached = ledger([*found[:4], found[3], *found[4:]])
    assert [(one.kind, "overlaps" in one.text) for one in again.suspects] == [("unexpected", True)]
    assert reached == source()[-1].offset + 1
    foreign = found[3]._replace(value=(found[3].value or b"").replace(b'"updates"', b'"uploads"'))
    assert [one.kind for one in ledger([*found, foreign])[0].suspects] == ["unexpected"]
    assert [one.text for one in ledger([*found, found[3]._replace(value=b"[]")])[0].suspects] == [
        "it is no ledger record"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record._replace(value=(record.value or b"").replace(b'"accepted":', b'"accepted":1')),
        lambda record: record._replace(value=(record.value or b"").replace(b'"reasons":{}', b'"reasons":{"stale":1}')),
        lambda record: record._replace(key=b""),
        lambda record: record._replace(headers=(("x", b""),)),
    ],
)
def test_a_ledger_record_must_be_the_models_byte_for_byte(change: Callable[[Record], Record]) -> None:
    found = list(written().ledger)
    at = next(number for number, record in enumerate(found) if b'"reasons":{}' in (record.value or b""))
    found[at] = change(found[at])
    findings, _ = ledger(found)
    assert [(one.kind, one.found and one.found.offset) for one in findings.suspects] == [
        ("different", found[at].offset)
    ]
