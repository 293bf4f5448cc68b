"""Updates with something broken in their text: what faulty producers, bad networks and hostile people send."""

from __future__ import annotations

import re
from typing import Final

from hypothesis import strategies as st

from tests.schemas.updates import updates, written

TOKENS: Final = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"1", b"-1", b"2.0", b"1e2", b"-0", b"0.0"),
    *(b"1e999999999", b'"NaN"', b"NaN", b"Infinity", b'"9.90"', b'"1_0"', b'" 1"', b'"1e1"', b"9" * 400, b"9" * 5000),
    *(b"-9223372036854775809", b"18446744073709551616", b"0." + b"1" * 30, b"100000000000000000.5"),
    *(b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\x00", b"\xef\xbb\xbf", b"\\u0061", b"/**/", b" \r\n"),
    *(b"[" * 120, b'{"a":' * 120, b"[" * 99 + b"]" * 99, b'"cartItems"', b'"customer_session"', b'"integrationId":5,'),
    *(b'"x":1,', b'"position":null,', b'"attributes":{"a":1e400},', b'"weight":"-1.50",', b'"price":{},'),
    *(b'"2026-02-30T00:00:00Z"', b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59-23:59"'),
]

_VALUES: Final = re.compile(rb'(?<=:)(?:"[^"]*"|[-0-9.eE+]+|null|true|false)')


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An update with tokens put in, put in the place of values or bytes, or with parts cut out."""
    value = bytearray(written(draw(updates(faults=0))))
    for _ in range(draw(st.integers(1, 3))):
        at, size = draw(st.integers(0, len(value))), draw(st.sampled_from([0, 0, 1, 2, 5, 30]))
        token = draw(st.sampled_from([b"", *TOKENS]))
        places: list[tuple[int, int]] = [match.span() for match in _VALUES.finditer(bytes(value))]
        if draw(st.booleans()) and places:
            start, end = draw(st.sampled_from(places))
            value[start:end] = token
        else:
            value[at : at + size] = token
    return bytes(value)
