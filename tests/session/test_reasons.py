"""Why an update is refused: each code with its message and its place (session semantics, section 5)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.session.play import OMIT, SESSION, Number, Play, event, item, written
from worker.session.rejections import CODES


def sent(body: Any = None, **envelope: Any) -> bytes:
    return written(event(body, **envelope))


STATE: Final = "/customer_session/state"
REFERRAL: Final = "/customer_session/referral_code"
OTHER: Final = {"referral_code": "FRIEND"}
RE_OPEN: Final = 'Cannot move session to state "open" from state '

REASONS: Final[list[tuple[str, str, bytes, str, str]]] = [
    # state of the session, code, value, message, pointer
    ("open", "malformed", b"{", "The value is not JSON: Input data was truncated", ""),
    ("open", "malformed", b"[]", "The value is an array, not a JSON object", ""),
    ("open", "malformed", b'{"a":"\xff"}', "The value is not UTF-8: invalid start byte at byte 6", ""),
    ("open", "malformed", sent(sequence=Number("NaN")), "The value is not JSON: ", ""),
    (
        "open",
        "malformed",
        sent(eventId="a", event_id="b"),
        "event_id is there in both spellings, with different values",
        "/event_id",
    ),
    ("open", "malformed", sent(integration_id="x"), "integration_id is not the record's key", "/integration_id"),
    (
        "open",
        "schema_invalid",
        sent(integration_id=OMIT),
        "integration_id is required",
        "/integration_id",
    ),
    ("open", "schema_invalid", sent({"state": "paid"}), "state must be open, closed or cancelled", STATE),
    ("open", "schema_invalid", sent({"state": 1}), "state must be a string, not a number", STATE),
    (
        "open",
        "schema_invalid",
        sent(customer_session=OMIT),
        "customer_session is required",
        "/customer_session",
    ),
    (
        "open",
        "schema_invalid",
        sent(customer_session=[]),
        "customer_session must be an object, not an array",
        "/customer_session",
    ),
    ("open", "schema_invalid", sent(event_id=""), "event_id must not be empty", "/event_id"),
    ("open", "schema_invalid", sent(sequence=-1), "sequence must be an integer of at least 0", "/sequence"),
    ("open", "schema_invalid", sent(sequence=True), "sequence must be an integer, not a boolean", "/sequence"),
    (
        "open",
        "schema_invalid",
        sent(sequence=2**63),
        "sequence must be an integer of at most 64 bits",
        "/sequence",
    ),
    (
        "open",
        "schema_invalid",
        sent(application_id="7"),
        "application_id must be an integer, not a string",
        "/application_id",
    ),
    *[
        (
            "open",
            "schema_invalid",
            sent(occurred_at=text),
            "occurred_at must be a date and time with an offset, as in RFC 3339: 2026-11-22T10:15:30.1Z",
            "/occurred_at",
        )
        for text in (
            "2026-11-22T10:15:30",
            "yesterday",
            "",
            "2026-02-30T10:15:30Z",
            "2026-11-22 10:15:30Z",
            "2026-11-22",
        )
    ],
    (
        "open",
        "schema_invalid",
        sent({"coupon_codes": ["A", 1]}),
        "coupon_codes must be a string, not a number",
        "/customer_session/coupon_codes/1",
    ),
    (
        "nothing",
        "schema_invalid",
        sent(application_id=OMIT),
        "application_id is required by the event that creates a session",
        "/application_id",
    ),
    ("open", "limit_exceeded", sent(event_id="x" * 256), "event_id must have at most 255 characters", "/event_id"),
    (
        "open",
        "application_mismatch",
        sent(application_id=8),
        "This session belongs to application 7, not 8",
        "/application_id",
    ),
    (
        "nothing",
        "must_start_open",
        sent({"state": "closed"}),
        'A new session starts in state "open", not "closed"',
        STATE,
    ),
    (
        "nothing",
        "must_start_open",
        sent({"state": "cancelled"}),
        'A new session starts in state "open", not "cancelled"',
        STATE,
    ),
    ("closed", "invalid_transition", sent({"state": "open"}), RE_OPEN + '"closed"', STATE),
    ("cancelled", "invalid_transition", sent({"state": "open"}), RE_OPEN + '"cancelled"', STATE),
    (
        "cancelled",
        "invalid_transition",
        sent({"state": "closed"}),
        'Cannot move session to state "closed" from state "cancelled"',
        STATE,
    ),
    (
        "closed",
        "session_closed",
        sent(OTHER),
        "The session is closed and takes no more changes; this event would change referral_code",
        REFERRAL,
    ),
    (
        "cancelled",
        "session_cancelled",
        sent(OTHER),
        "The session is cancelled and takes no more changes; this event would change referral_code",
        REFERRAL,
    ),
    (
        "open",
        "event_id_conflict",
        sent(OTHER, event_id="known"),
        "An earlier event of this session had the same event_id and another body",
        "/event_id",
    ),
    ("open", "stale", sent(OTHER, sequence=3), "sequence 3 is not after 5, the last one applied", "/sequence"),
]
"""A message of the JSON parser's is given by how it begins; all others are given whole."""


