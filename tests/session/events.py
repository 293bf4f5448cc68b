"""Strategies for updates as producers send them: partial bodies, retries, faults, both spellings.

Values are drawn from small pools, so that updates often ask for what is already there. What is wrong with an
update is known from how it was made, not by judging it again.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st

from tests.session.play import OMIT, Number, cost, item, written
from worker.session.model import Limits

SESSIONS: Final = ["order-1", "order-2", "örder/3"]
PROFILES: Final = ["P", "Q", "guest"]

LIMITS: Final = Limits(
    cart_items=4, cart_quantity=20, identifiers=2, coupon_code_length=5, referral_code_length=5, duplicate_window=3
)
"""Small, so that the borders are met often."""

CARTS: Final = [
    [item("10")],
    [item("10.00", position=4)],
    [item("0.1", 3), item("0.2")],
    [item("0.2"), item("0.1", 3)],
    [item('"1e-20"', 20)],
    [item("999999999999999.99999999999999999999")] * 4,
    [item("5", weight=Number("1.50"), adjustment={"b": Number("2.0"), "a": None}, category="")],
]
COSTS: Final = [{"shipping": cost("5")}, {"shipping": cost("5.0")}, {"b": cost("1.1"), "a": cost("2.2")}]
ATTRIBUTES: Final = [{"a": Number("1")}, {"a": Number("1.0")}, {"b": {"c": None}}, {"a": None}, {"a": None, "d": "x"}]

BODY_FIELDS: Final[dict[str, list[Any]]] = {
    "profile_id": ["", *PROFILES],
    "coupon_codes": [[], ["A"], ["A", ""], ["b", "A", "b"], ["12345"]],
    "referral_code": ["", "F", "ééééé"],
    "cart_items": [[], *CARTS],
    "additional_costs": [{}, *COSTS],
    "identifiers": [[], ["x"], ["", "y"]],
    "attributes": [{}, *ATTRIBUTES],
}
"""Empty and present values of each field; omitted and null come on top."""

MOMENTS: Final = [OMIT, OMIT, None, "2026-11-22T10:15:30.1Z", "2026-11-22T00:15:30.1234567+02:30"]

_STATES: Final = st.sampled_from([OMIT] * 6 + [None, "open", "open", "open", "closed", "closed", "cancelled"])
_VALUES: Final = {name: st.sampled_from([OMIT, None, *pool]) for name, pool in BODY_FIELDS.items()}
_APPLICATIONS: Final = st.sampled_from([7, 7, 7, 7, 7, OMIT, None, 8])
_SEQUENCES: Final = st.sampled_from([OMIT] * 40 + [None, None, *range(20)])
_EVENT_IDS: Final = st.sampled_from([OMIT] * 4 + [None, *(f"e{number}" for number in range(8))])

FAULTS: Final[dict[str, tuple[str, dict[str, Any], dict[str, Any]]]] = {
    # code, what of the body, what of the envelope
    "quantity 0": ("schema_invalid", {"cart_items": [item("1", 0)]}, {}),
    "null in an item": ("schema_invalid", {"cart_items": [item("1", category=None)]}, {}),
    "no price": ("schema_invalid", {"additional_costs": {"a": {}}}, {}),
    "negative price": ("schema_invalid", {"additional_costs": {"a": cost("-1")}}, {}),
    "16 digits": ("schema_invalid", {"cart_items": [item("1" + "0" * 15)]}, {}),
    "unknown state": ("schema_invalid", {"state": "paid"}, {}),
    "wrong type": ("schema_invalid", {"identifiers": "x"}, {}),
    "negative sequence": ("schema_invalid", {}, {"sequence": -1}),
    "no offset": ("schema_invalid", {}, {"occurred_at": "2026-11-22T10:15:30"}),
    "long coupon code": ("limit_exceeded", {"coupon_codes": ["A", "123456"]}, {}),
    "long referral code": ("limit_exceeded", {"referral_code": "123456"}, {}),
    "5 items": ("limit_exceeded", {"cart_items": [item("1")] * 5}, {}),
    "quantity 21": ("limit_exceeded", {"cart_items": [item("1", 20), item("2")]}, {}),
    "3 identifiers": ("limit_exceeded", {"identifiers": ["x", "x", "x"]}, {}),
    "both spellings": ("malformed", {}, {"applicationId": 70, "application_id": 7}),
}
CHECKED_FIRST: Final = ("malformed", "schema_invalid", "limit_exceeded")

IGNORED_IN_BODY: Final = {"created": "2001-01-01T00:00:00Z", "first_session": False, "total": 1, "other": {"a": []}}
IGNORED_IN_ENVELOPE: Final = {"revision": 9, "type": "session_closed"}


class Sent(NamedTuple):
    """A record, and what it means."""

    value: bytes
    session: str
    envelope: dict[str, Any]
    """Without the body and the integration_id; members may be OMIT or null."""
    body: dict[str, Any]
    code: str | None
    """Why it is refused whatever the session, if it is."""
    ignored_fields: int = 0


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A partial update: some of the fields, present, empty or null."""
    fields = draw(st.lists(st.sampled_from(sorted(BODY_FIELDS)), max_size=3, unique=True))
    return {name: draw(_VALUES[name]) for name in fields} | {"state": draw(_STATES)}


