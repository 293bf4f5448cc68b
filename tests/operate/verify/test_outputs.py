"""Enriched sessions: what compaction may take, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operate.verify.written import (
    Record,
    closed_up,
    ledger,
    letters,
    model,
    outputs,
    rows,
    source,
    written,
)
from worker.operate.verify.findings import KEPT, Findings, Suspect
from worker.operate.verify.outputs import claimed_revision


def test_what_a_worker_writes_agrees_whatever_its_batches_were() -> None:
    assert outputs(written().enriched).differences == 0
    assert letters(written().letters).differences == 0
    assert rows(written().changelog).differences == 0
    findings, reached = ledger(written().ledger)
    assert findings.differences == 0
    assert reached == source()[-1].offset + 1


@given(st.data())
def test_compaction_may_remove_any_revision_but_the_latest(data: st.DataObject) -> None:
    latest = {record.key: record.offset for record in written().enriched}
    removable = [record.offset for record in written().enriched if latest[record.key] != record.offset]
    removed = data.draw(st.sets(st.sampled_from(removable)))
    findings = outputs(record for record in written().enriched if record.offset not in removed)
    assert findings.differences == 0, findings.suspects
    assert findings.left_out["compacted"] == len(removed)


@given(st.integers(0, len(written().enriched) - 1))
def test_any_output_that_was_never_written_is_missing_and_is_named(lost: int) -> None:
    """The offsets have no room for it, so compaction is no excuse."""
    findings = outputs(closed_up(written().enriched, lost))
    assert findings.differences == 1
    (suspect,) = findings.suspects
    assert (suspect.kind, suspect.recall) == ("missing", lost)


def test_the_latest_revision_must_be_there_unless_a_newer_one_stands_behind_the_part_that_was_read() -> None:
    *found, gone = written().enriched
    assert gone.key is not None
    assert [suspect.kind for suspect in outputs(found).suspects] == ["missing"]
    excused = outputs(found, rewritten=[gone.key])
    assert (excused.differences, excused.left_out["rewritten since"]) == (0, 1)


@settings(max_examples=40)
@given(st.integers(1, len(source())), st.data())
def test_outputs_of_the_window_may_be_there_or_not(window_from: int, data: st.DataObject) -> None:
    expected = model(window_from)
    required = sum(revision for _, revision in expected.outputs.required())
    there = data.draw(st.integers(required, len(written().enriched)))
    assert outputs(written().enriched[:there], expected).differences == 0
    if required:
        assert outputs(written().enriched[: required - 1], expected).differences == 1


@given(st.integers(0, len(written().enriched) - 1), st.sampled_from(["value", "headers", "timestamp"]))
def test_a_changed_output_differs_and_is_the_only_one(at: int, field: str) -> None:
    record = written().enriched[at]
    assert record.value is not None
    changes = {
        "value": record.value.replace(b"session", b"Session", 1),
        "headers": (*record.headers, ("x", b"")),
        "timestamp": record.timestamp + 1,
    }
    found = list(written().enriched)
    found[at] = record._replace(**{field: changes[field]})  # type: ignore[arg-type]
    findings = outputs(found)
    assert [(one.kind, one.recall) for one in findings.suspects] == [("different", at)]


def test_outputs_in_another_order_are_found_across_keys() -> None:
    found = list(written().enriched)
    first = next(at for at, record in enumerate(found) if record.key != found[at + 1].key)
    found[first], found[first + 1] = (
        found[first + 1]._replace(offset=found[first].offset),
        found[first]._replace(offset=found[first + 1].offset),
    )
    assert [one.kind for one in outputs(found).suspects] == ["out of order"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda record: record._replace(key=None), "no accepted update"),
        (lambda record: record._replace(key=b"nobody"), "no accepted update"),
        (lambda record: record._replace(headers=(("ce_id", b"x/99"),)), "it is revision 99"),
        (lambda record: record._replace(headers=(), value=b"{}"), "names no revision"),
        (lambda record: record, "stands behind revision"),
    ],
)
def test_an_output_too_many_is_unexpected(change: Callable[[Record], Record], says: str) -> None:
    last = written().enriched[-1]
    findings = outputs([*written().enriched, change(last._replace(offset=last.offset + 5))])
    (suspect,) = findings.suspects
    assert suspect.kind == "unexpected"
    assert says in suspect.text


def test_thousands_of_differences_are_counted_and_the_first_in_the_order_of_the_input_kept() -> None:
    findings = Findings()
    for place in reversed(range(1_000)):
        findings.add(Suspect("missing", place, "", None))
    findings.settle()
    assert findings.differences == 1_000
    assert [suspect.place for suspect in findings.suspects] == list(range(KEPT))


@pytest.mark.parametrize(
    ("headers", "value", "revision"),
    [
        ((("ce_id", b"a/b/12"),), None, 12),
        ((("ce_id", b"a/x"),), b'{"revision":3}', 3),
        ((), b'{"revision":3,"more":[]}', 3),
        ((), b'{"revision":"3"}', None),
        ((("ce_id", b"a/" + b"9" * 40),), b"\xff", None),
    ],
)
def test_a_record_says_its_revision_by_header_or_value(
    headers: tuple[tuple[str, bytes], ...], value: bytes | None, revision: int | None
) -> None:
    assert claimed_revision(headers, value) == revision
