"""The enriched topic of one partition against what its input leads to.

The topic is compacted, so older revisions of a session may rightly be gone; what is there must be right, in
order, and the latest revision must be there. A record that compaction removed leaves its offset unused, and a
record the worker never wrote leaves none: that tells the two apart.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

import msgspec

from worker.engine.batch import SourceRecord
from worker.operate.verify.findings import DIGEST_BYTES, Findings, Headers, Suspect, Told, digest

_ORDINAL_BYTES: Final = 5
_ENTRY_BYTES: Final = DIGEST_BYTES + _ORDINAL_BYTES
_TOO_MANY_DIGITS: Final = 20


class _Revised(msgspec.Struct):
    """The one member of an enriched record that is needed here."""

    revision: int


_decode: Final = msgspec.json.Decoder(_Revised).decode


class ExpectedOutputs:
    """Digests of the records a partition's input leads to, by key and revision, and their order in the partition."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, bytearray] = {}
        self._required: dict[bytes, int] = {}
        self._transaction_ends = array("Q")
        self.count = 0

    def add(self, key: bytes, whole: bytes, *, is_required: bool) -> None:
        """The partition's next output: the key's next revision. Its ordinal is `count` before the call."""
        packed = self._by_key.get(key)
        if packed is None:
            packed = self._by_key[key] = bytearray()
        if not is_required:
            self._required.setdefault(key, len(packed) // _ENTRY_BYTES)
        packed += whole
        packed += self.count.to_bytes(_ORDINAL_BYTES, "big")
        self.count += 1

    def end_transaction(self) -> None:
        """A ledger range ends here: in the topic a commit marker follows, if the range had outputs."""
        if self.count > (self._transaction_ends[-1] if self._transaction_ends else 0):
            self._transaction_ends.append(self.count)

    def revisions(self, key: bytes) -> int:
        """How many revisions the key has; they are 1, 2, 3 …"""
        packed = self._by_key.get(key)
        return 0 if packed is None else len(packed) // _ENTRY_BYTES

    def digest(self, key: bytes, revision: int) -> bytes:
        start = (revision - 1) * _ENTRY_BYTES
        return bytes(self._by_key[key][start : start + DIGEST_BYTES])

    def ordinal(self, key: bytes, revision: int) -> int:
        """The output's place among all of the partition, from 0."""
        end = revision * _ENTRY_BYTES
        return int.from_bytes(self._by_key[key][end - _ORDINAL_BYTES : end], "big")

    def required(self) -> Iterator[tuple[bytes, int]]:
        """Every key with the revision that must be there at least."""
        for key in self._by_key:
            revision = self._required.get(key)
            yield key, self.revisions(key) if revision is None else revision

    def markers_between(self, earlier: int, later: int) -> int:
        """How many commit markers lie between the outputs of these ordinals."""
        ends = self._transaction_ends
        return bisect_right(ends, later) - bisect_right(ends, earlier) if earlier >= 0 else bisect_right(ends, later)


class _Unroomed(NamedTuple):
    """Of the outputs `first` to `last` at least `lost` were never written: the offsets have no room for them."""

    first: int
    last: int
    lost: int
    offset: int


class OutputComparison:
    """Takes the topic's records in offset order; `finish` then tells what is missing."""

    def __init__(self, expected: ExpectedOutputs, findings: Findings) -> None:
        self._expected = expected
        self._findings = findings
        self._last_revision: dict[bytes, int] = {}
        self._recognised = 0
        self._last_ordinal = -1
        self._last_offset = -1
        self._unroomed: list[_Unroomed] = []
        self._misplaced: set[int] = set()

    def take(self, record: SourceRecord) -> None:
        self._findings.compared += 1
        key, expected = record.key, self._expected
        revisions = 0 if key is None else expected.revisions(key)
        if key is None or not revisions:
            self._suspect(record, "no accepted update of the input is about this key")
            return
        whole = digest(key, record.value, record.headers, record.timestamp)
        last = self._last_revision.get(key, 0)
        revision: int | None = last + 1
        if last == revisions or expected.digest(key, last + 1) != whole:
            # Not the next one byte for byte: compaction took some before it, or something is wrong.
            revision = claimed_revision(record.headers, record.value)
            if revision is None or not 0 < revision <= revisions:
                named = "names no revision" if revision is None else f"is revision {revision}"
                self._suspect(record, f"it {named}; the input leads to revisions 1 to {revisions} of this key")
                return
            if revision <= last:
                self._misplaced.add(expected.ordinal(key, revision))
                self._suspect(record, f"revision {revision} stands behind revision {last} of this key")
                return
            if expected.digest(key, revision) != whole:
                self._differs(record, key, revision)
        assert revision is not None
        self._last_revision[key] = revision
        self._recognised += 1
        self._place(record, key, revision)

    def _place(self, record: SourceRecord, key: bytes, revision: int) -> None:
        """The order across keys, and whether what is not there had a place."""
        ordinal = self._expected.ordinal(key, revision)
        if ordinal < self._last_ordinal:
            self._misplaced.add(ordinal)
            text = f"revision {revision} stands behind outputs of later input"
            self._findings.add(Suspect("out of order", ordinal, text, key, Told.found(record), recall=ordinal))
            return
        skipped = ordinal - self._last_ordinal - 1
        if skipped:
            markers = self._expected.markers_between(self._last_ordinal, ordinal)
            room = max(0, record.offset - self._last_offset - 1 - markers)
            if skipped > room:
                self._unroomed.append(_Unroomed(self._last_ordinal + 1, ordinal - 1, skipped - room, record.offset))
        self._last_ordinal, self._last_offset = ordinal, record.offset

    def missing(self) -> dict[bytes, int]:
        """Keys whose required latest revision is not there, with that revision."""
        last = self._last_revision
        return {key: revision for key, revision in self._expected.required() if last.get(key, 0) < revision}

    def finish(self, rewritten: Collection[bytes | None]) -> None:
        """The topic is read. `rewritten` holds keys with records behind the part that was read, which entitle
        compaction to remove those in it."""
        expected, findings = self._expected, self._findings
        missing = self.missing()
        excused = missing.keys() & set(rewritten)
        ordinals = []
        for key in missing.keys() - excused:
            revision, last = missing[key], self._last_revision.get(key, 0)
            there = f"the last one there is {last}" if last else "no revision of this key is there"
            ordinals.append(expected.ordinal(key, revision))
            text = f"revision {revision} is not there, and compaction keeps the latest; {there}"
            findings.add(Suspect("missing", ordinals[-1], text, key, recall=ordinals[-1]))
        ordinals = sorted({*ordinals, *self._misplaced})
        compacted = sum(self._last_revision.values()) - self._recognised
        for gap in self._unroomed:
            compacted -= gap.lost
            already_told = bisect_right(ordinals, gap.last) - bisect_left(ordinals, gap.first)
            if gap.lost > already_told:
                self._never_written(gap, gap.lost - already_told)
        findings.left_out["rewritten since"] += len(excused)
        findings.left_out["compacted"] += max(0, compacted)

    def _never_written(self, gap: _Unroomed, lost: int) -> None:
        outputs = gap.last - gap.first + 1
        if lost == outputs == 1:
            text = f"it is not there, and the offsets before {gap.offset} leave no room for it to have been compacted"
        else:
            text = (
                f"{lost} of the {outputs} outputs that begin here are not there, and the offsets before {gap.offset} "
                "leave no room for them to have been compacted"
            )
        self._findings.add(Suspect("missing", gap.first, text, None, recall=gap.first), lost)

    def _differs(self, record: SourceRecord, key: bytes, revision: int) -> None:
        ordinal = self._expected.ordinal(key, revision)
        text = f"revision {revision} is not what the input leads to"
        self._findings.add(Suspect("different", ordinal, text, key, Told.found(record), recall=ordinal))

    def _suspect(self, record: SourceRecord, text: str) -> None:
        before = self._last_ordinal if self._last_ordinal >= 0 else None
        found = Told.found(record)
        self._findings.add(Suspect("unexpected", self._last_ordinal + 1, text, record.key, found, recall=before))


def claimed_revision(headers: Headers, value: bytes | None) -> int | None:
    """The revision a record says it is: by its ce_id header, else by its value. None when neither tells."""
    for name, text in headers:
        digits = b"" if name != "ce_id" or text is None else text.rpartition(b"/")[2]
        if digits.isdigit() and len(digits) < _TOO_MANY_DIGITS:
            return int(digits)
    try:
        return _decode(value or b"").revision
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