@st.composite
def updates(draw: st.DrawFn, *, may_be_faulty: bool = True) -> Sent:
    """An update of one of SESSIONS, mostly valid. `may_be_faulty`: also malformed, invalid, or over LIMITS."""
    session, body = draw(st.sampled_from(SESSIONS)), draw(bodies())
    envelope = {
        "event_id": draw(_EVENT_IDS),
        "application_id": draw(_APPLICATIONS),
        "occurred_at": draw(st.sampled_from(MOMENTS)),
        "sequence": draw(_SEQUENCES),
    }
    codes: list[tuple[str, dict[str, Any]]] = []
    if may_be_faulty and draw(st.integers(0, 3)) == 0:
        for name in draw(st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=2)):
            code, in_body, in_envelope = FAULTS[name]
            # The second fault may replace the first one, if it is of the same field.
            codes = [other for other in codes if not other[1].keys() & in_body.keys()] + [(code, in_body)]
            body |= in_body
            envelope |= in_envelope
    refused_for = min((code for code, _ in codes), key=CHECKED_FIRST.index, default=None)
    style = draw(st.sampled_from(["snake", "snake", "snake", "camel", "noisy snake", "noisy camel"]))
    ignored = len(IGNORED_IN_BODY | IGNORED_IN_ENVELOPE) if style.startswith("noisy") else 0
    return Sent(spelled(style, session, envelope, body), session, envelope, body, refused_for, ignored)


def spelled(style: str, session: str, envelope: dict[str, Any], body: dict[str, Any]) -> bytes:
    """The update as a record's value: snake or camel, with noise or without."""
    event = {"integration_id": session, **envelope, "customer_session": body}
    if style.startswith("noisy"):
        event = {**IGNORED_IN_ENVELOPE, **event, "customer_session": IGNORED_IN_BODY | body}
    return written(_camel(event) if style.endswith("camel") else event)


def rewritten(sent: Sent, **envelope: Any) -> Sent:
    """The update with other members in its envelope, in snake_case and without noise."""
    members = sent.envelope | envelope
    value = spelled("snake", sent.session, members, sent.body)
    return sent._replace(value=value, envelope=members, ignored_fields=0)


def _camel(members: dict[str, Any]) -> dict[str, Any]:
    """The event or body with its own fields in camelCase; a field already there in both spellings stays so."""
    renamed: dict[str, Any] = {}
    for name, value in members.items():
        camel = re.sub("_(.)", lambda letter: letter[1].upper(), name)
        renamed[name if camel in members else camel] = _camel(value) if name == "customer_session" else value
    return renamed
