"""Both spellings of our fields: snake_case, and the vendor's camelCase (session semantics, section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields as fields_of

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


_S = TypeVar("_S", bound=Struct)


def in_camel_case(struct: type[_S], parts: Mapping[Any, Any] | None = None) -> type[_S]:
    """The struct's twin, the same but for its field names on the wire. `parts` are the types of fields that
    have twins themselves. (msgspec's `rename` on a subclass leaves the inherited fields as they are.)"""
    config = struct.__struct_config__
    twins = parts or {}
    fields = [
        (field.name, twins.get(field.type, field.type))
        if field.default is NODEFAULT
        else (field.name, twins.get(field.type, field.type), field.default)
        for field in fields_of(struct)
    ]
    return msgspec.defstruct(  # type: ignore[return-value]
        f"Camel{struct.__name__}",
        fields,
        rename="camel",
        frozen=config.frozen,
        gc=config.gc,
        forbid_unknown_fields=config.forbid_unknown_fields,
    )
