"""A difference as people and scripts read it. What customers sent is shown only on request: else lengths, digests
and the names of the fields that differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from msgspec import structs

from worker.agents.sessions import HELD_KEY
from worker.engine.position import POSITION_KEY
from worker.operate.verify.findings import Headers, Suspect, Told, digest
from worker.operate.verify.outputs import claimed_revision
from worker.operate.verify.recall import Recalled
from worker.operate.verify.report import Difference
from worker.wire import row

FIELDS_TOLD: Final = 12
_KEY_CHARACTERS: Final = 200
_ABSENT: Final = object()


class _Number(str):
    """A JSON number as it is spelled: 30 and 30.0 differ here."""

    __slots__ = ()


def describe(
    topic: str, partition: int, suspect: Suspect, recalled: Recalled | None, *, show_payload: bool
) -> Difference:
    """The suspect as it is told. `recalled` is what was expected, where the suspect does not hold it."""
    found, expected, source, text = suspect.found, suspect.expected, suspect.source_offset, suspect.text
    if recalled is not None and suspect.kind != "unexpected":
        expected, source = recalled
        if suspect.kind == "missing" and found is None and suspect.key is None:
            revision = claimed_revision(expected.headers, None)
            text = text if revision is None else f"revision {revision}: {text}"
    key = suspect.key if suspect.key is not None or expected is None else expected.key
    return Difference(
        suspect.kind,
        topic,
        partition,
        None if found is None else found.offset,
        shown_key(key),
        source,
        text,
        tuple(differing_fields(expected, found)) if found is not None and expected is not None else (),
        None if expected is None else outline(expected, show_payload=show_payload),
        None if found is None else outline(found, show_payload=show_payload),
    )


def shown_key(key: bytes | None) -> str | None:
    """A record's key for people: text where it is text."""
    if key is None:
        return None
    if key == POSITION_KEY:
        return "the position record"
    if key == HELD_KEY:
        return "the record of what is held"
    return _text(key)


def outline(told: Told, *, show_payload: bool) -> str:
    """A record in a line: its value when that may be shown, else its length and a digest of the whole."""
    if not show_payload:
        whole = digest(told.key, told.value, told.headers, told.timestamp_ms).hex()
        size = "no value" if told.value is None else f"{len(told.value):,} bytes"
        return f"{size}, {len(told.headers)} headers, timestamp {told.timestamp_ms}, digest {whole}"
    headers = ", ".join(f"{name}={_text(text)}" for name, text in told.headers)
    return f"{shown_value(told.value)}; headers {headers or 'none'}; timestamp {told.timestamp_ms}"


def shown_value(value: bytes | None) -> str:
    """The value itself: a stored row opened, anything else as text."""
    if value is None:
        return "no value"
    try:
        session, pending = row.decode_with_pending(value)
        return str(session) if pending is None else f"{session}, waiting: {pending}"
    except row.UnreadableRow:
        return value.decode(errors="backslashreplace")


def differing_fields(expected: Told, found: Told) -> list[str]:
    """The names of what differs between two records, at most FIELDS_TOLD of the value."""
    names = []
    if expected.key != found.key:
        names.append("key")
    names += _differing_value(expected.value, found.value)
    names += _differing_headers(expected.headers, found.headers)
    if expected.timestamp_ms != found.timestamp_ms:
        names.append("timestamp")
    return names


def _differing_value(expected: bytes | None, found: bytes | None) -> list[str]:
    if expected == found:
        return []
    if expected is None or found is None:
        return ["value: there is one" if expected is None else "value: there is none"]
    opened_expected, opened_found = _open(expected), _open(found)
    if _ABSENT in (opened_expected, opened_found):
        return ["value"]
    paths = list(islice(_paths(opened_expected, opened_found, ""), FIELDS_TOLD + 1))
    if not paths:
        return ["value: spelling or order of its members"]
    return [f"value {path or 'as a whole'}" for path in paths[:FIELDS_TOLD]] + ["…"][: len(paths) > FIELDS_TOLD]


def _open(value: bytes) -> Any:
    """A value's parts: of JSON, or of a stored row; _ABSENT for neither."""
    with suppress(row.UnreadableRow):
        session, pending = row.decode_with_pending(value)
        waiting = {} if pending is None else {"waiting": structs.asdict(pending)}
        return structs.asdict(session) | {"content": structs.asdict(session.content)} | waiting
    try:
        return json.loads(value, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError):
        return _ABSENT


def _paths(expected: Any, found: Any, path: str) -> Iterator[str]:
    """JSON pointers of the innermost parts that differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in list(expected) + [name for name in found if name not in expected]:
            yield from _paths(expected.get(name, _ABSENT), found.get(name, _ABSENT), f"{path}/{name}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _paths(one, other, f"{path}/{index}")
    elif type(expected) is not type(found) or expected != found:
        yield path


def _differing_headers(expected: Headers, found: Headers) -> list[str]:
    if list(expected) == list(found):
        return []
    names = dict.fromkeys(name for name, _ in (*expected, *found))
    differing = [f"header {name}" for name in names if _named(expected, name) != _named(found, name)]
    return differing or ["order of headers"]


def _named(headers: Headers, name: str) -> Sequence[bytes | None]:
    return [text for other, text in headers if other == name]


def _text(raw: bytes | None) -> str:
    if raw is None:
        return "null"
    text = repr(raw.decode(errors="backslashreplace"))
    return text if len(text) <= _KEY_CHARACTERS else f"{text[:_KEY_CHARACTERS]}…"
