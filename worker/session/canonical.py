"""One way to write a number (session semantics, section 4), so that equal numbers are equal texts.

Works on text from end to end: nothing is ever a float, and a hostile exponent (1e999999999) costs no more
than its digits.
"""

from __future__ import annotations

import re
from typing import Final

from worker.session.model import Number

MAX_INTEGER_DIGITS: Final = 15
MAX_FRACTION_DIGITS: Final = 20

_JSON_NUMBER: Final = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?").fullmatch
_CANONICAL: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{0,19}[1-9]").fullmatch
"""What most fractions already look like."""
_MAX_EXPONENT_DIGITS: Final = 18
"""No text held in memory has 10^18 digits to balance a longer exponent."""

_MIN_INT64: Final = -(2**63)
_MAX_UINT64: Final = 2**64 - 1


def is_number(text: str) -> bool:
    """Whether the text is a number in JSON's grammar: no sign +, no leading zero, no NaN, no blanks."""
    return _JSON_NUMBER(text) is not None


def amount(text: str) -> Number | None:
    """The canonical form of a price or measure. None when it has more than 15 integer or 20 fractional
    digits, counted after canonicalising, or is no JSON number."""
    return _canonical(text, MAX_INTEGER_DIGITS)


def free_number(text: str) -> Number | None:
    """The canonical form of a number inside attributes or adjustment. Bounds as for `amount`, but an
    integer, however it is spelled (5e3), may be any signed or unsigned 64-bit value."""
    number = _canonical(text, 20)
    if number is None:
        return None
    if "." not in number:
        return number if _MIN_INT64 <= int(number) <= _MAX_UINT64 else None
    return number if len(number.partition(".")[0].lstrip("-")) <= MAX_INTEGER_DIGITS else None


def _canonical(text: str, max_integer_digits: int) -> Number | None:
    if _CANONICAL(text) is not None:
        return text
    match = _JSON_NUMBER(text)
    if match is None:
        return None
    sign, integer, fraction, exponent_sign, exponent = match.groups(default="")
    digits = (integer + fraction).lstrip("0")
    if not digits:
        return "0"
    exponent = exponent.lstrip("0")
    if len(exponent) > _MAX_EXPONENT_DIGITS:
        return None
    shift = int(exponent_sign + (exponent or "0"))
    # The point's place counted from the left end of `digits`; negative = zeros between point and digits.
    point = len(digits) - len(fraction) + shift
    digits = digits.rstrip("0")
    if point > max_integer_digits or len(digits) - point > MAX_FRACTION_DIGITS:
        return None
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if len(digits) <= point:
        return f"{sign}{digits.ljust(point, '0')}"
    return f"{sign}{digits[:point]}.{digits[point:]}"
