"""What the rules speak about: an update, a stored session, the limits. Plain values, nothing here acts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

State: TypeAlias = Literal["open", "closed", "cancelled"]

EventType: TypeAlias = Literal[
    "session_created", "session_updated", "session_closed", "session_cancelled", "session_revoked"
]

Json: TypeAlias = bytes
"""Canonical JSON text in UTF-8: no blanks, members of maps sorted by name, numbers as `Number`. Two values
are the same content if and only if their texts are the same bytes, so a part of a session that does not
change is neither decoded nor encoded again."""

Number: TypeAlias = str
"""A canonical decimal number as text: no exponent, no trailing zeros, no -0 (`30`, `119.99`, `0`)."""

Timestamp: TypeAlias = str
"""RFC 3339 in UTC, `Z`, always six fractional digits: `2026-11-22T10:15:30.100000Z`."""


class Cart(Struct, frozen=True, gc=False):
    """The cart items of an update. `prices` and `quantities` are columns of the items in `text`."""

    text: Json
    """Array of objects with their `position` set; absent optional members stay absent."""
    prices: Sequence[Number]
    quantities: Sequence[int]


class AdditionalCosts(Struct, frozen=True, gc=False):
    """The additional costs of an update: a map from name to {price}."""

    text: Json
    prices: Sequence[Number]


class Update(Struct, frozen=True, gc=False):
    """One session update event that is well-formed: types, required fields and bounds on numbers hold.

    Not yet checked: the limits, and everything that depends on the stored session. None means omitted or
    null, which for every field is the same.
    """

    integration_id: str
    event_id: str | None
    application_id: int | None
    occurred_at: Timestamp
    sequence: int | None
    profile_id: str | None = None
    coupon_codes: list[str] | None = None
    referral_code: str | None = None
    state: State | None = None
    cart: Cart | None = None
    additional_costs: AdditionalCosts | None = None
    identifiers: list[str] | None = None
    attributes: Json | None = None
    """An object; a member set to null asks for its removal."""
    body_digest: bytes = b""
    """Stands for the event's value bytes, to tell a retry from another event with the same event_id.
    Empty when there is no event_id."""
    ignored_fields: int = 0
    """Members of the event that are not ours to take: unknown, or owned by the worker."""


class Content(Struct, frozen=True, array_like=True, gc=False):
    """The caller's part of a session. Equal values are the same content.

    The order of the fields is the format of a stored row, see `Session`.
    """

    profile_id: str
    coupon_codes: list[str]
    referral_code: str
    cart_items: Json
    additional_costs: Json
    identifiers: list[str]
    attributes: Json


class Session(Struct, frozen=True, array_like=True, gc=False):
    """A session as stored: the 15 fields of the entity (session semantics, section 3), then bookkeeping.

    The order of the fields is the format of a stored row: append only, and raise the row's version.
    """

    integration_id: str
    created: Timestamp
    application_id: int
    state: State
    content: Content
    first_session: bool
    cart_item_total: Number
    additional_cost_total: Number
    total: Number
    revision: int
    """1, 2, 3 … one more with each accepted update."""
    sequence: int | None
    """The last one applied; None before the first update that carries one."""
    recent_events: dict[str, bytes]
    """event_id → body digest of the last accepted or unchanged events, oldest first. Never changed in place."""


class Limits(Struct, frozen=True, gc=False):
    """The limits of session semantics, section 3, and the window of section 5. Lengths are in characters."""

    allow_negative_prices: bool = False
    cart_items: int = 1000
    cart_quantity: int = 10_000
    """Sum of the quantities of one cart."""
    identifiers: int = 5
    coupon_code_length: int = 100
    referral_code_length: int = 100
    integration_id_length: int = 1000
    """Also the longest profile_id: it is the same kind of name, the caller's own."""
    event_id_length: int = 255
    duplicate_window: int = 32
    """How many event_ids a session remembers; 0 = none, every event is judged as new."""
