"""What a comparison finds: how many records it looked at, how many are not as they must be, and the first of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

import msgspec

from worker.engine.batch import OutRecord, SourceRecord

KEPT: Final = 20
"""Differences told per topic and partition; counts are always complete."""

DIGEST_BYTES: Final = 12
"""96 bits: no two of a billion records alike by accident, and small enough to keep one for every record."""

Kind = Literal["different", "missing", "unexpected", "out of order"]

Headers = Sequence[tuple[str, bytes]]


class Told(NamedTuple):
    """A record, there or expected, in the one form that comparisons and descriptions use."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    offset: int | None = None
    """In its topic; None for an expected record, which has none yet."""

    @classmethod
    def found(cls, record: SourceRecord) -> Told:
        return cls(record.key, record.value, tuple(record.headers), record.timestamp, record.offset)

    @classmethod
    def expected(cls, record: OutRecord) -> Told:
        return cls(record.key, record.value, tuple(record.headers), record.timestamp_ms)


class Suspect(NamedTuple):
    """A difference before it is described. `place` orders the suspects of one comparison as their input is ordered."""

    kind: Kind
    place: int
    text: str
    """What is wrong, a sentence without payload."""
    key: bytes | None
    found: Told | None = None
    expected: Told | None = None
    """Known at once for rows and ledger records; else None, and folded once more from `recall`."""
    recall: int | None = None
    """Which expected record: the ordinal of an output, the source offset of a dead letter. Of an unexpected output
    the one it stands behind, which tells only where it belongs in the list."""
    source_offset: int | None = None


@dataclass
class Findings:
    """What one comparison found in one partition of one topic."""

    compared: int = 0
    """Records of the topic that were held against the input."""
    differences: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Expected records that are rightly not there, by why: "compacted", "deleted by retention", "rewritten since"."""
    suspects: list[Suspect] = field(default_factory=list)
    """The first KEPT by place."""

    def add(self, suspect: Suspect, records: int = 1) -> None:
        """Counts a difference of so many records, and keeps it when it is among the first."""
        self.differences += records
        self.suspects.append(suspect)
        if len(self.suspects) > 2 * KEPT:
            self.settle()

    def settle(self) -> None:
        """Puts the suspects in order and drops what is beyond the first KEPT."""
        self.suspects.sort(key=lambda suspect: suspect.place)
        del self.suspects[KEPT:]


_encode: Final = msgspec.msgpack.Encoder().encode


def digest(key: bytes | None, value: bytes | None, headers: Headers, timestamp_ms: int) -> bytes:
    """Stands for a whole record: key, value, headers in their order, and timestamp."""
    return blake2b(_encode((key, value, headers, timestamp_ms)), digest_size=DIGEST_BYTES).digest()
