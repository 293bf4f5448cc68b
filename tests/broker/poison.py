"""Every way an update can be bad, as bytes, with the code the rules give it (session semantics, sections 1, 3, 5)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from worker.load.event import StreamEvent


class Poison(NamedTuple):
    """A record the worker must refuse. `before` are good updates of the same session that set the scene."""

    name: str
    code: str
    key: bytes | None
    value: bytes | None
    before: tuple[bytes, ...] = ()


ITEM = {"name": "Mug", "sku": "M-1", "quantity": 1, "price": 9.5}


def update(session: str, body: object | None = None, **envelope: Any) -> bytes:
    """A good update in compact JSON; `body` and `envelope` make it bad. An envelope field of None is left out."""
    fields = {"integration_id": session, "application_id": 7, **envelope}
    fields["customer_session"] = {} if body is None else body
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def _raw_bytes() -> Iterator[tuple[str, str, bytes | None]]:
    yield "tombstone", "malformed", None
    yield "empty value", "malformed", b""
    yield "blank value", "malformed", b"  \n"
    yield "invalid utf-8", "malformed", b'{"integration_id": "\xff\xfe"}'
    yield "not json", "malformed", b"integration_id=1"
    yield "truncated json", "malformed", b'{"integration_id": "a", "customer_session": {'
    yield "two documents", "malformed", b'{"integration_id": "a"} {}'
    yield "array", "malformed", b"[]"
    yield "string", "malformed", b'"order"'
    yield "number", "malformed", b"42"
    yield "json null", "malformed", b"null"
    yield "half a megabyte of noise", "malformed", b"\x00\x01\x02\x03" * 131_072
    yield "nearly as large as the topic takes", "malformed", b"x" * 1_000_000
    yield "100,000 open brackets", "malformed", b"[" * 100_000


def _bodies() -> Iterator[tuple[str, str, Any]]:
    def cart(**item: Any) -> dict[str, Any]:
        return {"cart_items": [{**ITEM, **item}]}

    yield "quantity 2.0", "schema_invalid", cart(quantity=2.0)
    yield "quantity true", "schema_invalid", cart(quantity=True)
    yield "quantity 0", "schema_invalid", cart(quantity=0)
    yield "quantity -1", "schema_invalid", cart(quantity=-1)
    yield "quantity as text", "schema_invalid", cart(quantity="2")
    yield "negative price", "schema_invalid", cart(price=-0.01)
    yield "price as words", "schema_invalid", cart(price="nine")
    yield "price null", "schema_invalid", cart(price=None)
    yield "empty name", "schema_invalid", cart(name="")
    yield "empty sku", "schema_invalid", cart(sku="")
    yield "item without sku", "schema_invalid", {"cart_items": [{"name": "Mug", "quantity": 1, "price": 1}]}
    yield "item is no object", "schema_invalid", {"cart_items": ["Mug"]}
    yield "cart is no list", "schema_invalid", {"cart_items": {"0": ITEM}}
    yield "16 integer digits", "schema_invalid", cart(price=1234567890123456)
    yield "unknown state", "schema_invalid", {"state": "paid"}
    yield "attributes as list", "schema_invalid", {"attributes": []}
    yield "cost without price", "schema_invalid", {"additional_costs": {"shipping": {}}}
    yield "cost price null", "schema_invalid", {"additional_costs": {"shipping": {"price": None}}}
    yield "coupon is a number", "schema_invalid", {"coupon_codes": [5]}
    yield "body is a list", "schema_invalid", []
    yield "1001 items", "limit_exceeded", {"cart_items": [ITEM] * 1001}
    yield "10,001 pieces", "limit_exceeded", cart(quantity=10_001)
    yield "6 identifiers", "limit_exceeded", {"identifiers": list("abcdef")}
    yield "coupon of 101", "limit_exceeded", {"coupon_codes": ["c" * 101]}
    yield "referral of 101", "limit_exceeded", {"referral_code": "r" * 101}
    yield "larger than an output may be", "limit_exceeded", {"attributes": {"blob": "x" * 999_000}}


def _envelopes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "no application", "schema_invalid", {"application_id": None}
    yield "application as text", "schema_invalid", {"application_id": "7"}
    yield "event id is a number", "schema_invalid", {"event_id": 7}
    yield "event id of 256", "limit_exceeded", {"event_id": "e" * 256}
    yield "negative sequence", "schema_invalid", {"sequence": -1}
    yield "date without offset", "schema_invalid", {"occurred_at": "2026-11-22T10:15:30"}
    yield "no date", "schema_invalid", {"occurred_at": "yesterday"}
    yield "spellings disagree", "malformed", {"eventId": "a", "event_id": "b"}


def poison_kinds() -> list[Poison]:
    """One of each; sessions are named after the kind, so no two meet."""
    kinds = [Poison(name, code, f"poison {name}".encode(), value) for name, code, value in _raw_bytes()]

    def add(name: str, code: str, value: bytes, *before: bytes, key: bytes | None = None) -> None:
        kinds.append(Poison(name, code, f"poison {name}".encode() if key is None else key, value, before))

    for name, code, body in _bodies():
        add(name, code, update(f"poison {name}", body))
    for name, code, envelope in _envelopes():
        add(name, code, update(f"poison {name}", {}, **envelope))

    add("another key than the body's", "malformed", update("someone else"))
    add("key is not utf-8", "malformed", update("x"), key=b"\xff\xfekey")
    for constant in ("NaN", "Infinity", "-Infinity"):
        name = f"price {constant}"
        add(name, "malformed", update(f"poison {name}", {"cart_items": [{**ITEM, "price": float(constant)}]}))
    for name, digits in (("21 fraction digits", "0." + "1" * 21), ("exponent of a billion", "1e999999999")):
        raw = update(f"poison {name}", {"cart_items": [{**ITEM, "price": 77}]}).replace(b"77", digits.encode())
        add(name, "schema_invalid", raw)
    name = "integration id of 1001"
    add(name, "limit_exceeded", update("i" * 1001), key=b"i" * 1001)

    def session(name: str, code: str, value: dict[str, Any], *before: dict[str, Any]) -> None:
        def document(fields: dict[str, Any]) -> bytes:
            body = {key: fields[key] for key in fields.keys() & {"state", "coupon_codes"}}
            return update(f"poison {name}", body, **{key: fields[key] for key in fields.keys() - body.keys()})

        add(name, code, document(value), *(document(fields) for fields in before))

    session("closed first", "must_start_open", {"state": "closed"})
    session("cancelled first", "must_start_open", {"state": "cancelled"})
    session("reopened", "invalid_transition", {"state": "open"}, {}, {"state": "closed"})
    session("closed after cancelled", "invalid_transition", {"state": "closed"}, {}, {"state": "cancelled"})
    session("changed when closed", "session_closed", {"coupon_codes": ["LATE"]}, {}, {"state": "closed"})
    session("changed when cancelled", "session_cancelled", {"coupon_codes": ["LATE"]}, {}, {"state": "cancelled"})
    session("another application", "application_mismatch", {"application_id": 8}, {})
    session("event id again", "event_id_conflict", {"event_id": "e1", "coupon_codes": ["B"]}, {"event_id": "e1"})
    session("late sequence", "stale", {"sequence": 4, "coupon_codes": ["B"]}, {"sequence": 4})
    return kinds


def as_events(poison: Poison, headers: tuple[tuple[str, bytes], ...] = ()) -> list[StreamEvent]:
    """The good updates first, then the bad one with `headers`."""
    good = [StreamEvent("good", poison.key, value, 0) for value in poison.before]
    return [*good, StreamEvent(poison.name, poison.key, poison.value, 0, headers)]
