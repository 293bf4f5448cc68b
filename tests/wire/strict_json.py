"""JSON as strictly as RFC 8259 and session semantics, section 1, want it: a second opinion on what is malformed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final


class NotJson(ValueError):
    """The bytes are no JSON text that a worker may accept."""


class Number(str):
    """A number, as it is spelled."""


def read(value: bytes) -> Any:
    """The value of a JSON text in UTF-8; of members with one name the last. Raises NotJson for anything else,
    also for names and texts with half a surrogate pair, and for texts too deep for Python's parser."""
    try:
        text = value.decode()
        return _READER.decode(text.strip(" \t\r\n"))
    except (ValueError, RecursionError) as problem:
        raise NotJson(str(problem)) from None


def typed(value: Any) -> Any:
    """The value with its numbers as exact Decimals; what is equal then, is equal in value and in type."""
    match value:
        case dict():
            return {name: typed(part) for name, part in value.items()}
        case list():
            return [typed(part) for part in value]
        case Number():
            return Decimal(value)
        case bool():
            return str(value), "boolean"
        case _:
            return value


def read_typed(value: bytes | None) -> Any:
    """`read`, then `typed`."""
    return typed(read(value or b""))


def depth(value: Any) -> int:
    """How many objects and arrays are inside each other, at the deepest place."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if parts is None else 1 + max(map(depth, parts), default=0)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Also what a later member of the same name hides has to be text.
    for part in pairs:
        _check(part)
    return dict(pairs)


def _check(value: Any) -> None:
    match value:
        case str():
            value.encode()
        case list() | tuple():
            for part in value:
                _check(part)
        case _:
            pass


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


_READER: Final = json.JSONDecoder(
    parse_float=Number, parse_int=Number, parse_constant=_no_constant, object_pairs_hook=_members
)
