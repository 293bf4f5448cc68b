"""Every input event gets exactly one outcome: the state table cell by cell, the reasons, and which reason
comes first (session semantics, section 5).
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final

import pytest

from tests.session.play import OMIT, SESSION, Number, Play, event, item, written

BODY: Final[dict[str, Any]] = {"cart_items": [item("10")], "coupon_codes": ["A"], "attributes": {"a": Number("1")}}
SAME: Final[dict[str, Any]] = {"cart_items": [item("10.0")], "attributes": {}}
"""Merging it leaves a session of BODY as it is."""
OTHER: Final[dict[str, Any]] = {"referral_code": "FRIEND"}

WAYS: Final = {"open": ["open"], "closed": ["open", "closed"], "cancelled": ["open", "cancelled"], "nothing": []}
"""The states to ask for, to get a session there."""

TABLE: Final = [
    # stored, requested, content, verdict, state after
    ("nothing", OMIT, SAME, "session_created", "open"),
    ("nothing", OMIT, OTHER, "session_created", "open"),
    ("nothing", "open", SAME, "session_created", "open"),
    ("nothing", "open", OTHER, "session_created", "open"),
    ("nothing", "closed", SAME, "must_start_open", None),
    ("nothing", "closed", OTHER, "must_start_open", None),
    ("nothing", "cancelled", SAME, "must_start_open", None),
    ("nothing", "cancelled", OTHER, "must_start_open", None),
    ("open", OMIT, SAME, "unchanged", "open"),
    ("open", OMIT, OTHER, "session_updated", "open"),
    ("open", "open", SAME, "unchanged", "open"),
    ("open", "open", OTHER, "session_updated", "open"),
    ("open", "closed", SAME, "session_closed", "closed"),
    ("open", "closed", OTHER, "session_closed", "closed"),
    ("open", "cancelled", SAME, "session_cancelled", "cancelled"),
    ("open", "cancelled", OTHER, "session_cancelled", "cancelled"),
    ("closed", OMIT, SAME, "unchanged", "closed"),
    ("closed", OMIT, OTHER, "session_closed: refused", "closed"),
    ("closed", "open", SAME, "invalid_transition", "closed"),
    ("closed", "open", OTHER, "invalid_transition", "closed"),
    ("closed", "closed", SAME, "unchanged", "closed"),
    ("closed", "closed", OTHER, "session_closed: refused", "closed"),
    ("closed", "cancelled", SAME, "session_revoked", "cancelled"),
    ("closed", "cancelled", OTHER, "session_revoked", "cancelled"),
    ("cancelled", OMIT, SAME, "unchanged", "cancelled"),
    ("cancelled", OMIT, OTHER, "session_cancelled: refused", "cancelled"),
    ("cancelled", "open", SAME, "invalid_transition", "cancelled"),
    ("cancelled", "open", OTHER, "invalid_transition", "cancelled"),
    ("cancelled", "closed", SAME, "invalid_transition", "cancelled"),
    ("cancelled", "closed", OTHER, "invalid_transition", "cancelled"),
    ("cancelled", "cancelled", SAME, "unchanged", "cancelled"),
    ("cancelled", "cancelled", OTHER, "session_cancelled: refused", "cancelled"),
]
"""Two codes are also types of output records; those verdicts say which is meant."""


def stored(state: str) -> Play:
    """A partition whose one session is in this state, with BODY as its content."""
    play = Play()
    for requested in WAYS[state]:
        assert play.send(BODY | {"state": requested}).outcome == "accepted"
    return play


def cell_name(value: Any) -> str | None:
    names = [(OMIT, "none"), (SAME, "same"), (OTHER, "other")]
    return next((name for known, name in names if value is known), None)


@pytest.mark.parametrize(("state", "requested", "content", "verdict", "after"), TABLE, ids=cell_name)
def test_the_state_table_holds_in_every_cell(
    state: str, requested: Any, content: dict[str, Any], verdict: str, after: str | None
) -> None:
    play = stored(state)
    before = play.row()
    reply = play.send(content | {"state": requested})
    assert reply.verdict == verdict.removesuffix(": refused")
    if verdict.startswith("session_") and not verdict.endswith("refused"):
        assert reply.entity["state"] == after
        assert reply.entity["referral_code"] == ("FRIEND" if content is OTHER and state != "closed" else "")
        assert reply.record["revision"] == Number(str(len(WAYS[state]) + 1))
    else:
        assert reply.outcome == ("unchanged" if verdict == "unchanged" else "rejected")
        assert play.row() == before
    if reply.outcome == "rejected":
        assert reply.reason["state"] == ("" if state == "nothing" else state)
    assert (play.session().state if play.row() else None) == after


def test_null_is_no_request_for_a_state() -> None:
    for state in ("open", "closed", "cancelled"):
        assert stored(state).send({"state": None}).outcome == "unchanged"


@pytest.mark.parametrize("body", [OTHER, {"profile_id": "P"}, {"cart_items": []}, {"attributes": {"a": None}}])
def test_cancelling_a_closed_session_ignores_the_content(body: dict[str, Any]) -> None:
    play = stored("closed")
    before, rows = play.session(), set(play.rows)
    revoked = play.send(body | {"state": "cancelled"}, event_id="e1", sequence=4)
    assert revoked.verdict == "session_revoked"
    after = play.session()
    assert (after.content, after.total, after.first_session) == (before.content, before.total, before.first_session)
    assert set(play.rows) == rows, "no claim is made for a profile that is not bound"
    # The event counts all the same: it is remembered, and so is its sequence.
    assert (after.sequence, list(after.recent_events)) == (4, ["e1"])


@pytest.mark.parametrize(("state", "code"), [("closed", "session_closed"), ("cancelled", "session_cancelled")])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"profile_id": "P"}, "profile_id"),
        ({"coupon_codes": []}, "coupon_codes"),
        ({"referral_code": "X"}, "referral_code"),
        ({"cart_items": [item("10.01")]}, "cart_items"),
        ({"additional_costs": {"a": {"price": 0}}}, "additional_costs"),
        ({"identifiers": ["x"]}, "identifiers"),
        ({"attributes": {"a": Number("2")}}, "attributes"),
        ({"attributes": {"a": None}, "coupon_codes": ["a"]}, "coupon_codes"),
    ],
)
def test_a_final_session_refuses_other_content_naming_the_first_field(
    state: str, code: str, body: dict[str, Any], field: str
) -> None:
    refused = stored(state).send(body)
    assert refused.reason["code"] == code
    assert refused.reason["pointer"] == f"/customer_session/{field}"
    expected = f"The session is {state} and takes no more changes; this event would change {field}"
    assert refused.reason["message"] == expected


# --- The order of the checks -----------------------------------------------------------------------------------

FAULTS: Final[dict[str, dict[str, Any]]] = {
    "malformed": {"key": b"another session's"},
    "schema_invalid": {"body": {"cart_items": [item("1", 0)]}},
    "limit_exceeded": {"body": {"coupon_codes": ["x" * 101]}},
    "event_id_conflict": {"event_id": "known"},
    "stale": {"sequence": 5},
    "application_mismatch": {"application_id": 8},
    "invalid_transition": {"body": {"state": "open"}},
    "session_closed": {"body": {"referral_code": "other"}},
}
"""In the order of the checks: what about an event of a closed session leads to this refusal."""


@pytest.mark.parametrize("codes", [(code,) for code in FAULTS] + list(combinations(FAULTS, 2)), ids=" and ".join)
def test_of_two_faults_the_earlier_check_names_the_reason(codes: tuple[str, ...]) -> None:
    play = Play()
    play.send({}, event_id="known", sequence=4)
    play.send({"state": "closed"}, sequence=5)
    faulty = event({}, event_id="new", sequence=6)
    key = SESSION.encode()
    for fault in (FAULTS[code] for code in codes):
        faulty["customer_session"] |= fault.get("body", {})
        faulty |= {name: value for name, value in fault.items() if name not in ("body", "key")}
        key = fault.get("key", key)
    assert play.send_value(written(faulty), key).reason["code"] == codes[0]


def test_all_faults_at_once_are_refused_one_by_one_as_they_are_mended() -> None:
    play = Play()
    play.send({}, event_id="known", sequence=4)
    play.send({"state": "closed"}, sequence=5)
    for first in range(len(FAULTS)):
        faulty, key = event({}, event_id="new", sequence=6), SESSION.encode()
        for fault in list(FAULTS.values())[first:]:
            faulty["customer_session"] |= fault.get("body", {})
            faulty |= {name: value for name, value in fault.items() if name not in ("body", "key")}
            key = fault.get("key", key)
        assert play.send_value(written(faulty), key).reason["code"] == list(FAULTS)[first]


def test_a_first_event_without_application_is_refused_for_that_before_its_state() -> None:
    refused = Play().send({"state": "closed"}, application_id=OMIT)
    assert (refused.verdict, refused.reason["pointer"]) == ("schema_invalid", "/application_id")


def test_a_duplicate_is_one_even_when_it_would_be_refused_by_now() -> None:
    play = Play()
    opening = written(event({"state": "open"}, event_id="e1", sequence=1))
    assert play.send_value(opening).verdict == "session_created"
    assert play.send({"state": "closed"}, sequence=2).verdict == "session_closed"
    assert play.send_value(opening).outcome == "duplicate"  # else stale, then invalid_transition
