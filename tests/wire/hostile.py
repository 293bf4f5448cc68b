"""Strategies for what producers send when they are careless or mean: bytes, broken updates, strange spellings."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from hypothesis import strategies as st

from tests.schemas.updates import updates, written

NOISE: Final = st.binary(max_size=200)

_STRINGS: Final = st.text(st.characters(), max_size=8)  # lone surrogates too
ANY_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _STRINGS,  # NaN and infinities too
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_STRINGS, inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())

_PIECES: Final = st.sampled_from(
    [
        *(bytes([control]) for control in (0, 1, 8, 9, 10, 11, 12, 13, 31, 127)),
        *(b"\xef\xbb\xbf", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", "\u2028".encode(), b"\xc2\xa0"),
        *(rb"\ud800", rb"\udc00\ud800", rb"\ud83c\udf81", rb"\u0000", rb"\u12", rb"\q", b"\\", b'"', b"'", b"/", b"//"),
        *(
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"null",
            b"true",
            b"nul",
            b"NaN",
            b"-Infinity",
            b"Infinity",
            b"undefined",
        ),
        *(b"-", b"-0", b"00", b"1.", b".5", b"+1", b"0x1", b"1e", b"1e400", b"1E-400", b"1e999999999999999999999"),
        *(
            b"1" * 5000,
            b"0." + b"0" * 5000 + b"1",
            b"1" + b"0" * 5000 + b"e-5000",
            b"-" + b"9" * 400,
            b"18446744073709551616",
        ),
        *(b"[" * 2000, b"[" * 2000 + b"]" * 2000, b'{"a":' * 2000 + b"1" + b"}" * 2000, b"[" * 98 + b"]" * 98),
        *(b"{}", b"[]", b'""', b'"7"', b"7.0", b"1_0", b'"1e5"', b"[[],{}]", b'{"price":1}'),
    ]
)
_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_SCALARS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"(?!\s*:)|-?\d[\d.eE+-]*|true|false|null', re.DOTALL)
_BLANKS: Final = st.sampled_from([b"", b"", b" ", b"\n\t", b"\r\n  "])

_TWICE: Final = st.sampled_from(
    [
        *(b'"integration_id":"order-1"', b'"integrationId":"order-2"', b'"integrationId":null', b'"eventId":"e-1"'),
        *(b'"customer_session":{}', b'"customerSession":{"cartItems":[]}', b'"customerSession":7', b'"cart_items":[]'),
        *(b'"couponCodes":["A"]', b'"coupon_codes":null', b'"sequence":1', b'"price":1', b'"price":null', b'"a":1'),
    ]
)


@st.composite
def spaced(draw: st.DrawFn, value: bytes) -> bytes:
    """The same JSON text with blanks between its tokens."""
    blanks = draw(st.lists(_BLANKS, min_size=3, max_size=3))
    return b"".join(token + blanks[place % 3] for place, token in enumerate(_TOKENS.findall(value)))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An update, valid or nearly, after one to three accidents."""
    value = draw(spaced(written(draw(updates(faults=1)))))
    for _ in range(draw(st.integers(1, 3))):
        value = _damaged_once(draw, value)
    return value


def _damaged_once(draw: st.DrawFn, value: bytes) -> bytes:
    here = draw(st.integers(0, max(len(value) - 1, 0)))
    there = min(here + draw(st.integers(1, 30)), len(value))
    match draw(
        st.sampled_from(["flip", "cut", "drop", "repeat", "insert", "insert", "value", "value", "member", "member"])
    ):
        case "flip" if value:
            flipped = value[here] ^ (1 << draw(st.integers(0, 7)))
            return value[:here] + bytes([flipped]) + value[here + 1 :]
        case "cut":
            return value[:here]
        case "drop":
            return value[:here] + value[there:]
        case "repeat":
            return value[:there] + value[here:]
        case "value" if scalars := list(_SCALARS.finditer(value)):
            start, end = draw(st.sampled_from(scalars)).span()
            return value[:start] + draw(_PIECES) + value[end:]
        case "member" if objects := [place for place, byte in enumerate(value) if byte == ord("{")]:
            after = draw(st.sampled_from(objects)) + 1
            return value[:after] + draw(_TWICE) + (b"" if value[after : after + 1] == b"}" else b",") + value[after:]
        case _:
            return value[:here] + draw(_PIECES) + value[here:]


_SERVER_OWNED: Final[dict[str, Any]] = {
    "created": "2026-11-22T10:15:30.100000Z",
    "first_session": True,
    "total": 1.5,
    "cartItemTotal": None,
    "integration_id": "another",
}


@st.composite
def plausible(draw: st.DrawFn, faults: int = 1) -> bytes:
    """What real producers write: any spelling, blanks, our own output echoed back, and up to so many faults."""
    update = draw(updates(faults=faults))
    if draw(st.booleans()):
        echoed = draw(st.lists(st.sampled_from(sorted(_SERVER_OWNED)), unique=True))
        for holder in (update, update.get("customer_session"), update.get("customerSession")):
            if isinstance(holder, dict):
                holder |= {
                    name: _SERVER_OWNED[name] for name in echoed if name != "integration_id" or holder is not update
                }
    return draw(spaced(written(update)))
