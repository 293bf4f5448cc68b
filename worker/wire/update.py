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

from worker.session.model import AdditionalCosts, Cart, Json, Number, Update
from worker.session.rejections import Rejected
from worker.wire import careful, document, timestamps
from worker.wire.spelling import in_camel_case

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


_CamelBody: Final = in_camel_case(_Body)
_CamelEvent: Final = in_camel_case(_Event, {_Body: _CamelBody})

_SNAKE: Final = msgspec.json.Decoder(_Event, float_hook=document.free_number)
_CAMEL: Final = msgspec.json.Decoder(_CamelEvent, float_hook=document.free_number)
_MEASURES: Final = ("weight", "height", "width", "length")
_NO_COSTS: Final[dict[str, _Cost]] = {}
_TELLING: Final = b'"customer_session"'
_TELLING_WITHIN_BYTES: Final = 512
"""The spelling shows at the body's name, near the start. A wrong guess costs time, nothing else."""

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")

_AMOUNT: Final = r"(?:0|[1-9][0-9]{0,14}+)(?:\.[0-9]{1,20}+)?+"
_AMOUNTS: Final = re.compile(rf'(?:(?:{_AMOUNT}|"{_AMOUNT}")(?:,|$))++').fullmatch
"""Numbers joined by commas, within bounds and not negative, perhaps in quotes or with trailing zeros. Nothing in it
ever needs to be tried another way, and the + after each repetition says so: that halves its time."""


def decode(
    value: bytes | None, key: bytes | None, timestamp_ms: int, *, may_be_negative: bool = False
) -> Update | Rejected:
    """Reads one record. Never raises, whatever the bytes.

    `timestamp_ms` is the record's, for events without occurred_at. `may_be_negative` is the setting that
    allows negative prices.
    """
    if value is None:
        return Rejected("malformed", "The record has no value (a tombstone)")
    # 1. As nearly all producers write it: spelled one way, nothing unknown.
    snake = value.find(_TELLING, 0, _TELLING_WITHIN_BYTES) >= 0
    update = _plain(value, _SNAKE if snake else _CAMEL, value, key, timestamp_ms)
    if update is not None:
        return update
    try:
        # 2. The same once it is spelled one way, without what is to be ignored.
        event = careful.Event(value)
        if not event.is_tidy:
            update = _plain(event.tidied(), _SNAKE, value, key, timestamp_ms, event.ignored_fields)
        # 3. Field by field.
        return update or careful.read(event, value, key, timestamp_ms, may_be_negative=may_be_negative)
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


def _plain(
    text: bytes,
    decoder: msgspec.json.Decoder[_Event],
    value: bytes,
    key: bytes | None,
    timestamp_ms: int,
    ignored_fields: int = 0,
) -> Update | None:
    """The update in `text`, when it is valid beyond doubt; `value` is what the producer sent."""
    try:
        event = decoder.decode(text)
        return _update(event, value, key, timestamp_ms, ignored_fields)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _update(event: _Event, value: bytes, key: bytes | None, timestamp_ms: int, ignored_fields: int) -> Update | None:
    """What the types alone do not hold: the key, the moment, numbers, and depth."""
    if key is not None and key != event.integration_id.encode():
        return None
    written = event.occurred_at
    occurred_at = timestamps.from_milliseconds(timestamp_ms) if written is None else timestamps.from_text(written)
    if occurred_at is None:
        return None
    body = event.customer_session
    items, costs = body.cart_items, body.additional_costs
    prices = _settle_prices([*(items or ()), *(costs or _NO_COSTS).values()])
    if prices is None:
        return None
    cart = additional_costs = attributes = None
    if items is not None:
        text = _cart_text(items, value)
        if text is None:
            return None
        cart = Cart(text, prices[: len(items)], [item.quantity for item in items])
    if costs is not None:
        additional_costs = AdditionalCosts(_ENCODER.encode(costs), prices[-len(costs) :] if costs else [])
    if body.attributes is not None:
        if body.attributes and not _is_within_bounds(body.attributes, value):
            return None
        attributes = _ENCODER.encode(body.attributes)
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
        additional_costs,
        body.identifiers,
        attributes,
        b"" if event.event_id is None else careful.body_digest(value),
        ignored_fields,
    )


def _settle_prices(priced: Sequence[_Item | _Cost]) -> list[Number] | None:
    """All prices of the event in canonical form, there and in the result. None when one needs a closer look."""
    if not priced:
        return []
    joined = b",".join([one.price for one in priced]).decode()
    if _AMOUNTS(joined) is None:
        return None
    if not _may_be_padded(joined):
        return joined.split(",")
    prices = _without_padding(joined)
    for one, price in zip(priced, prices, strict=True):
        one.price = Raw(price)
    return prices


def _settle_measures(items: list[_Item]) -> bool:
    """Brings the measures of all items into canonical form. False when one needs a closer look."""
    places = [(item, name) for item in items for name in _MEASURES if getattr(item, name) is not UNSET]
    if not places:
        return True
    joined = b",".join([getattr(item, name) for item, name in places]).decode()
    if _AMOUNTS(joined) is None:
        return False
    if _may_be_padded(joined):
        for (item, name), measure in zip(places, _without_padding(joined), strict=True):
            setattr(item, name, Raw(measure))
    return True


def _may_be_padded(joined: str) -> bool:
    """False: all these amounts are in canonical form."""
    return '"' in joined or "0," in joined or joined.endswith("0")


def _without_padding(joined: str) -> list[Number]:
    """Amounts without their quotes and trailing zeros."""
    amounts = joined.replace('"', "").split(",")
    return [text.rstrip("0").rstrip(".") if text.endswith("0") and "." in text else text for text in amounts]


def _cart_text(items: list[_Item], value: bytes) -> Json | None:
    """The items with their positions. None when a number in them needs a closer look."""
    rich = []
    for position, item in enumerate(items):
        item.position = position
        if not (item.weight is item.height is item.width is item.length is item.attributes is item.adjustment is UNSET):
            rich.append(item)
    if rich:
        if not _settle_measures(rich):
            return None
        free = [free for item in rich for free in (item.attributes, item.adjustment) if free is not UNSET]
        if free and not _is_within_bounds(free, value):
            return None
    return _ENCODER.encode(items)


def _is_within_bounds(free: object, value: bytes) -> bool:
    """Whether objects of the caller's own keep the bounds on integers, and the event the bound on depth."""
    return not document.nests_too_deep(value) and document.fits_64_bits(free)
