"""Totals are exact, and numbers are written one way (session semantics, section 4).

The expected sums come from `fractions.Fraction` over the digits as they were sent: another arithmetic than the
worker's, and one that cannot round.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.session.play import Number, Play, Reply, cost, item
from tests.session.reference import in_digits
from worker.session.model import Limits

CANONICAL: Final = re.compile(r"(?:0|-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]|-?[1-9][0-9]*)")
ANY_QUANTITY: Final = Limits(cart_quantity=2**70)
NEGATIVE_ALLOWED: Final = Limits(allow_negative_prices=True)

LARGEST: Final = "9" * 15 + "." + "9" * 20
"""15 integer and 20 fractional digits: all a number may have."""

PROPERTY: Final = settings(deadline=None, max_examples=60, print_blob=True)


@st.composite
def amounts(draw: st.DrawFn) -> str:
    """A number within bounds, 15 + 20 digits, in one of the ways to write it: JSON text, perhaps in quotes."""
    integer = draw(st.one_of(st.integers(0, 99), st.integers(0, 10**15 - 1)))
    fraction = draw(st.one_of(st.just(""), st.integers(0, 99).map("{:02}".format), st.text("0123456789", max_size=20)))
    digits = f"{integer}{fraction}"
    match draw(st.sampled_from(["plain", "padded", "exponent", "large exponent"])):
        case "plain":
            text = f"{integer}.{fraction}" if fraction else str(integer)
        case "padded":
            text = f"{integer}.{fraction}{'0' * draw(st.integers(1, 30))}"
        case "exponent":
            text = f"{digits.lstrip('0') or '0'}{draw(st.sampled_from(['e', 'E']))}-{len(fraction)}"
        case _:
            text = f"0.{digits}e{len(str(integer)):+03}"
    return f'"{text}"' if draw(st.booleans()) else text


LINES: Final = st.lists(st.tuples(amounts(), st.integers(1, 1000)), max_size=8)
COSTS: Final = st.dictionaries(st.sampled_from(["shipping", "fees", "a", "é"]), amounts(), max_size=4)


def created(lines: list[tuple[str, int]], costs: dict[str, str], **more: Any) -> Reply:
    body = {
        "cart_items": [item(price, quantity) for price, quantity in lines],
        "additional_costs": {name: cost(price) for name, price in costs.items()},
    }
    return Play(ANY_QUANTITY).send(body | more)


def value_of(text: str) -> Fraction:
    return Fraction(text.strip('"'))


def exact(lines: list[tuple[str, int]], costs: dict[str, str]) -> str:
    in_cart = sum((value_of(price) * quantity for price, quantity in lines), Fraction(0))
    beside = sum(map(value_of, costs.values()), Fraction(0))
    return " / ".join(map(in_digits, (in_cart, beside, in_cart + beside)))


@PROPERTY
@given(lines=LINES, costs=COSTS)
def test_totals_are_the_exact_sums_of_the_digits_sent(lines: list[tuple[str, int]], costs: dict[str, str]) -> None:
    assert created(lines, costs).totals == exact(lines, costs)


@PROPERTY
@given(lines=LINES, costs=COSTS, data=st.data())
def test_totals_do_not_depend_on_the_order_of_the_lines(
    lines: list[tuple[str, int]], costs: dict[str, str], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(lines))
    assert created(shuffled, dict(reversed(costs.items()))).totals == created(lines, costs).totals


@PROPERTY
@given(lines=LINES.filter(bool), costs=COSTS)
def test_every_number_is_written_canonically_whatever_way_it_came(
    lines: list[tuple[str, int]], costs: dict[str, str]
) -> None:
    entity = created(lines, costs).entity
    prices = [one["price"].text for one in entity["cart_items"]]
    assert prices == [in_digits(value_of(price)) for price, _ in lines]
    for name, price in costs.items():
        assert entity["additional_costs"][name]["price"] == Number(in_digits(value_of(price)))
    numbers = prices + [entity[name].text for name in ("cart_item_total", "additional_cost_total", "total")]
    assert all(CANONICAL.fullmatch(number) for number in numbers)


@PROPERTY
@given(lines=LINES, costs=COSTS, later=LINES, later_costs=COSTS, adds=st.sets(st.sampled_from(["cart", "costs"])))
def test_totals_after_an_update_are_those_of_what_the_session_then_holds(
    lines: list[tuple[str, int]],
    costs: dict[str, str],
    later: list[tuple[str, int]],
    later_costs: dict[str, str],
    adds: set[str],
) -> None:
    play = Play(ANY_QUANTITY)
    body: dict[str, Any] = {
        "cart_items": [item(price, quantity) for price, quantity in lines],
        "additional_costs": {name: cost(price) for name, price in costs.items()},
    }
    play.send(body)
    update: dict[str, Any] = {"referral_code": "changed"}
    if "cart" in adds:
        update["cart_items"] = [item(price, quantity) for price, quantity in later]
        lines = later
    if "costs" in adds:
        update["additional_costs"] = {name: cost(price) for name, price in later_costs.items()}
        costs = later_costs
    assert play.send(update).totals == exact(lines, costs)


@PROPERTY
@given(lines=LINES, costs=COSTS, amount=amounts())
def test_coupons_referral_code_adjustments_and_attributes_never_change_a_total(
    lines: list[tuple[str, int]], costs: dict[str, str], amount: str
) -> None:
    discount = {"price": Number(amount), "total": Number("-5"), "amount": Number(amount)}
    items = [
        item(price, quantity, adjustment=discount, attributes=discount, weight=Number(amount))
        for price, quantity in lines
    ]
    more = {"coupon_codes": ["HALF"], "referral_code": "FRIEND", "attributes": discount, "identifiers": ["x"]}
    assert created(lines, costs, cart_items=items, **more).totals == created(lines, costs).totals


@settings(PROPERTY, max_examples=40, suppress_health_check=[HealthCheck.large_base_example])
@given(
    lines=st.lists(
        st.tuples(st.sampled_from([LARGEST, "0." + "0" * 19 + "1", "1e14"]), st.integers(2**62, 2**63 - 1)),
        min_size=1,
        max_size=60,
    )
)
def test_the_largest_prices_and_quantities_still_add_up_exactly(lines: list[tuple[str, int]]) -> None:
    assert created(lines, {"shipping": LARGEST}).totals == exact(lines, {"shipping": LARGEST})


@PROPERTY
@given(lines=st.lists(st.tuples(amounts().map(lambda text: text.strip('"')), st.booleans()), min_size=1, max_size=6))
def test_negative_prices_add_up_too_where_they_are_allowed(lines: list[tuple[str, bool]]) -> None:
    prices = [f"-{price}" if is_negative else price for price, is_negative in lines]
    reply = Play(NEGATIVE_ALLOWED).send({"cart_items": [item(price) for price in prices]})
    assert reply.totals == exact([(price, 1) for price in prices], {})


WITHIN: Final = [
    ("9" * 15, "9" * 15),
    ("0." + "1" * 20, "0." + "1" * 20),
    (LARGEST, LARGEST),
    ("0." + "0" * 19 + "1", "0." + "0" * 19 + "1"),
    ("1e14", "1" + "0" * 14),
    ("1e-20", "0." + "0" * 19 + "1"),
    ("1." + "0" * 100, "1"),
    ("0." + "1" * 20 + "0", "0." + "1" * 20),
    ("1" + "0" * 20 + "e-6", "1" + "0" * 14),
    ("30.00", "30"),
    ("100e-2", "1"),
    ("1.5E+2", "150"),
    ("0e999999999999999999999", "0"),
    ("0.0", "0"),
    ("-0", "0"),
    ("-0.0e5", "0"),
]
"""Numbers that keep the bounds, some only just, and how they are written."""

BEYOND: Final = ["1" + "0" * 15, "1e15", "0." + "0" * 20 + "1", "1e-21", "0." + "1" * 21, "1e999999999", "1e-999999999"]
"""Numbers one digit out of bounds, and far out."""

FREE_INTEGERS: Final = [str(2**64 - 1), str(-(2**63)), "1e15", "5e3"]
"""Integers of the caller's own, in attributes and adjustment, may be any of 64 bits."""
FREE_BEYOND: Final = [str(2**64), str(-(2**63) - 1), "1e20", "1" + "0" * 15 + ".5", "0." + "0" * 20 + "1"]

