"""An update read field by field: the authority on what a producer may send (session semantics, sections 1 and
3). `worker.wire.update` has a fast path for what most producers send; where the two could differ, this one is
right, and a property test holds them together.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

import msgspec
from msgspec import Raw

from worker.session.model import AdditionalCosts, Cart, State, Update
from worker.wire import document, spelling, timestamps
from worker.wire.document import Invalid
from worker.wire.members import Members

_ENVELOPE: Final = spelling.spellings(spelling.ENVELOPE_FIELDS)
_BODY: Final = spelling.spellings(spelling.BODY_FIELDS)
_ITEM: Final = spelling.spellings(spelling.ITEM_FIELDS)
_COST: Final = spelling.spellings(spelling.COST_FIELDS)
_BODY_NAME: Final = "customer_session"
_MEASURES: Final = ("weight", "height", "width", "length")
_FREE_OBJECTS: Final = ("attributes", "adjustment")
_STATES: Final[dict[str, State]] = {"open": "open", "closed": "closed", "cancelled": "cancelled"}


class Event:
    """An event opened down to the members of its body. Raises Invalid(malformed) for what cannot be opened."""

    def __init__(self, value: bytes) -> None:
        self.envelope = Members(document.open_document(value), _ENVELOPE, ())
        raw = self.envelope.optional(_BODY_NAME)
        self._has_body = raw is not None and document.kind(raw) == "object"
        self.body = Members(
            document.members(raw, ()) if raw is not None and self._has_body else {}, _BODY, (_BODY_NAME,)
        )
        self.ignored_fields = self.envelope.ignored + self.body.ignored
        """Not counting those of items and costs."""

    @property
    def is_tidy(self) -> bool:
        """Whether envelope and body are in snake_case and hold nothing to be ignored."""
        return not (self.ignored_fields or self.envelope.has_camel_case or self.body.has_camel_case)

    def tidied(self) -> bytes:
        """The event as a tidy producer would have written it; items and costs as they are."""
        return self.envelope.text(replacing={_BODY_NAME: self.body.text()} if self._has_body else {})


def read(event: Event, value: bytes, key: bytes | None, timestamp_ms: int, *, may_be_negative: bool) -> Update:
    """The update in an opened event, `value` its bytes. Raises Invalid: for a key that does not fit first, which
    makes it malformed, then for the first fault against the schema in the order of the fields."""
    envelope, body = event.envelope, event.body
    _check_key(envelope.optional("integration_id"), key)
    integration_id = envelope.string("integration_id", may_be_empty=False)
    if integration_id is None:
        raise Invalid("schema_invalid", "integration_id is required", envelope.at("integration_id"))
    event_id = envelope.string("event_id", may_be_empty=False)
    application_id = envelope.integer("application_id", minimum=-(2**63))
    occurred_at = _occurred_at(envelope.string("occurred_at"), timestamp_ms)
    sequence = envelope.integer("sequence", minimum=0)
    raw_body = envelope.optional(_BODY_NAME)
    if raw_body is None:
        raise Invalid("schema_invalid", f"{_BODY_NAME} is required", envelope.at(_BODY_NAME))
    document.members(raw_body, envelope.at(_BODY_NAME))
    ignored = _Tally(event.ignored_fields)
    return Update(
        integration_id=integration_id,
        event_id=event_id,
        application_id=application_id,
        occurred_at=occurred_at,
        sequence=sequence,
        profile_id=body.string("profile_id"),
        coupon_codes=body.strings("coupon_codes"),
        referral_code=body.string("referral_code"),
        state=_state(body),
        cart=_cart(body, ignored, may_be_negative),
        additional_costs=_costs(body, ignored, may_be_negative),
        identifiers=body.strings("identifiers"),
        attributes=body.canonical_object("attributes"),
        body_digest=b"" if event_id is None else body_digest(value),
        ignored_fields=ignored.count,
    )


def integration_id(value: bytes | None) -> bytes | None:
    """The integration_id of an event that may be wrong in other ways, in UTF-8; None when it has none."""
    try:
        name = Event(value or b"").envelope.string("integration_id")
    except Invalid:
        return None
    return None if name is None else name.encode()


def body_digest(value: bytes) -> bytes:
    """64 bits that stand for an event's bytes. It tells two events with one event_id apart, within a window
    of tens of events of one session, so 64 bits are plenty. Of the hashes at hand SHA-1 is the fastest, as
    processors have it built in."""
    return sha1(value).digest()[:8]


class _Tally:
    """A count that functions add to."""

    def __init__(self, count: int) -> None:
        self.count = count


def _check_key(raw: Raw | None, key: bytes | None) -> None:
    """A record with a key names the same session in the key and in the value."""
    if key is None or raw is None or document.kind(raw) != "string":
        return
    if document.string(raw, ()).encode() != key:
        raise Invalid("malformed", "integration_id is not the record's key", ("integration_id",))


def _occurred_at(text: str | None, timestamp_ms: int) -> str:
    if text is None:
        moment = timestamps.from_milliseconds(timestamp_ms)
        problem = "occurred_at is required, as the record has no usable timestamp"
    else:
        moment = timestamps.from_text(text)
        problem = "occurred_at must be a date and time with an offset, as in RFC 3339: 2026-11-22T10:15:30.1Z"
    if moment is None:
        raise Invalid("schema_invalid", problem, ("occurred_at",))
    return moment


def _state(body: Members) -> State | None:
    text = body.string("state")
    if text is None:
        return None
    if text not in _STATES:
        raise Invalid("schema_invalid", "state must be open, closed or cancelled", body.at("state"))
    return _STATES[text]


def _cart(body: Members, ignored: _Tally, may_be_negative: bool) -> Cart | None:
    raw, path = body.optional("cart_items"), body.at("cart_items")
    if raw is None:
        return None
    items: list[dict[str, object]] = []
    prices: list[str] = []
    quantities: list[int] = []
    for position, entry in enumerate(document.entries(raw, path)):
        item = Members(document.members(entry, (*path, position)), _ITEM, (*path, position))
        ignored.count += item.ignored
        # Written in this order: that of the entity.
        written: dict[str, object] = {
            "name": document.string(item.required("name"), item.at("name"), may_be_empty=False),
            "sku": document.string(item.required("sku"), item.at("sku"), may_be_empty=False),
        }
        quantities.append(document.integer(item.required("quantity"), item.at("quantity"), minimum=1))
        prices.append(document.amount(item.required("price"), item.at("price"), may_be_negative=may_be_negative))
        written |= {"quantity": quantities[-1], "price": Raw(prices[-1])}
        if (category := item.present("category")) is not None:
            written["category"] = document.string(category, item.at("category"))
        for name in _MEASURES:
            if (measure := item.present(name)) is not None:
                written[name] = Raw(document.amount(measure, item.at(name), may_be_negative=True))
        for name in _FREE_OBJECTS:
            if (free := item.present(name)) is not None:
                written[name] = Raw(document.canonical_object(free, item.at(name)))
        written["position"] = position
        items.append(written)
    return Cart(msgspec.json.encode(items), prices, quantities)


def _costs(body: Members, ignored: _Tally, may_be_negative: bool) -> AdditionalCosts | None:
    raw, path = body.optional("additional_costs"), body.at("additional_costs")
    if raw is None:
        return None
    costs: dict[str, dict[str, Raw]] = {}
    prices: list[str] = []
    for name, entry in document.members(raw, path).items():
        cost = Members(document.members(entry, (*path, name)), _COST, (*path, name))
        ignored.count += cost.ignored
        prices.append(document.amount(cost.required("price"), cost.at("price"), may_be_negative=may_be_negative))
        costs[name] = {"price": Raw(prices[-1])}
    return AdditionalCosts(msgspec.json.encode(costs, order="deterministic"), prices)
