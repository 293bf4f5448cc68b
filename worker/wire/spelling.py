"""Both spellings of our fields: snake_case, and the vendor's camelCase (session semantics, section 1)."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

OutputCase: TypeAlias = Literal["snake", "camel"]

ENVELOPE_FIELDS: Final = (
    "event_id",
    "integration_id",
    "application_id",
    "occurred_at",
    "sequence",
    "customer_session",
)
BODY_FIELDS: Final = (
    "profile_id",
    "coupon_codes",
    "referral_code",
    "state",
    "cart_items",
    "additional_costs",
    "identifiers",
    "attributes",
)
ITEM_FIELDS: Final = (
    "name",
    "sku",
    "quantity",
    "price",
    "category",
    "weight",
    "height",
    "width",
    "length",
    "attributes",
    "adjustment",
    "position",
)
COST_FIELDS: Final = ("price",)


def camel(name: str) -> str:
    """`cart_items` → `cartItems`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def spellings(fields: tuple[str, ...]) -> dict[str, str]:
    """Every accepted spelling → the field's snake_case name."""
    return {name: name for name in fields} | {camel(name): name for name in fields}
