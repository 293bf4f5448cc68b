"""An update read slowly and in full: the authority on what a producer may send (session semantics, sections
1 and 3). `worker.wire.update` has a fast path for what most producers send; where the two could differ, this
one is right, and a property test holds them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Raw

from worker.session.model import AdditionalCosts, Cart, Json, State, Update
from worker.session.rejections import Path
from worker.wire import document, spelling, timestamps
from worker.wire.document import Invalid

_ENVELOPE: Final = spelling.spellings(spelling.ENVELOPE_FIELDS)
_BODY: Final = spelling.spellings(spelling.BODY_FIELDS)
_ITEM: Final = spelling.spellings(spelling.ITEM_FIELDS)
_COST: Final = spelling.spellings(spelling.COST_FIELDS)
_STATES: Final[dict[str, State]] = {"open": "open", "closed": "closed", "cancelled": "cancelled"}
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def read(value: bytes, key: bytes | None, timestamp_ms: int, *, may_be_negative: bool) -> Update:
    """The update in a record's value. Raises Invalid: what makes an event malformed first, then the faults
    against the schema in the order of the fields."""
    event = _Members(document.open_document(value), _ENVELOPE, ())
    raw_body = event.optional("customer_session")
    has_body = raw_body is not None and document.kind(raw_body) == "object"
    body = _Members(document.members(raw_body, ()) if has_body and raw_body else {}, _BODY, ("customer_session",))
    _check_key(event.optional("integration_id"), key)

    integration_id = event.string("integration_id", may_be_empty=False)
    if integration_id is None:
        raise Invalid("schema_invalid", "integration_id is required", ("integration_id",))
    event_id = event.string("event_id", may_be_empty=False)
    application_id = event.integer("application_id", minimum=-(2**63))
    occurred_at = _occurred_at(event.string("occurred_at"), timestamp_ms)
    sequence = event.integer("sequence", minimum=0)
    if raw_body is None:
        raise Invalid("schema_invalid", "customer_session is required", ("customer_session",))
    document.members(raw_body, ("customer_session",))

    counter = _Counter(event.ignored + body.ignored)
    return Update(
        integration_id=integration_id,
        event_id=event_id,
        application_id=application_id,
        occurred_at=occurred_at,
        sequence=sequence,
        profile_id=body.string("profile_id"),
        coupon_codes=body.strings("coupon_codes"),
        referral_code=body.string("referral_code"),
        state=_state(body.string("state")),
        cart=_cart(body, counter, may_be_negative),
        additional_costs=_costs(body, counter, may_be_negative),
        identifiers=body.strings("identifiers"),
        attributes=body.canonical_object("attributes"),
        body_digest=b"" if event_id is None else body_digest(value),
        ignored_fields=counter.ignored,
    )


def integration_id(value: bytes | None) -> bytes | None:
    """The integration_id of an event that may be wrong in other ways, in UTF-8; None when it has none."""
    try:
        event = _Members(document.open_document(value or b""), _ENVELOPE, ())
        name = event.string("integration_id")
    except Invalid:
        return None
    return None if name is None else name.encode()


def body_digest(value: bytes) -> bytes:
    """64 bits that stand for an event's bytes. It tells two events with one event_id apart, within a window
    of tens of events of one session, so 64 bits are plenty."""
    return blake2b(value, digest_size=8).digest()


class _Counter:
    def __init__(self, ignored: int) -> None:
        self.ignored = ignored


class _Members:
    """The members of an object that are ours, under their snake_case names, and a count of the others."""

    def __init__(self, members: Mapping[str, Raw], fields: Mapping[str, str], path: Path) -> None:
        self.path = path
        self.ignored = 0
        self._ours: dict[str, Raw] = {}
        for spelled, raw in members.items():
            name = fields.get(spelled)
            if name is None:
                self.ignored += 1
            elif name in self._ours and not document.same_value(self._ours[name], raw):
                message = f"{name} is there in both spellings, with different values"
                raise Invalid("malformed", message, (*path, name))
            else:
                self._ours[name] = raw

    def at(self, name: str) -> Path:
        return (*self.path, name)

    def optional(self, name: str) -> Raw | None:
        """The member, None when it is absent or null."""
        raw = self._ours.get(name)
        return None if raw is None or document.kind(raw) == "null" else raw

    def present(self, name: str) -> Raw | None:
        """The member even when it is null, None when it is absent."""
        return self._ours.get(name)

    def required(self, name: str) -> Raw:
        raw = self._ours.get(name)
        if raw is None:
            raise Invalid("schema_invalid", f"{name} is required", self.at(name))
        return raw

    def string(self, name: str, *, may_be_empty: bool = True) -> str | None:
        raw = self.optional(name)
        return None if raw is None else document.string(raw, self.at(name), may_be_empty=may_be_empty)

    def strings(self, name: str) -> list[str] | None:
        raw = self.optional(name)
        if raw is None:
            return None
        path = self.at(name)
        return [document.string(entry, (*path, index)) for index, entry in enumerate(document.entries(raw, path))]

    def integer(self, name: str, minimum: int) -> int | None:
        raw = self.optional(name)
        return None if raw is None else document.integer(raw, self.at(name), minimum)

    def canonical_object(self, name: str) -> Json | None:
        raw = self.optional(name)
        return None if raw is None else document.canonical_object(raw, self.at(name))


def _check_key(integration_id: Raw | None, key: bytes | None) -> None:
    """A record with a key names the same session in the key and in the body."""
    if key is None or integration_id is None or document.kind(integration_id) != "string":
        return
    if document.string(integration_id, ()).encode() != key:
        raise Invalid("malformed", "integration_id is not the record's key", ("integration_id",))


def _occurred_at(text: str | None, timestamp_ms: int) -> str:
    if text is None:
        moment = timestamps.from_milliseconds(timestamp_ms)
        problem = "occurred_at is required, as the record has no usable timestamp"
    else:
        moment = timestamps.from_text(text)
        problem = "occurred_at must be a date and time with an offset, as RFC 3339 has it: 2026-11-22T10:15:30.1Z"
    if moment is None:
        raise Invalid("schema_invalid", problem, ("occurred_at",))
    return moment


def _state(text: str | None) -> State | None:
    if text is None:
        return None
    if text not in _STATES:
        raise Invalid("schema_invalid", "state must be open, closed or cancelled", ("customer_session", "state"))
    return _STATES[text]


def _cart(body: _Members, counter: _Counter, may_be_negative: bool) -> Cart | None:
    raw, path = body.optional("cart_items"), body.at("cart_items")
    if raw is None:
        return None
    items: list[dict[str, object]] = []
    prices: list[str] = []
    quantities: list[int] = []
    for position, entry in enumerate(document.entries(raw, path)):
        item = _Members(document.members(entry, (*path, position)), _ITEM, (*path, position))
        counter.ignored += item.ignored
        name = document.string(item.required("name"), item.at("name"), may_be_empty=False)
        sku = document.string(item.required("sku"), item.at("sku"), may_be_empty=False)
        quantities.append(document.integer(item.required("quantity"), item.at("quantity"), minimum=1))
        prices.append(document.amount(item.required("price"), item.at("price"), may_be_negative=may_be_negative))
        read: dict[str, object] = {"name": name, "sku": sku, "quantity": quantities[-1], "price": Raw(prices[-1])}
        if (category := item.present("category")) is not None:
            read["category"] = document.string(category, item.at("category"))
        for measure in ("weight", "height", "width", "length"):
            if (number := item.present(measure)) is not None:
                read[measure] = Raw(document.amount(number, item.at(measure), may_be_negative=True))
        for free in ("attributes", "adjustment"):
            if (value := item.present(free)) is not None:
                read[free] = Raw(document.canonical_object(value, item.at(free)))
        read["position"] = position
        items.append(read)
    return Cart(_ordered(items), prices, quantities)


def _ordered(items: list[dict[str, object]]) -> Json:
    """Items with their members in the order they were put in: that of the entity, not of the alphabet."""
    return msgspec.json.encode(items)


def _costs(body: _Members, counter: _Counter, may_be_negative: bool) -> AdditionalCosts | None:
    raw, path = body.optional("additional_costs"), body.at("additional_costs")
    if raw is None:
        return None
    costs: dict[str, dict[str, Raw]] = {}
    prices: list[str] = []
    for name, entry in document.members(raw, path).items():
        cost = _Members(document.members(entry, (*path, name)), _COST, (*path, name))
        counter.ignored += cost.ignored
        prices.append(document.amount(cost.required("price"), cost.at("price"), may_be_negative=may_be_negative))
        costs[name] = {"price": Raw(prices[-1])}
    return AdditionalCosts(_ENCODER.encode(costs), prices)
