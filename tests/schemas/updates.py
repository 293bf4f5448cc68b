"""Strategies for session updates: valid ones, and ones with a fault somewhere.

An update is plain JSON data, numbers with a point or an exponent as Decimal; `written` makes it bytes with
those very digits.
"""

from __future__ import annotations

import json
from copy import deepcopy
from decimal import Decimal
from typing import Any, Final

from hypothesis import strategies as st

from tests.schemas import documents

Json = Any


def written(value: Json) -> bytes:
    """JSON text in UTF-8; a Decimal is written as `str` spells it."""
    return _text(value).encode()


def _text(value: Json) -> str:
    match value:
        case dict():
            return "{" + ",".join(f"{json.dumps(name)}:{_text(item)}" for name, item in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_text, value)) + "]"
        case Decimal():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


_NAMES: Final = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
_AMOUNTS: Final = st.one_of(
    st.sampled_from([0, 5, 10**15 - 1, "9.9", "1e3", *map(Decimal, ("0.00", "9.990", "1.5E+2", "-0"))]),
    st.decimals(min_value=0, max_value=10**6, places=2),
    st.integers(0, 10**6).map(str),
)
_MEASURES: Final = st.one_of(_AMOUNTS, st.decimals(min_value=-1000, max_value=1000, places=3))
_FREE: Final = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        _NAMES,
        st.integers(-(2**63), 2**64 - 1),
        st.decimals(min_value=-(10**6), max_value=10**6, places=4),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=3)),
    max_leaves=4,
)
_FREE_OBJECTS: Final = st.dictionaries(_NAMES, _FREE, max_size=3)

ITEMS: Final = st.fixed_dictionaries(
    {"name": _NAMES, "sku": _NAMES, "quantity": st.integers(1, 20), "price": _AMOUNTS},
    optional={
        "category": st.text(max_size=3),
        "weight": _MEASURES,
        "height": _MEASURES,
        "width": _MEASURES,
        "length": _MEASURES,
        "attributes": _FREE_OBJECTS,
        "adjustment": _FREE_OBJECTS,
        "position": st.one_of(st.integers(0, 9), st.none(), st.just("first")),
    },
)


def _or_null(strategy: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.one_of(strategy, strategy, strategy, st.none())


BODIES: Final = st.fixed_dictionaries(
    {},
    optional={
        "profile_id": _or_null(st.sampled_from(["", "user_42", "user_43", "p" * 1000])),
        "coupon_codes": _or_null(st.lists(st.sampled_from(["", "A", "a", "é" * 100]), max_size=3)),
        "referral_code": _or_null(st.sampled_from(["", "FRIEND-7", "🎁" * 100])),
        "state": _or_null(st.sampled_from(["open", "closed", "cancelled"])),
        "cart_items": _or_null(st.lists(ITEMS, max_size=3)),
        "additional_costs": _or_null(
            st.dictionaries(st.sampled_from(["shipping", "a/b~c", ""]), st.fixed_dictionaries({"price": _AMOUNTS}))
        ),
        "identifiers": _or_null(st.lists(st.text(max_size=3), max_size=5)),
        "attributes": _or_null(_FREE_OBJECTS),
    },
)
ENVELOPES: Final = st.fixed_dictionaries(
    {
        "integration_id": st.sampled_from(["order-1", "order-2", "bestellung-ß", "o" * 1000]),
        "customer_session": BODIES,
    },
    optional={
        "event_id": _or_null(st.sampled_from(["e-1", "e-2", "e" * 255])),
        "application_id": _or_null(st.sampled_from([7, 0, -(2**63), 2**63 - 1])),
        "occurred_at": _or_null(
            st.sampled_from(
                [
                    "2026-11-22T10:15:30.1Z",
                    "2026-11-22t10:15:30z",
                    "2024-02-29T23:59:59.1234567+05:30",
                    "1999-12-31T23:59:59-00:00",
                ]
            )
        ),
        "sequence": _or_null(st.sampled_from([0, 1, 2, 2**63 - 1])),
    },
)

JUNK: Final[st.SearchStrategy[Json]] = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 10_000, 10_001, 2**63, 2**64, -(2**63) - 1, 10**15, -(10**15)),
        *(Decimal("0.5"), Decimal("-0.01"), Decimal("1e-20"), Decimal("999999999999999.9")),
        *("", "x", "7", "-1", "-0.0", "1.", ".5", "+1", "01", " 1", "1,5", "NaN", "Infinity", "1e", "-0e5", "-1e-3"),
        *("1000000000000000", "0.000000000000000000001", "0.10000000000000000000000"),
        *("x" * 100, "x" * 101, "é" * 101, "x" * 255, "x" * 256, "x" * 1000, "x" * 1001),
        *("open", "OPEN", "paid", "2026-11-22", "2026-11-22T10:15:30", "2026-02-30T10:15:30Z", "2026-11-22 10:15:30Z"),
        *("2026-11-22T24:00:00Z", "2026-11-22T10:15:60Z", "2026-11-22T10:15:30+24:00", "2026-11-22T10:15:30,5Z"),
        *([], {}, [None], ["a"] * 5, ["a"] * 6, ["x" * 101], [[]], [{}]),
        *({"price": 1}, {"a": {"price": None}}, {"a": None}),
        {"a": [2**64]},
        {"a": 10**15, "b": [{"c": -(2**63)}]},
    ]
).map(deepcopy)
"""Values that are right in some places and wrong in others; copies, as later faults go into them."""


