"""What is fetched and not committed: slices join, are taken in order, and what was not done comes back in its place."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.inbox import Inbox, Slice, records_of


class Record(NamedTuple):
    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def sliced(*offsets: int, first: int | None = None) -> Slice:
    return Slice(offsets[0] if first is None else first, [Record(offset) for offset in offsets], lambda: None)


def offsets(slices: list[Slice]) -> list[int]:
    return [record.offset for record in records_of(slices)]


def test_slices_are_taken_whole_and_at_least_one() -> None:
    inbox = Inbox("updates", 10)
    for each in (sliced(10, 11), sliced(12, 14), sliced(15, 16, 17, first=15)):
        inbox.offer(each)
    assert (inbox.records, inbox.next_offset, inbox.is_done) == (7, 18, False)
    assert offsets(inbox.take(4)) == [10, 11, 12, 14]
    assert offsets(inbox.take(2)) == [15, 16, 17], "a slice larger than the batch is taken alone"
    assert inbox.take(2) == []
    inbox.done_offset = 18
    assert inbox.is_done


def test_a_gap_is_refused() -> None:
    inbox = Inbox("updates", 10)
    with pytest.raises(AssertionError):
        inbox.offer(sliced(11))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data())
def test_what_was_not_done_is_taken_again_and_nothing_else(sizes: list[int], data: st.DataObject) -> None:
    inbox, offset = Inbox("updates", 0), 0
    for size in sizes:
        inbox.offer(sliced(*range(offset, offset + size)))
        offset += size
    taken = inbox.take(data.draw(st.integers(1, offset)))
    all_taken = offsets(taken)
    done = data.draw(st.integers(0, len(all_taken)))
    acknowledged = inbox.put_back(taken, done)
    assert offsets(acknowledged) == all_taken[: len(offsets(acknowledged))]
    assert len(offsets(acknowledged)) <= done, "a slice is acknowledged when all of it is done"
    assert inbox.records == offset - done
    again = inbox.take(offset) if done < offset else []
    assert offsets(again) == list(range(done, offset))
    if again:
        assert again[0].first_offset == done
