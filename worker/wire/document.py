"""A JSON document of a producer, opened one level at a time, so that every number keeps its digits and every
problem has a place.

All functions take text that `open_document` has passed. Where they raise `Invalid`, the path in it leads
from the event's root to the value at fault.
"""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec
from msgspec import Raw

from worker.session import canonical
from worker.session.model import Json
from worker.session.rejections import Code, Path, last_name

MAX_DEPTH: Final = 100
"""Objects and arrays inside each other. A fixed bound of our own: the parser's depends on how deep the call
stack happens to be, and the same event must get the same verdict every time. (.NET stops at 64, Python near 1000.)"""

_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_ARRAY: Final = msgspec.json.Decoder(list[Raw])
_STRING: Final = msgspec.json.Decoder(str)
_CANONICAL: Final = msgspec.json.Encoder(order="deterministic")
_MESSAGE_PACK: Final = msgspec.msgpack.Encoder()

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.?)*+"?', re.DOTALL)
"""Strings, also one that never ends: a pattern that refused it would look again from each quote inside."""
_ALL_BUT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


class Invalid(Exception):
    """What is wrong with the document, as a rejection would say it."""

    def __init__(self, code: Code, message: str, path: Path) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.path = path


def open_document(value: bytes) -> dict[str, Raw]:
    """The members of the event. Raises Invalid(malformed) for anything but one JSON object in UTF-8."""
    try:
        value.decode()
    except UnicodeDecodeError as problem:
        raise Invalid("malformed", f"The value is not UTF-8: {problem.reason} at byte {problem.start}", ()) from None
    if nests_too_deep(value):
        raise Invalid("malformed", f"The value nests objects and arrays deeper than {MAX_DEPTH} levels", ())
    try:
        root = msgspec.json.decode(value, type=Raw)
        if kind(root) != "object":
            raise Invalid("malformed", f"The value is {_article(kind(root))}, not a JSON object", ())
        return _OBJECT.decode(root)
    except msgspec.DecodeError as problem:
        raise Invalid("malformed", f"The value is not JSON: {problem}", ()) from None


def nests_too_deep(value: bytes) -> bool:
    """Whether a JSON text has more than MAX_DEPTH levels. For text that is not JSON any answer may come."""
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _STRINGS.sub(b"", value).translate(None, _ALL_BUT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def kind(raw: Raw) -> str:
    """object, array, string, number, boolean or null."""
    return _KINDS.get(memoryview(raw)[0], "number")


_KINDS: Final = {
    ord("{"): "object",
    ord("["): "array",
    ord('"'): "string",
    ord("t"): "boolean",
    ord("f"): "boolean",
    ord("n"): "null",
}


def members(raw: Raw, path: Path) -> dict[str, Raw]:
    """The members of an object; of members with one name the last counts, as in most parsers."""
    if kind(raw) != "object":
        raise _wrong_type(raw, path, "an object")
    return _OBJECT.decode(raw)


def entries(raw: Raw, path: Path) -> list[Raw]:
    """The entries of an array."""
    if kind(raw) != "array":
        raise _wrong_type(raw, path, "an array")
    return _ARRAY.decode(raw)


def string(raw: Raw, path: Path, *, may_be_empty: bool = True) -> str:
    """A string, with at least one character unless told otherwise."""
    if kind(raw) != "string":
        raise _wrong_type(raw, path, "a string")
    text = _STRING.decode(raw)
    if not text and not may_be_empty:
        raise _must("not be empty", path)
    return text


def integer(raw: Raw, path: Path, minimum: int) -> int:
    """A signed 64-bit integer. 2.0, 1e3, true and "2" are none."""
    text = bytes(raw)
    if kind(raw) != "number" or not text.lstrip(b"-").isdigit():
        raise _wrong_type(raw, path, "an integer")
    value = int(text) if len(text) <= 20 else None
    if value is None or not -(2**63) <= value < 2**63:
        raise _must("be an integer of at most 64 bits", path)
    if value < minimum:
        raise _must(f"be an integer of at least {minimum}", path)
    return value


def amount(raw: Raw, path: Path, *, may_be_negative: bool) -> str:
    """A number of ours in canonical form, also when it came in quotes."""
    if kind(raw) == "string":
        text = _STRING.decode(raw)
        if not canonical.is_number(text):
            raise _must("be a number; the quoted text is none", path)
    elif kind(raw) == "number":
        text = bytes(raw).decode()
    else:
        raise _wrong_type(raw, path, "a number")
    number = canonical.amount(text)
    if number is None:
        raise _out_of_bounds(path)
    if number.startswith("-") and not may_be_negative:
        raise _must("be a number of at least 0", path)
    return number


def canonical_object(raw: Raw, path: Path) -> Json:
    """The canonical text of an object of the caller's own, such as attributes."""
    if kind(raw) != "object":
        raise _wrong_type(raw, path, "an object")
    return _canonical(raw, path)


def same_value(one: Raw, other: Raw) -> bool:
    """Whether two values are the same content: 30 and 30.00 are, 30 and "30" are not."""
    if bytes(one) == bytes(other):
        return True
    try:
        return _canonical(one, ()) == _canonical(other, ())
    except Invalid:
        return False


def free_number(text: str) -> Raw:
    """The decoder's hook for numbers with a point or an exponent inside objects of the caller's own."""
    number = canonical.free_number(text)
    if number is None:
        raise ValueError("number out of bounds")
    return Raw(number)


_FREE: Final = msgspec.json.Decoder(float_hook=free_number)


def fits_64_bits(value: object) -> bool:
    """Whether all integers in a decoded value are 64-bit, signed or unsigned: MessagePack knows no others."""
    try:
        _MESSAGE_PACK.encode(value)
    except OverflowError:
        return False
    return True


def _canonical(raw: Raw, path: Path) -> Json:
    try:
        value = _FREE.decode(raw)
        if fits_64_bits(value):
            return _CANONICAL.encode(value)
    except msgspec.ValidationError:
        pass
    # Some number is out of bounds. This parser is slower, but lets a number through to be found where it is; and
    # a member that is there twice counts as its last.
    value = json.loads(bytes(raw), parse_int=_free_number_or_marker, parse_float=_free_number_or_marker)
    place = _first_out_of_bounds(value, path)
    if place is not None:
        raise _out_of_bounds(place)
    return _CANONICAL.encode(value)


class _OutOfBounds:
    """Stands in a parsed document for a number that is out of bounds."""


def _free_number_or_marker(text: str) -> Raw | _OutOfBounds:
    number = canonical.free_number(text)
    return _OutOfBounds() if number is None else Raw(number)


def _first_out_of_bounds(value: object, path: Path) -> Path | None:
    if isinstance(value, _OutOfBounds):
        return path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        place = _first_out_of_bounds(part, (*path, name))
        if place is not None:
            return place
    return None


def _out_of_bounds(path: Path) -> Invalid:
    bounds = f"at most {canonical.MAX_INTEGER_DIGITS} integer and {canonical.MAX_FRACTION_DIGITS} fractional digits"
    return _must(f"be a number with {bounds}", path)


def _wrong_type(raw: Raw, path: Path, expected: str) -> Invalid:
    return _must(f"be {expected}, not {_article(kind(raw))}", path)


def _must(requirement: str, path: Path) -> Invalid:
    return Invalid("schema_invalid", f"{last_name(path)} must {requirement}", path)


def _article(noun: str) -> str:
    if noun == "null":
        return noun
    return f"an {noun}" if noun[0] in "ao" else f"a {noun}"
