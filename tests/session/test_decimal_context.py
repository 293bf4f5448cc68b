"""Totals do not depend on the decimal settings of whoever calls: they have their own."""

from __future__ import annotations

import decimal
from fractions import Fraction

import pytest

from worker.session import totals


@pytest.mark.parametrize(
    "context",
    [
        decimal.Context(prec=3, rounding=decimal.ROUND_UP),
        decimal.Context(capitals=0),
        decimal.Context(Emin=-2, Emax=2),
        decimal.Context(traps=[decimal.Subnormal, decimal.FloatOperation, decimal.Rounded]),
    ],
    ids=["few digits", "small e", "few exponents", "many traps"],
)
@pytest.mark.parametrize("price", ["0.00000000000000000001", "999999999999999.99999999999999999999", "19.99"])
def test_a_callers_decimal_context_changes_nothing(context: decimal.Context, price: str) -> None:
    def written() -> tuple[str, str, str]:
        return totals.written(totals.cart_item_total([price, "5"], [10, 7]), totals.additional_cost_total([price]))

    expected = written()
    with decimal.localcontext(context):
        assert written() == expected
    assert Fraction(expected[0]) == Fraction(price) * 10 + 35
