"""One way to write a number: by value, within bounds, at no price for hostile digits."""

from __future__ import annotations

import re
import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.session.canonical import amount, free_number, is_number

DIGITS = st.text("0123456789", min_size=1, max_size=25)
CANONICAL = re.compile(r"0|-?(?:[1-9][0-9]*|(?:0|[1-9][0-9]*)\.[0-9]*[1-9])")


@st.composite
def json_numbers(draw: st.DrawFn) -> str:
    """Any number JSON's grammar has, most of them near the bounds."""
    sign = draw(st.sampled_from(["", "-"]))
    integer = draw(DIGITS).lstrip("0") or "0"
    fraction = draw(st.one_of(st.just(""), DIGITS.map(".".__add__)))
    exponent = draw(
        st.one_of(st.just(""), st.integers(-45, 45).map(lambda e: f"e{e}"), st.sampled_from(["E+07", "e-00"]))
    )
    return sign + integer + fraction + exponent


def digits_of(value: Fraction) -> tuple[int, int]:
    """How many integer and fractional digits the value needs. Counted on its own, with integers."""
    scaled, places = abs(value), 0
    while scaled.denominator != 1:
        scaled, places = scaled * 10, places + 1
    whole = int(abs(value))
    return (0 if whole == 0 else len(str(whole))), places


@given(json_numbers())
def test_a_number_within_bounds_keeps_its_value_and_any_other_is_refused(text: str) -> None:
    value = Fraction(text)
    integer_digits, places = digits_of(value)
    canonical = amount(text)
    if integer_digits <= 15 and places <= 20:
        assert canonical is not None
        assert Fraction(canonical) == value
        assert CANONICAL.fullmatch(canonical)
    else:
        assert canonical is None


@given(json_numbers())
def test_a_free_number_may_also_be_any_64_bit_integer(text: str) -> None:
    value = Fraction(text)
    integer_digits, places = digits_of(value)
    fits = -(2**63) <= value < 2**64 if places == 0 else integer_digits <= 15 and places <= 20
    canonical = free_number(text)
    assert (canonical is not None) == fits
    if canonical is not None:
        assert Fraction(canonical) == value
        assert CANONICAL.fullmatch(canonical)


@given(json_numbers())
def test_what_is_canonical_stays_as_it_is(text: str) -> None:
    canonical = amount(text)
    if canonical is not None:
        assert amount(canonical) == canonical == free_number(canonical)


@given(json_numbers(), json_numbers())
def test_equal_values_have_equal_texts(one: str, other: str) -> None:
    a, b = amount(one), amount(other)
    if a is not None and b is not None:
        assert (a == b) == (Decimal(one) == Decimal(other))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30.00", "30"),
        ("1E+2", "100"),
        ("-0", "0"),
        ("-0.0e5", "0"),
        ("0e999999999999", "0"),
        ("0.10", "0.1"),
        ("100e-2", "1"),
        ("1e-7", "0.0000001"),
        ("999999999999999.00000000000000000001", "999999999999999.00000000000000000001"),
        ("1" + "0" * 5000 + "e-5000", "1"),
        ("0." + "0" * 5000 + "1e5001", "1"),
        ("1." + "0" * 5000, "1"),
    ],
    ids=lambda text: text[:12],
)
def test_known_forms(text: str, expected: str) -> None:
    assert amount(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "1e999999999",
        "1e-999999999",
        "-1e" + "9" * 100_000,
        "9" * 1_000_000,
        "0." + "0" * 1_000_000 + "1",
        "1000000000000000",
        "0.000000000000000000001",
    ],
    ids=lambda text: text[:12],
)
def test_a_hostile_number_is_refused_at_once(text: str) -> None:
    started = time.process_time()
    assert amount(text) is None
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "text",
    ["", "+1", "01", ".5", "1.", "1e", "1_0", " 1", "1 ", "1\n", "NaN", "Infinity", "-", "0x1", "１", "1,5", "--1"],
)
def test_only_what_json_calls_a_number_is_one(text: str) -> None:
    assert not is_number(text)
    assert amount(text) is None
    assert free_number(text) is None
