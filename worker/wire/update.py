"""The value of an input record → an Update, or the reason why it is none (session semantics, sections 1, 3).

Most events are valid and spelled one way throughout: they are read by typed decoders that do all checks in one
pass. Whatever those do not like goes to `worker.wire.careful`, which decides, and finds the reason and its place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from worker.session import canonical
from worker.session.model import AdditionalCosts, Cart, Number, Update
from worker.session.rejections import Rejected
from worker.wire import careful, document, timestamps

_Text = Annotated[str, Meta(min_length=1)]
_Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_FreeObject = dict[str, Any] | UnsetType


class _Item(Struct, forbid_unknown_fields=True, gc=False):
    """One cart item. Numbers stay as they are spelled; the order of the fields is that of the output."""

    name: _Text
    sku: _Text
    quantity: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    price: Raw
    category: str | UnsetType = UNSET
    weight: Raw | UnsetType = UNSET
    height: Raw | UnsetType = UNSET
    width: Raw | UnsetType = UNSET
    length: Raw | UnsetType = UNSET
    attributes: _FreeObject = UNSET
    adjustment: _FreeObject = UNSET
    position: int | UnsetType = UNSET


class _Cost(Struct, forbid_unknown_fields=True, gc=False):
    price: Raw


class _Body(Struct, forbid_unknown_fields=True, gc=False):
    profile_id: str | None = None
    coupon_codes: list[str] | None = None
    referral_code: str | None = None
    state: Literal["open", "closed", "cancelled"] | None = None
    cart_items: list[_Item] | None = None
    additional_costs: dict[str, _Cost] | None = None
    identifiers: list[str] | None = None
    attributes: dict[str, Any] | None = None


class _Event(Struct, forbid_unknown_fields=True, gc=False):
    integration_id: _Text
    customer_session: _Body
    event_id: _Text | None = None
    application_id: _Integer | None = None
    occurred_at: str | None = None
    sequence: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


class _CamelBody(_Body, rename="camel"):
    pass


class _CamelEvent(_Event, rename="camel"):
    customer_session: _CamelBody


_SNAKE: Final = msgspec.json.Decoder(_Event, float_hook=document.free_number)
_CAMEL: Final = msgspec.json.Decoder(_CamelEvent, float_hook=document.free_number)
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")

_CANONICAL_AMOUNTS: Final = re.compile(r"(?:(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{0,19}[1-9])?(?:,|$))+").fullmatch
_PLAIN_AMOUNTS: Final = re.compile(r"(?:(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,20})?(?:,|$))+").fullmatch
"""Amounts within bounds and not negative, joined by commas: as we write them, and with trailing zeros."""


def decode(
    value: bytes | None, key: bytes | None, timestamp_ms: int, *, may_be_negative: bool = False
) -> Update | Rejected:
    """Reads one record. Never raises, whatever the bytes.

    `timestamp_ms` is the record's, for events without occurred_at. `may_be_negative` is the setting that
    allows negative prices.
    """
    if value is None:
        return Rejected("malformed", "The record has no value (a tombstone)")
    try:
        update = _decode_plain(value, key, timestamp_ms)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        update = None
    if update is not None:
        return update
    try:
        return careful.read(value, key, timestamp_ms, may_be_negative=may_be_negative)
    except document.Invalid as problem:
        return Rejected(problem.code, problem.message, problem.path)


def key_spoken_of(value: bytes | None, key: bytes | None) -> bytes | None:
    """The key of the session that a refused record speaks of, as far as one can tell: the record's own if it
    can be an id, else the integration_id in the value."""
    if key is None:
        return careful.integration_id(value)
    try:
        key.decode()
    except UnicodeDecodeError:
        return None
    return key


def _decode_plain(value: bytes, key: bytes | None, timestamp_ms: int) -> Update | None:
    """The update, when it is valid beyond doubt. None or an error of the decoder: look more carefully."""
    event = (_CAMEL if b'"customerSession"' in value else _SNAKE).decode(value)
    body = event.customer_session
    if key is not None and key != event.integration_id.encode():
        return None
    written = event.occurred_at
    occurred_at = timestamps.from_milliseconds(timestamp_ms) if written is None else timestamps.from_text(written)
    if occurred_at is None:
        return None

    cart = costs = attributes = None
    if body.cart_items is not None:
        cart = _cart(body.cart_items, value)
        if cart is None:
            return None
    if body.additional_costs is not None:
        costs = _costs(body.additional_costs)
        if costs is None:
            return None
    if body.attributes is not None:
        attributes = None if document.nests_too_deep(value) else document.canonical_text(body.attributes)
        if attributes is None:
            return None
    return Update(
        event.integration_id,
        event.event_id,
        event.application_id,
        occurred_at,
        event.sequence,
        body.profile_id,
        body.coupon_codes,
        body.referral_code,
        body.state,
        cart,
        costs,
        body.identifiers,
        attributes,
        b"" if event.event_id is None else careful.body_digest(value),
    )


def _cart(items: list[_Item], value: bytes) -> Cart | None:
    if not items:
        return Cart(b"[]", (), ())
    prices = _settle_prices(items)
    if prices is None:
        return None
    has_free_objects = False
    for position, item in enumerate(items):
        item.position = position
        if not (item.weight is item.height is item.width is item.length is UNSET) and not _settle_measures(item):
            return None
        if not (item.attributes is item.adjustment is UNSET):
            has_free_objects = True
    if has_free_objects:
        text = None if document.nests_too_deep(value) else document.canonical_text(items)
        if text is None:
            return None
    else:
        text = _ENCODER.encode(items)
    return Cart(text, prices, [item.quantity for item in items])


def _costs(costs: dict[str, _Cost]) -> AdditionalCosts | None:
    if not costs:
        return AdditionalCosts(b"{}", ())
    prices = _settle_prices(list(costs.values()))
    return None if prices is None else AdditionalCosts(_ENCODER.encode(costs), prices)


def _settle_prices(priced: Sequence[_Item | _Cost]) -> list[Number] | None:
    """The prices, in canonical form there and in the result. None when one needs a closer look."""
    joined = b",".join([one.price for one in priced]).decode()
    if _CANONICAL_AMOUNTS(joined) is not None:
        return joined.split(",")
    if _PLAIN_AMOUNTS(joined) is None:
        return None
    prices = [text.rstrip("0").rstrip(".") if "." in text else text for text in joined.split(",")]
    for one, price in zip(priced, prices, strict=True):
        one.price = Raw(price)
    return prices


def _settle_measures(item: _Item) -> bool:
    """Whether all measures of the item are numbers within bounds; they are in canonical form then."""
    for name in ("weight", "height", "width", "length"):
        measure = getattr(item, name)
        if measure is not UNSET:
            number = canonical.amount(bytes(measure).decode())
            if number is None:
                return False
            setattr(item, name, Raw(number))
    return True
