"""A second reading of the session semantics, for the tests to hold the worker against: plain dicts, fractions,
and sentences of the reference turned into ifs. It shares no code with `worker.session` or `worker.wire`.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final, NamedTuple

from tests.session.events import Sent
from tests.session.play import OMIT, RECORD_TIME, Number

APPLIES: Final = {("open", "open"), ("open", "closed"), ("open", "cancelled"), ("closed", "cancelled")}
"""Moves that may change something (section 5)."""

TYPES: Final = {
    (None, "open"): "session_created",
    ("open", "open"): "session_updated",
    ("open", "closed"): "session_closed",
    ("open", "cancelled"): "session_cancelled",
    ("closed", "cancelled"): "session_revoked",
}


class Expected(NamedTuple):
    """What must become of an update."""

    verdict: str
    """A code, a type, unchanged or duplicate."""
    record: dict[str, Any]
    """The enriched record; empty unless the update is accepted."""


class Reference:
    """Sessions and claims of one partition."""

    def __init__(self, window: int) -> None:
        self._window = window
        self.entities: dict[str, dict[str, Any]] = {}
        self.revisions: dict[str, int] = {}
        self.sequences: dict[str, int] = {}
        self.remembered: dict[str, list[tuple[str, bytes]]] = {}
        self.owners: dict[str, str] = {}

    def judge(self, sent: Sent) -> Expected:
        """Takes an update, in the order of the checks."""
        told = {name: value for name, value in sent.envelope.items() if value is not OMIT and value is not None}
        asked = {name: value for name, value in sent.body.items() if value is not OMIT and value is not None}
        session, stored = sent.session, self.entities.get(sent.session)
        if sent.code:
            return Expected(sent.code, {})
        if stored is not None:
            for event_id, value in self.remembered[session]:
                if event_id == told.get("event_id"):
                    return Expected("duplicate" if value == sent.value else "event_id_conflict", {})
            if session in self.sequences and told.get("sequence", 10**9) <= self.sequences[session]:
                return Expected("stale", {})
            if number(told.get("application_id")) not in (None, stored["application_id"]):
                return Expected("application_mismatch", {})
        elif "application_id" not in told:
            return Expected("schema_invalid", {})
        elif asked.get("state", "open") != "open":
            return Expected("must_start_open", {})

        at = moment(told.get("occurred_at"))
        before = stored or new_entity(session, at, told["application_id"])
        state = asked.get("state", before["state"])
        move = (before["state"], state)
        if before["state"] != state and move not in APPLIES:
            return Expected("invalid_transition", {})
        after = before if move == ("closed", "cancelled") else self._merged(before, asked)
        if stored is not None and move[0] == move[1]:
            if after == before:
                self._remember(sent, told)
                return Expected("unchanged", {})
            if move not in APPLIES:
                return Expected(f"session_{state}", {})

        after = {**after, "state": state}
        if after["profile_id"]:
            self.owners.setdefault(after["profile_id"], session)
        self.entities[session] = after
        self.revisions[session] = self.revisions.get(session, 0) + 1
        self._remember(sent, told)
        kind = TYPES[None if stored is None else before["state"], state]
        record = {
            "type": kind,
            "revision": number(self.revisions[session]),
            "event_id": told.get("event_id"),
            "integration_id": session,
            "application_id": after["application_id"],
            "occurred_at": at,
            "customer_session": after,
        }
        return Expected(kind, record)

    def _remember(self, sent: Sent, told: dict[str, Any]) -> None:
        events = self.remembered.setdefault(sent.session, [])
        if "event_id" in told:
            events.append((told["event_id"], sent.value))
            del events[: -self._window]
        if "sequence" in told:
            self.sequences[sent.session] = told["sequence"]

    def _merged(self, before: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        """The entity with the body's fields merged in, but for its state."""
        after = deepcopy(before)
        if asked.get("profile_id") and asked["profile_id"] != before["profile_id"]:
            after["profile_id"] = asked["profile_id"]
            owner = self.owners.get(asked["profile_id"], before["integration_id"])
            after["first_session"] = owner == before["integration_id"]
        if "coupon_codes" in asked:
            after["coupon_codes"] = [code for code in asked["coupon_codes"] if code]
        for name in ("referral_code", "identifiers"):
            after[name] = asked.get(name, before[name])
        if "cart_items" in asked:
            after["cart_items"] = [
                canonical({**item, "position": number(index)}) for index, item in enumerate(asked["cart_items"])
            ]
        if "additional_costs" in asked:
            after["additional_costs"] = canonical(asked["additional_costs"])
        for name, value in asked.get("attributes", {}).items():
            after["attributes"].pop(name, None)
            if value is not None:
                after["attributes"][name] = canonical(value)
        cart = sum((exact(item["price"]) * exact(item["quantity"]) for item in after["cart_items"]), Fraction(0))
        costs = sum((exact(cost["price"]) for cost in after["additional_costs"].values()), Fraction(0))
        for name, value in (("cart_item", cart), ("additional_cost", costs)):
            after[f"{name}_total"] = Number(in_digits(value))
        after["total"] = Number(in_digits(cart + costs))
        return after


def new_entity(session: str, at: str, application_id: int) -> dict[str, Any]:
    """What a session is before its first update."""
    return {
        "integration_id": session,
        "created": at,
        "application_id": number(application_id),
        "profile_id": "",
        "coupon_codes": [],
        "referral_code": "",
        "state": "open",
        "cart_items": [],
        "additional_costs": {},
        "identifiers": [],
        "attributes": {},
        "first_session": True,
        "cart_item_total": Number("0"),
        "additional_cost_total": Number("0"),
        "total": Number("0"),
    }


def moment(told: str | None) -> str:
    """In UTC with six digits; the record's own when none is told."""
    if told is None:
        return RECORD_TIME
    at = datetime.fromisoformat(told).astimezone(UTC)  # cuts digits beyond microseconds
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def number(integer: int | None) -> Number | None:
    return None if integer is None else Number(str(integer))


def exact(written: Number) -> Fraction:
    """The value of a number, also of one in quotes."""
    return Fraction(written.text.strip('"'))


def in_digits(value: Fraction) -> str:
    """Canonical text of a number of at most 20 fractional digits."""
    scaled = abs(value) * 10**20
    assert scaled.denominator == 1
    digits = str(scaled.numerator).zfill(21)
    text = f"{digits[:-20]}.{digits[-20:]}".rstrip("0").rstrip(".")
    return f"-{text}" if value < 0 else text


def canonical(value: Any) -> Any:
    """A JSON value with all its numbers in digits."""
    match value:
        case Number():
            return Number(in_digits(exact(value)))
        case dict():
            return {name: canonical(part) for name, part in value.items()}
        case list():
            return [canonical(part) for part in value]
        case _:
            return value
