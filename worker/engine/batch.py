"""What the engine hands to an application and what it takes back: the only surface the two share.

A batch is a contiguous slice of one source partition. The application turns it into effects, without
side effects of its own; the engine makes all effects of a batch, and the fact that it was read, real
in one Kafka transaction, or none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

RESERVED_KEY_PREFIX: Final = b"\xff"
"""Row keys that begin with this byte are not application ids: it never occurs in UTF-8."""


class SourceRecord(Protocol):
    """One record as it was fetched (aiokafka's ConsumerRecord fits)."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch, as the producer or the broker set it."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one source partition, in offset order, and of the feedback partition of the same number, if the
    stage has feedback. At least one record of either.

    `first_offset` is where the previous transaction of this partition ended, so the ranges
    `first_offset..last_offset` of successive batches join without gap or overlap. Offsets may be missing
    inside (transaction markers, compaction): do not assume `len(records)` equals the range's length.
    """

    topic: str
    partition: int
    first_offset: int
    records: Sequence[SourceRecord]
    feedback_first_offset: int = 0
    feedback: Sequence[SourceRecord] = ()
    """Comes before `records`, whatever the timestamps say."""

    @property
    def last_offset(self) -> int:
        """Of the source; one less than `first_offset` in a batch of feedback alone."""
        return self.records[-1].offset if self.records else self.first_offset - 1


class RowsView(Protocol):
    """Committed rows of the batch's partition. Changes of the batch itself are not in it."""

    def get(self, key: bytes, /) -> bytes | None: ...


class OutRecord(NamedTuple):
    """A record to send. `timestamp_ms` must derive from the input, never from the clock: outputs of a
    reprocessed input are byte-identical. (A topic may be set to stamp what is written itself.)"""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    """A list, because aiokafka takes nothing else; never changed, so it may be shared."""
    timestamp_ms: int


@dataclass(slots=True)
class Effects:
    """All that a batch changes."""

    rows: dict[bytes, OutRecord] = field(default_factory=dict)
    """Changed rows by key, one each; a value of None deletes the row. They go to the changelog and,
    once committed, to the local store."""

    sends: dict[str, list[OutRecord]] = field(default_factory=dict)
    """Records by topic, sent in this order to the partition with the batch's number."""

    routed: dict[str, dict[int, list[OutRecord]]] = field(default_factory=dict)
    """Records by topic and partition, for those that belong elsewhere."""

    taken: int | None = None
    """How many of the batch's source records these are the effects of, from its first; None = all. What was not
    taken is handed out again once feedback arrives, and no sooner: a stage with no feedback takes all. All
    feedback is always taken, or two stages could wait for each other."""

    summary: object = None
    """Handed to the engine's observer after the commit, for metrics and logs."""


class BatchHandler(Protocol):
    """The application: pure, synchronous, deterministic.

    Callers must not assume that returning means the effects happened: the transaction may fail, and the
    same records come again in batches of other sizes. An exception is a bug and stops the process.
    """

    def __call__(self, batch: Batch, rows: RowsView, /) -> Effects: ...
