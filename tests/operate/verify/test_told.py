"""How a difference is told: by names, with payload only on request."""

from __future__ import annotations

import pytest

from tests.operate.verify.written import (
    written,
)
from worker.engine.position import POSITION_KEY
from worker.operate.verify.describe import differing_fields, outline, shown_key
from worker.operate.verify.findings import Told


def _told(value: bytes | None, **changes: object) -> Told:
    return Told(b"k", value, (("a", b"1"), ("b", b"2")), 5)._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expected", "found", "names"),
    [
        (_told(b'{"a":1,"b":[1,2]}'), _told(b'{"a":1,"b":[1,3]}'), ["value /b/1"]),
        (_told(b'{"a":1}'), _told(b'{"b":1}'), ["value /a", "value /b"]),
        (_told(b'{"a":30}'), _told(b'{"a":30.0}'), ["value /a"]),
        (_told(b'{"a":30}'), _told(b'{"a":"30"}'), ["value /a"]),
        (_told(b'{"a":1}'), _told(b'{"a": 1}'), ["value: spelling or order of its members"]),
        (_told(b"{}"), _told(b"\xff"), ["value"]),
        (_told(b"{}"), _told(None), ["value: there is none"]),
        (_told(b"{}"), _told(b"{}", headers=(("a", b"1"), ("b", b"3"))), ["header b"]),
        (_told(b"{}"), _told(b"{}", headers=(("b", b"2"), ("a", b"1"))), ["order of headers"]),
        (_told(b"{}"), _told(b"{}", key=b"l", timestamp_ms=6), ["key", "timestamp"]),
    ],
)
def test_differences_are_told_by_name(expected: Told, found: Told, names: list[str]) -> None:
    assert differing_fields(expected, found) == names


def test_a_stored_row_is_told_by_the_fields_of_a_session() -> None:
    of_key = [record for record in written().changelog if record.key == written().enriched[-1].key]
    names = differing_fields(Told.found(of_key[-1]), Told.found(of_key[-2]))
    assert "value /revision" in names
    assert all(name.startswith("value /") or name == "timestamp" for name in names)


def test_payload_is_shown_only_on_request() -> None:
    told = Told(b"k", b'{"name":"mug"}', (("trace", b"secret"),), 5)
    quiet, loud = outline(told, show_payload=False), outline(told, show_payload=True)
    assert "mug" not in quiet
    assert "secret" not in quiet
    assert "14 bytes" in quiet
    assert '{"name":"mug"}' in loud
    assert "trace='secret'" in loud


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (None, None),
        (b"order-1", "'order-1'"),
        (b"\xfe\n", "'\\\\xfe\\n'"),
        (POSITION_KEY, "the position record"),
        (b"\xff\x01held-bytes", "the record of what is held"),
    ],
)
def test_keys_are_shown_as_text(key: bytes | None, shown: str | None) -> None:
    assert shown_key(key) == shown
