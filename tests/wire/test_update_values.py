"""What an update keeps is what the event said, by value and by a reader that shares nothing with the worker's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire import strict_json
from tests.wire.hostile import plausible
from worker.session.model import Update
from worker.session.rejections import Rejected
from worker.wire.update import decode

NOW_MS: Final = 1_795_342_530_123
AMOUNTS: Final = ("price", "weight", "height", "width", "length")
ITEM: Final = ("name", "sku", "quantity", *AMOUNTS, "category", "attributes", "adjustment")


def as_kept(item: dict[str, Any], position: int) -> dict[str, Any]:
    """A cart item as it is to be kept: our members, quoted amounts as numbers, the position set."""
    ours = {name: item[name] for name in ITEM if name in item}
    numbers = {name: strict_json.Number(ours[name]) for name in AMOUNTS if name in ours}
    kept: dict[str, Any] = strict_json.typed(ours | numbers | {"position": strict_json.Number(position)})
    return kept


@settings(max_examples=250, deadline=None)
@given(plausible(faults=0), st.booleans())
def test_every_value_that_is_kept_is_the_one_that_was_sent(value: bytes, negative: bool) -> None:
    update = decode(value, None, NOW_MS, may_be_negative=negative)
    assert isinstance(update, Update), update
    said = strict_json.read(value)
    body = said.get("customer_session", said.get("customerSession"))
    items, costs = (
        body.get(snake, body.get(camel))
        for snake, camel in (("cart_items", "cartItems"), ("additional_costs", "additionalCosts"))
    )
    if body.get("attributes") is None:
        assert update.attributes is None
    else:
        assert strict_json.read_typed(update.attributes) == strict_json.typed(body["attributes"])
    if items is None:
        assert update.cart is None
    else:
        assert update.cart is not None
        expected = [as_kept(item, position) for position, item in enumerate(items)]
        assert strict_json.read_typed(update.cart.text) == expected
        assert [Decimal(price) for price in update.cart.prices] == [item["price"] for item in expected]
        assert list(update.cart.quantities) == [item["quantity"] for item in expected]
    if costs is None:
        assert update.additional_costs is None
    else:
        assert update.additional_costs is not None
        prices = {name: {"price": Decimal(cost["price"])} for name, cost in costs.items()}
        assert strict_json.read_typed(update.additional_costs.text) == prices


def with_place(place: str, text: str) -> bytes:
    """An update with a value, as it is spelled, in one of the places that hold numbers of the caller's own."""
    free = f'{{"n":[{text}]}}'
    if place == "attributes":
        body = f'{{"attributes":{free}}}'
    else:
        member = place.removeprefix("item ")
        body = f'{{"cart_items":[{{"name":"a","sku":"b","quantity":1,"price":1,"{member}":{free}}}]}}'
    return f'{{"integration_id":"o","customer_session":{body}}}'.encode()


@pytest.mark.parametrize("place", ["attributes", "item attributes", "item adjustment"])
@pytest.mark.parametrize(
    ("number", "fits"),
    [
        *(("18446744073709551615", True), ("18446744073709551616", False), ("-9223372036854775808", True)),
        *(("-9223372036854775809", False), ("1e19", True), ("2e19", False), ("1" + "0" * 40 + "e-40", True)),
        *(("999999999999999.5", True), ("1000000000000000.5", False), ("1e-20", True), ("1e-21", False)),
    ],
)
def test_a_number_of_the_callers_own_is_kept_or_refused_at_its_place(place: str, number: str, fits: bool) -> None:
    update = decode(with_place(place, f"1,{number}"), None, NOW_MS)
    if fits:
        assert isinstance(update, Update)
        text = update.attributes if update.cart is None else update.cart.text
        assert f"[1,{format(Decimal(number).normalize(), 'f')}]".encode() in (text or b"")
    else:
        assert isinstance(update, Rejected)
        assert (update.code, update.path[-2:]) == ("schema_invalid", ("n", 1))