_LIMITED: Final = ("integration_id", "event_id", "profile_id", "referral_code", "identifiers", "cart_items", "quantity")
"""Fields with a limit; entries of lists are picked as well, for the coupon codes."""
_LENGTHS: Final = st.sampled_from([0, 1, 5, 6, 100, 101, 255, 256, 1000, 1001])


@st.composite
def updates(draw: st.DrawFn, faults: int) -> dict[str, Json]:
    """An update with up to `faults` values replaced by junk or made longer or shorter, members dropped or
    members added, some names in camelCase. With no faults it keeps the schema."""
    update: dict[str, Json] = draw(ENVELOPES)
    for _ in range(draw(st.integers(0, faults))):
        spots = _spots(update)
        limited = [(holder, name) for holder, name in spots if name in _LIMITED or isinstance(name, int)]
        if spots:
            aim_at_a_limit = bool(limited) and draw(st.booleans())
            _damage(draw, *draw(st.sampled_from(limited if aim_at_a_limit else spots)))
    return _respelled(draw, update)


def _damage(draw: st.DrawFn, holder: Any, name: Any) -> None:
    match draw(st.sampled_from(["replace", "resize", "resize", "drop", "add"])), holder[name]:
        case "resize", str() as text:
            holder[name] = ((text or "x") * 1001)[: draw(_LENGTHS)]
        case "resize", [first, *_]:
            holder[name] = [first] * draw(_LENGTHS)
        case "drop", _:
            del holder[name]
        case "add", dict() as members:
            members[draw(st.sampled_from(["total", "colour", "state", "category", "weight", "price"]))] = draw(JUNK)
        case _:
            holder[name] = draw(JUNK)


def _spots(value: Json) -> list[tuple[Any, Any]]:
    """Every (container, name or index) in the update that holds something."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    spots = []
    for name, item in entries:
        spots.append((value, name))
        if isinstance(item, dict | list):
            spots += _spots(item)
    return spots


_RESPELLED: Final = {
    name: documents.camel(name)
    for place in documents.fields(documents.schema(documents.UPDATE))
    if "_" in (name := place.path[-1])
}


def _respelled(draw: st.DrawFn, update: dict[str, Json]) -> dict[str, Json]:
    style = draw(st.sampled_from(["snake", "snake", "camel", "mixed"]))

    def spell(name: str) -> str:
        to_camel = style == "camel" or (style == "mixed" and draw(st.booleans()))
        return _RESPELLED.get(name, name) if to_camel else name

    result = {spell(name): item for name, item in update.items()}
    for name, body in result.items():
        if name in ("customer_session", "customerSession") and isinstance(body, dict):
            result[name] = {spell(inner): item for inner, item in body.items()}
    return result
