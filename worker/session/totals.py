"""Totals before any discount, exact to the last digit (session semantics, section 4).

No float, no rounding: the context below traps both, so a total is exact or an error, never nearly right.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation, Rounded
from typing import Final

from worker.session.model import Number

_EXACT: Final = Context(prec=120, traps=[Inexact, Rounded, InvalidOperation])
"""Room for the largest sum the bounds allow: 15 + 20 digits of a price, times a quantity of up to 19 digits,
times as many lines as fit in a record. The context is private, so a caller's decimal settings do not matter."""

_ZERO: Final = Decimal(0)


def cart_item_total(prices: Sequence[Number], quantities: Sequence[int]) -> Decimal:
    """Σ price × quantity, whatever the order of the lines."""
    add_product = _EXACT.fma
    total = _ZERO
    for price, quantity in zip(prices, quantities, strict=True):
        total = add_product(Decimal(price), quantity, total)
    return total


def additional_cost_total(prices: Sequence[Number]) -> Decimal:
    """Σ price of the additional costs."""
    add = _EXACT.add
    total = _ZERO
    for price in prices:
        total = add(total, Decimal(price))
    return total


def written(cart_items: Decimal, additional_costs: Decimal) -> tuple[Number, Number, Number]:
    """Both totals and their sum as a session holds them."""
    return _text(cart_items), _text(additional_costs), _text(_EXACT.add(cart_items, additional_costs))


def _text(value: Decimal) -> Number:
    """Canonical text of an exact sum."""
    text = _EXACT.to_sci_string(value)
    if text[-1] != "0" and "E" not in text:
        return text
    if not value:
        return "0"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