PLACES: Final[dict[str, tuple[str, Any]]] = {
    "price of an item": ("/cart_items/0/price", lambda number: {"cart_items": [item("1") | {"price": number}]}),
    "weight of an item": ("/cart_items/0/weight", lambda number: {"cart_items": [item("1", weight=number)]}),
    "price of a cost": ("/additional_costs/a/price", lambda number: {"additional_costs": {"a": {"price": number}}}),
    "attribute": ("/attributes/a/0/b", lambda number: {"attributes": {"a": [{"b": number}]}}),
    "adjustment": ("/cart_items/0/adjustment/a", lambda number: {"cart_items": [item("1", adjustment={"a": number})]}),
}
"""Where numbers stand: the pointer within the body, and a body with the number there."""

OURS: Final = ["price of an item", "weight of an item", "price of a cost"]
FREE: Final = ["attribute", "adjustment"]


def at(pointer: str, value: Any) -> Any:
    for step in pointer.split("/")[1:]:
        value = value[int(step) if isinstance(value, list) else step]
    return value


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("sent", "expected"), WITHIN)
def test_a_number_of_15_and_20_digits_is_taken_with_every_digit(place: str, sent: str, expected: str) -> None:
    pointer, body = PLACES[place]
    assert at(pointer, Play().send(body(Number(sent))).entity) == Number(expected)


