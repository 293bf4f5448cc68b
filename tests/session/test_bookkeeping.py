"""What a session remembers of its events: event_ids, sequences, and when it began (session semantics, section 5)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.session.play import OMIT, RECORD_TIME, SESSION, Number, Play, event, item, written
from worker.session.model import Limits

DEFAULT_WINDOW = 32


def numbered(number: int, body: Any = None) -> bytes:
    """An event of its own event_id that changes the session, unless told otherwise."""
    return written(event({"referral_code": f"{number}"} if body is None else body, event_id=f"e{number}"))


# --- event_id ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limits", "window"), [(None, DEFAULT_WINDOW), (Limits(duplicate_window=3), 3)])
def test_the_last_n_event_ids_are_remembered_and_not_one_more(limits: Limits | None, window: int) -> None:
    play = Play(limits)
    for number in range(window + 1):
        assert play.send_value(numbered(number)).outcome == "accepted"
    before = play.row()
    assert play.send_value(numbered(1)).outcome == "duplicate"  # the N-th from the end
    assert play.send_value(numbered(window)).outcome == "duplicate"
    assert play.row() == before
    assert play.send_value(numbered(0)).verdict == "session_updated"  # the one before: judged anew


def test_without_a_window_no_event_id_is_remembered() -> None:
    play = Play(Limits(duplicate_window=0))
    assert play.send_value(numbered(1)).outcome == "accepted"
    assert play.send_value(numbered(1)).outcome == "unchanged"


def test_unchanged_events_are_remembered_too() -> None:
    play = Play(Limits(duplicate_window=2))
    sent = [numbered(1), numbered(2, {}), numbered(3, {})]
    assert [play.send_value(value).outcome for value in sent] == ["accepted", "unchanged", "unchanged"]
    assert [play.send_value(value).outcome for value in reversed(sent)] == ["duplicate", "duplicate", "unchanged"]


def test_a_duplicate_does_not_make_an_event_id_last_longer() -> None:
    play = Play(Limits(duplicate_window=2))
    sent = [play.send_value(numbered(number)).outcome for number in (1, 2, 1, 3, 1)]
    assert sent == ["accepted", "accepted", "duplicate", "accepted", "accepted"]


@pytest.mark.parametrize(
    "other",
    [
        written(event({"referral_code": "other"}, event_id="e1")),
        written(event({"referral_code": "1"}, event_id="e1")) + b" ",
        written(event({"referral_code": "1"}, event_id="e1", occurred_at="2026-11-22T10:15:30Z")),
    ],
    ids=["another body", "other bytes", "another moment"],
)
def test_an_event_id_with_another_body_is_a_conflict(other: bytes) -> None:
    play = Play()
    play.send_value(numbered(1))
    before = play.row()
    refused = play.send_value(other)
    assert (refused.verdict, refused.reason["pointer"]) == ("event_id_conflict", "/event_id")
    assert play.row() == before
    assert play.send_value(numbered(1)).outcome == "duplicate", "the first body stays the one remembered"


def test_event_ids_are_remembered_per_session() -> None:
    play = Play()
    for session in ("order-1", "order-2"):
        assert play.send(event_id="e1", integration_id=session).outcome == "accepted"


def test_events_without_event_id_are_never_duplicates() -> None:
    play, value = Play(), written(event({"referral_code": "A"}))
    assert [play.send_value(value).outcome for _ in range(3)] == ["accepted", "unchanged", "unchanged"]


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ({"cart_items": [item("1", 0)]}, {}),
        ({"coupon_codes": ["x" * 101]}, {}),
        ({}, {"sequence": 3}),
        ({}, {"application_id": 8}),
    ],
    ids=["schema_invalid", "limit_exceeded", "stale", "application_mismatch"],
)
def test_a_rejected_event_is_not_remembered_and_judged_anew(body: Any, more: dict[str, Any]) -> None:
    play = Play()
    play.send(sequence=3)
    before = play.row()
    value = written(event(body, event_id="e1", **more))
    assert [play.send_value(value).outcome for _ in range(2)] == ["rejected", "rejected"]
    assert play.row() == before
    assert play.send({"referral_code": "mended"}, event_id="e1").outcome == "accepted"


def test_a_refused_first_event_leaves_no_trace_of_its_event_id() -> None:
    play, early = Play(), written(event({"state": "closed"}, event_id="e1"))
    assert play.send_value(early).verdict == "must_start_open"
    assert play.rows == {}
    play.send(event_id="e0")
    assert play.send_value(early).verdict == "session_closed", "sent again it is judged anew"


# --- sequence ---------------------------------------------------------------------------------------------------


def test_only_a_higher_sequence_is_applied() -> None:
    play = Play()
    sent = [(0, "accepted"), (0, "rejected"), (2, "accepted"), (1, "rejected"), (2, "rejected"), (3, "accepted")]
    for count, (sequence, outcome) in enumerate(sent):
        reply = play.send({"referral_code": f"{count}"}, sequence=sequence)
        assert reply.outcome == outcome
        assert outcome == "accepted" or (reply.verdict, reply.reason["pointer"]) == ("stale", "/sequence")
    assert play.send(sequence=3).reason["message"] == "sequence 3 is not after 3, the last one applied"


def test_without_sequence_the_order_of_the_partition_is_the_truth() -> None:
    play = Play()
    play.send({"referral_code": "A"}, sequence=5)
    assert play.send({"referral_code": "B"}).outcome == "accepted"
    assert play.send({"referral_code": "C"}, sequence=None).outcome == "accepted"
    assert play.send({"referral_code": "D"}, sequence=5).verdict == "stale"
    assert play.send({"referral_code": "D"}, sequence=6).outcome == "accepted"


def test_the_first_sequence_of_a_session_may_be_any() -> None:
    play = Play()
    play.send({"referral_code": "A"})
    assert play.send({"referral_code": "B"}, sequence=0).outcome == "accepted"


def test_an_unchanged_event_moves_the_sequence_and_nothing_else() -> None:
    play = Play()
    play.send({"referral_code": "A"}, sequence=1)
    assert play.send({"referral_code": "A"}, sequence=7).outcome == "unchanged"
    assert play.send({"referral_code": "B"}, sequence=7).verdict == "stale"
    assert play.send({"referral_code": "B"}, sequence=8).record["revision"] == Number("2")


def test_a_rejected_event_does_not_move_the_sequence() -> None:
    play = Play()
    play.send(sequence=1)
    assert play.send({"state": "open"}, sequence=9, application_id=8).verdict == "application_mismatch"
    assert play.send({"referral_code": "A"}, sequence=2).outcome == "accepted"


def test_sequences_are_counted_per_session() -> None:
    play = Play()
    for session in ("order-1", "order-2"):
        assert play.send(sequence=1, integration_id=session).outcome == "accepted"


# --- created, occurred_at, application_id -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (OMIT, RECORD_TIME),
        (None, RECORD_TIME),
        ("2026-11-22T10:15:30Z", "2026-11-22T10:15:30.000000Z"),
        ("2026-11-22T10:15:30.1Z", "2026-11-22T10:15:30.100000Z"),
        ("2026-11-22T10:15:30.123456Z", "2026-11-22T10:15:30.123456Z"),
        ("2026-11-22T10:15:30.9999999Z", "2026-11-22T10:15:30.999999Z"),
        ("2026-11-22T00:15:30.5+02:30", "2026-11-21T21:45:30.500000Z"),
        ("2026-12-31t23:59:59-00:01", "2027-01-01T00:00:59.000000Z"),
        ("2024-02-29T00:00:00z", "2024-02-29T00:00:00.000000Z"),
    ],
)
def test_created_is_when_the_first_event_occurred_and_never_the_wall_clock(sent: Any, expected: str) -> None:
    play = Play()
    created = play.send(occurred_at=sent)
    assert created.entity["created"] == created.record["occurred_at"] == expected
    changed = play.send({"state": "closed"}, occurred_at="2030-01-01T00:00:00Z")
    assert changed.entity["created"] == expected
    assert changed.record["occurred_at"] == "2030-01-01T00:00:00.000000Z"


def test_an_earlier_moment_neither_reorders_nor_moves_created() -> None:
    play = Play()
    play.send({"referral_code": "A"}, occurred_at="2026-11-22T10:00:00Z")
    late = play.send({"referral_code": "B"}, occurred_at="2020-01-01T00:00:00Z")
    assert (late.entity["referral_code"], late.entity["created"]) == ("B", "2026-11-22T10:00:00.000000Z")


def test_created_is_of_the_first_accepted_event_not_of_a_rejected_one_before() -> None:
    play = Play()
    play.send({"state": "closed"}, occurred_at="2026-11-22T10:00:00Z")
    created = play.send({}, occurred_at="2026-11-22T11:00:00Z")
    assert created.entity["created"] == "2026-11-22T11:00:00.000000Z"


@pytest.mark.parametrize("timestamp", [-1, 10**18])
def test_a_record_that_knows_no_moment_is_refused_unless_its_event_does(timestamp: int) -> None:
    play = Play()
    refused = play.send_value(written(event()), SESSION.encode(), timestamp)
    assert (refused.verdict, refused.reason["pointer"]) == ("schema_invalid", "/occurred_at")
    dated = written(event(occurred_at="2026-11-22T10:00:00Z"))
    assert play.send_value(dated, SESSION.encode(), timestamp).verdict == "session_created"


def test_the_application_is_needed_once_and_never_changes() -> None:
    play = Play()
    assert play.send({"referral_code": "A"}).entity["application_id"] == Number("7")
    assert play.send({"referral_code": "B"}, application_id=OMIT).entity["application_id"] == Number("7")
    assert play.send({"referral_code": "C"}, application_id=None).record["application_id"] == Number("7")
    assert play.send({"referral_code": "D"}, application_id=8).verdict == "application_mismatch"
    assert play.send({"referral_code": "D"}, application_id=7).outcome == "accepted"
