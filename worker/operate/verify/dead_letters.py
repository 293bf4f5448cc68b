"""The dead-letter topic of one partition against the rejected records of its input: one each, in order, as they
came, with the reason in their headers."""

from __future__ import annotations

from collections import Counter
from typing import Final

from worker.engine.batch import SourceRecord
from worker.operate.verify.findings import Findings, Headers, Kind, Suspect, Told, digest
from worker.wire.dead_letter import PREFIX

_OFFSET: Final = PREFIX + "offset"
_VERSION: Final = PREFIX + "worker_version"
_NOT_NAMED: Final = ("", b"")
"""Stands where the version is missing, so that such a letter equals no expected one."""
_TAKEN: Final = b""
_TOO_MANY_DIGITS: Final = 20


def letter_digest(key: bytes | None, value: bytes | None, headers: Headers, timestamp_ms: int) -> bytes:
    """A dead letter without the version of the worker that wrote it, which is no fact of the input: letters of
    versions before an upgrade are right too."""
    names_version = bool(headers) and headers[-1][0] == _VERSION
    return digest(key, value, headers[:-1] if names_version else [*headers, _NOT_NAMED], timestamp_ms)


class DeadLetterComparison:
    """Takes the topic's records in offset order; `finish` then tells what is missing."""

    def __init__(self, expected: dict[int, bytes], required_below: int | None, findings: Findings) -> None:
        """`expected` is digests by source offset, and is used up. From `required_below` on, letters may be missing."""
        self._expected = expected
        self._required_below = required_below
        self._findings = findings
        self._first_source: int | None = None
        self._last_source = -1
        self.written_by: Counter[str] = Counter()
        """Letters by the version of the worker that wrote them."""

    def take(self, record: SourceRecord) -> None:
        self._findings.compared += 1
        headers = record.headers
        source = named_source(headers)
        expected = None if source is None else self._expected.get(source)
        if source is None or expected is None:
            text = "it names no source offset" if source is None else "the input holds no rejected record there"
            self._suspect("unexpected", record, text, source)
            return
        if expected == _TAKEN:
            self._suspect("unexpected", record, "it is there twice", source)
            return
        self._expected[source] = _TAKEN
        if letter_digest(record.key, record.value, headers, record.timestamp) != expected:
            self._suspect("different", record, "it is not the rejected record with its reason", source, recall=source)
        elif source < self._last_source:
            text = f"it stands behind that of input offset {self._last_source}"
            self._suspect("out of order", record, text, source, recall=source)
        if headers and headers[-1][0] == _VERSION and headers[-1][1] is not None:
            self.written_by[headers[-1][1].decode(errors="backslashreplace")] += 1
        if self._first_source is None:
            self._first_source = source
        self._last_source = max(self._last_source, source)

    def finish(self, *, head_is_deleted: bool) -> None:
        """The topic is read. `head_is_deleted`: retention took its oldest records."""
        for source, expected in self._expected.items():
            if expected == _TAKEN or (self._required_below is not None and source >= self._required_below):
                continue
            if head_is_deleted and (self._first_source is None or source < self._first_source):
                self._findings.left_out["deleted by retention"] += 1
                continue
            text = "the rejected record is not there"
            self._findings.add(Suspect("missing", source, text, None, recall=source, source_offset=source))

    def _suspect(
        self, kind: Kind, record: SourceRecord, text: str, source: int | None, *, recall: int | None = None
    ) -> None:
        place = self._last_source + 1 if source is None else source
        self._findings.add(
            Suspect(kind, place, text, record.key, Told.found(record), recall=recall, source_offset=source)
        )


def named_source(headers: Headers) -> int | None:
    """The source offset a dead letter names. A record's own headers come first and could bear the same name."""
    named = [text for name, text in headers if name == _OFFSET]
    digits = (named[-1] or b"") if named else b""
    return int(digits) if digits.isdigit() and len(digits) < _TOO_MANY_DIGITS else None