@pytest.mark.parametrize("place", OURS)
@pytest.mark.parametrize(("sent", "expected"), WITHIN)
def test_a_quoted_number_is_the_number(place: str, sent: str, expected: str) -> None:
    pointer, body = PLACES[place]
    assert at(pointer, Play().send(body(sent)).entity) == Number(expected)


@pytest.mark.parametrize("place", FREE)
def test_a_quoted_number_of_the_callers_own_stays_a_string(place: str) -> None:
    pointer, body = PLACES[place]
    assert at(pointer, Play().send(body("30.00")).entity) == "30.00"


@pytest.mark.parametrize("is_quoted", [False, True])
@pytest.mark.parametrize("place", OURS)
@pytest.mark.parametrize("sent", BEYOND)
def test_one_digit_more_is_refused_at_its_place(place: str, sent: str, is_quoted: bool) -> None:
    pointer, body = PLACES[place]
    refused = Play().send(body(sent if is_quoted else Number(sent)))
    assert refused.verdict == "schema_invalid"
    assert refused.reason["pointer"] == f"/customer_session{pointer}"
    assert "at most 15 integer and 20 fractional digits" in refused.reason["message"]


@pytest.mark.parametrize("place", FREE)
@pytest.mark.parametrize("sent", FREE_INTEGERS)
def test_an_integer_of_the_callers_own_may_have_64_bits(place: str, sent: str) -> None:
    pointer, body = PLACES[place]
    assert at(pointer, Play().send(body(Number(sent))).entity) == Number(str(int(Fraction(sent))))


@pytest.mark.parametrize("place", FREE)
@pytest.mark.parametrize("sent", FREE_BEYOND)
def test_other_numbers_of_the_callers_own_keep_the_bounds(place: str, sent: str) -> None:
    pointer, body = PLACES[place]
    refused = Play().send(body(Number(sent)))
    assert refused.verdict == "schema_invalid"
    assert refused.reason["pointer"] == f"/customer_session{pointer}"


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", ".5", "5.", "007", "1_0", "NaN", "Infinity", "0x1", "1,5", "١"])
def test_a_quoted_text_that_is_no_json_number_is_refused(text: str) -> None:
    refused = Play().send({"cart_items": [item("1") | {"price": text}]})
    assert (refused.verdict, refused.reason["pointer"]) == ("schema_invalid", "/customer_session/cart_items/0/price")


@pytest.mark.parametrize(("stored", "sent"), [("30", "30.00"), ("30", "3e1"), ("0.5", '"0.50"'), ("0", "-0")])
def test_numbers_compare_by_value(stored: str, sent: str) -> None:
    play = Play()
    cart, costs, attributes = [item(stored)], {"a": cost(stored)}, {"n": Number(stored)}
    play.send({"cart_items": cart, "additional_costs": costs, "attributes": attributes})
    attributes = {"n": Number(sent.strip('"'))}
    again = {"cart_items": [item(sent)], "additional_costs": {"a": cost(sent)}, "attributes": attributes}
    assert play.send(again).outcome == "unchanged"