def stored(state: str) -> Play:
    """A partition whose one session is in this state, knows one event_id, and applied sequence 5."""
    play = Play()
    if state != "nothing":
        play.send(event_id="known", sequence=5)
    if state in ("closed", "cancelled"):
        play.send({"state": state})
    return play


@pytest.mark.parametrize(("state", "code", "value", "message", "pointer"), REASONS)
def test_a_refusal_says_what_is_wrong_and_where_and_changes_nothing(
    state: str, code: str, value: bytes, message: str, pointer: str
) -> None:
    play = stored(state)
    before = dict(play.rows)
    refused = play.send_value(value, key=SESSION.encode())
    assert (refused.reason["code"], refused.reason["pointer"]) == (code, pointer)
    said = refused.reason["message"]
    assert said == message or (said.startswith(message) and message.startswith("The value is not JSON: "))
    assert refused.reason["state"] == ("" if state == "nothing" else state)
    assert play.rows == before


def test_every_code_is_shown_above() -> None:
    assert {code for _, code, *_ in REASONS} == set(CODES)


def test_a_pointer_is_spelled_like_the_event() -> None:
    value = b'{"integrationId":"order-1","applicationId":7,"customerSession":{"cartItems":[{"name":"a"}]}}'
    assert Play().send_value(value).reason["pointer"] == "/customerSession/cartItems/0/sku"
    mixed = b'{"integration_id":"order-1","applicationId":7,"customer_session":{"couponCodes":[7]}}'
    assert Play().send_value(mixed).reason["pointer"] == "/customer_session/couponCodes/0"


def test_a_refused_record_of_unknown_session_has_no_state_and_one_of_another_key_has_that_sessions() -> None:
    play = stored("closed")
    assert play.send_value(b"{", key=b"order-2").reason["state"] == ""
    assert play.send_value(sent(), key=b"order-2").reason["state"] == ""
    assert play.send_value(sent(integration_id="order-2"), key=SESSION.encode()).reason["state"] == "closed"
    assert play.send({"state": "paid"}).reason["state"] == "closed"  # without a key, the value tells the session


@pytest.mark.parametrize("value", [None, b"", b" ", b"null", b"1", b'"x"', b"NaN", b'{"sequence":NaN}', b"{}{}"])
def test_what_is_not_one_json_object_is_malformed(value: bytes | None) -> None:
    assert Play().send_value(value, key=SESSION.encode()).verdict == "malformed"


PRICE_FAULTS: Final[list[Any]] = [-1, Number("-0.01"), "-1", "free", True, []]
ITEM_FAULTS: Final[list[tuple[dict[str, Any], str]]] = [
    *[({name: OMIT}, name) for name in ("name", "sku", "quantity", "price")],
    *[({name: None}, name) for name in ("name", "sku", "quantity", "price", "category", "weight", "attributes")],
    *[({name: ""}, name) for name in ("name", "sku")],
    *[({"quantity": quantity}, "quantity") for quantity in (0, -1, True, "1", Number("2.0"), Number("1e3"), 2**63)],
    *[({"price": price}, "price") for price in PRICE_FAULTS],
    *[({name: value}, name) for name, value in (("weight", "heavy"), ("category", 1), ("adjustment", []))],
]


@pytest.mark.parametrize(("fault", "field"), ITEM_FAULTS)
def test_one_invalid_item_refuses_the_whole_update(fault: dict[str, Any], field: str) -> None:
    play = stored("open")
    before = play.row()
    refused = play.send({"coupon_codes": ["B"], "cart_items": [item("1"), item("1") | fault]})
    assert refused.verdict == "schema_invalid"
    assert refused.reason["pointer"] == f"/customer_session/cart_items/1/{field}"
    assert play.row() == before


def test_negative_measures_are_fine_and_a_position_in_the_input_is_ignored() -> None:
    created = Play().send({"cart_items": [item("1", weight=-1, position=9), item("2", position="first")]})
    assert [one["position"] for one in created.entity["cart_items"]] == [Number("0"), Number("1")]
    assert created.ignored_fields == 0


def test_fields_of_the_worker_are_counted_and_never_trusted() -> None:
    owned = {"created": "2001-01-01T00:00:00Z", "first_session": False, "total": 1, "cart_item_total": 1}
    created = Play().send({"cart_items": [item("3", colour="red")], **owned}, revision=9)
    assert created.totals == "3 / 0 / 3"
    assert created.entity["first_session"] is True
    assert (created.record["revision"], created.ignored_fields) == (Number("1"), 6)
