"""What was fetched of one input partition and is not committed yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from worker.engine.batch import SourceRecord


@dataclass(frozen=True, slots=True)
class Slice:
    """Records fetched together, and the offset where the fetch before them ended."""

    first_offset: int
    records: Sequence[SourceRecord]
    acknowledge: Callable[[], object]

    @property
    def next_offset(self) -> int:
        return self.records[-1].offset + 1


class Inbox:
    """Slices in the order they were fetched. They join: a gap or overlap means lost or repeated records."""

    def __init__(self, topic: str, next_offset: int) -> None:
        self.topic = topic
        self.records = 0
        """How many are queued."""
        self.done_offset = next_offset
        """Everything before it is committed."""
        self._queued_offset = next_offset
        self._slices: deque[Slice] = deque()

    @property
    def is_done(self) -> bool:
        """Whether everything offered is committed."""
        return self._queued_offset == self.done_offset

    @property
    def next_offset(self) -> int:
        """Where the next slice must begin."""
        return self._queued_offset

    def offer(self, fetched: Slice) -> None:
        assert fetched.first_offset == self._queued_offset, "the caller checks that slices join"
        self._queued_offset = fetched.next_offset
        self.records += len(fetched.records)
        self._slices.append(fetched)

    def take(self, most_records: int) -> list[Slice]:
        """The oldest slices, together at most so many records, or a single larger one."""
        taken: list[Slice] = []
        count = 0
        while self._slices and (not taken or count + len(self._slices[0].records) <= most_records):
            taken.append(self._slices.popleft())
            count += len(taken[-1].records)
        self.records -= count
        return taken

    def put_back(self, slices: list[Slice], done_records: int) -> list[Slice]:
        """Queues again what is behind the first `done_records` of taken slices. Returns the slices that are done."""
        at = 0
        while at < len(slices) and len(slices[at].records) <= done_records:
            done_records -= len(slices[at].records)
            at += 1
        rest = slices[at:]
        if rest and done_records:
            cut = rest[0]
            left = cut.records[done_records:]
            rest[0] = Slice(cut.records[done_records - 1].offset + 1, left, cut.acknowledge)
        self._slices.extendleft(reversed(rest))
        self.records += sum(len(each.records) for each in rest)
        return slices[:at]


def records_of(slices: Sequence[Slice]) -> Sequence[SourceRecord]:
    """The records of all slices, without a copy where there is one slice."""
    return slices[0].records if len(slices) == 1 else list(chain.from_iterable(each.records for each in slices))
