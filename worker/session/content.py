"""How an update changes what callers set in a session (session semantics, section 3, the table of partial
updates). Nothing here knows of states, revisions or totals."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from worker.session.model import Content, Json, Update

_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_CANONICAL: Final = msgspec.json.Encoder(order="deterministic")


EMPTY: Final = Content("", [], "", b"[]", b"{}", [], b"{}")
"""What a session holds before its first update."""


def merged(content: Content, update: Update) -> Content:
    """The content after the update. What the update leaves out stays; lists and maps of costs are replaced;
    attributes are merged one level deep; an empty profile_id asks for nothing."""
    return Content(
        update.profile_id or content.profile_id,
        content.coupon_codes if update.coupon_codes is None else [code for code in update.coupon_codes if code],
        content.referral_code if update.referral_code is None else update.referral_code,
        content.cart_items if update.cart is None else update.cart.text,
        content.additional_costs if update.additional_costs is None else update.additional_costs.text,
        content.identifiers if update.identifiers is None else update.identifiers,
        content.attributes if update.attributes is None else _merged_attributes(content.attributes, update.attributes),
    )


def first_difference(one: Content, other: Content) -> str | None:
    """The name of the first field in which they differ; None for the same content."""
    names = Content.__struct_fields__
    return next((name for name in names if getattr(one, name) != getattr(other, name)), None)


def _merged_attributes(stored: Json, changes: Json) -> Json:
    if changes == b"{}":
        return stored
    if stored == b"{}" and b"null" not in changes:
        return changes
    members = _MEMBERS.decode(stored) | _MEMBERS.decode(changes)
    return _CANONICAL.encode({name: value for name, value in members.items() if bytes(value) != b"null"})
