"""One stage's part in the work of a partition: its queues, its handler and its store.

The stages of one partition number share its transactions (transaction.py); what each of them reads,
decides and stores is its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from worker.engine.batch import Batch, BatchHandler, Effects
from worker.engine.config import StageConfig
from worker.engine.inbox import Inbox, Slice, records_of
from worker.engine.position import Position
from worker.engine.store import PartitionStore


@dataclass(frozen=True, slots=True)
class Taken:
    """What a lane takes out of its queues for one transaction."""

    lane: Lane
    source: list[Slice]
    feedback: list[Slice]

    def __str__(self) -> str:
        """Every record of it, for an error: topic[partition], offsets."""
        return " and ".join(
            f"{inbox.topic}[{self.lane.partition}], offsets {slices[0].first_offset} to {slices[-1].next_offset - 1}"
            for inbox, slices in ((self.lane.source, self.source), (self.lane.feedback, self.feedback))
            if slices
        )


@dataclass(frozen=True, slots=True)
class Decided:
    """What a lane contributes to one transaction."""

    lane: Lane
    done: list[Slice]
    """Of source and feedback, to be acknowledged."""
    records: int
    """Of the source."""
    effects: Effects
    position: Position
    timestamp_ms: int
    """Of the last record it took: that of the position record."""
    handler_seconds: float

    @property
    def next_offsets(self) -> Mapping[str, int]:
        """The next offset of each of the stage's input topics."""
        offsets = {self.lane.stage.source_topic: self.position.offset}
        if self.lane.stage.feedback_topic is not None:
            offsets[self.lane.stage.feedback_topic] = self.position.feedback_offset
        return offsets


class Lane:
    """Not thread-safe. Life of a transaction: `take` → `decide` → `store_committed`."""

    def __init__(
        self, stage: StageConfig, partition: int, handler: BatchHandler, store: PartitionStore, start: Position
    ) -> None:
        self.stage = stage
        self.store = store
        self.source = Inbox(stage.source_topic, start.offset)
        # A stage without feedback has an inbox of it that stays empty.
        self.feedback = Inbox(stage.feedback_topic or "", start.feedback_offset)
        self.partition = partition
        self._handler = handler
        self._source_id = start.topic_id
        self._awaits_feedback = False

    def __str__(self) -> str:
        return f"{self.stage.source_topic}[{self.partition}]"

    def inbox(self, topic: str) -> Inbox:
        return self.source if topic == self.source.topic else self.feedback

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do before more arrives."""
        return self.feedback.is_done and (self.source.is_done or self._awaits_feedback)

    @property
    def can_work(self) -> bool:
        return self.feedback.records > 0 or (self.source.records > 0 and not self._awaits_feedback)

    def take(self, most_records: int) -> Taken | None:
        """What is queued, at most so many records of the source and of the feedback. None: nothing that can be
        worked on."""
        feedback = self.feedback.take(most_records)
        self._awaits_feedback = self._awaits_feedback and not feedback
        source = [] if self._awaits_feedback else self.source.take(most_records)
        return Taken(self, source, feedback) if source or feedback else None

    def decide(self, taken: Taken) -> Decided | None:
        """Lets the handler turn it into effects. What it leaves is queued again. None: it took nothing at all."""
        started = time.perf_counter()
        source, feedback = taken.source, taken.feedback
        records, answers = records_of(source), records_of(feedback)
        batch = Batch(
            self.source.topic,
            self.partition,
            self.source.done_offset,
            records,
            self.feedback.done_offset,
            answers,
        )
        effects = self._handler(batch, self.store)
        done = len(records) if effects.taken is None else effects.taken
        if done < len(records):
            source = self.source.put_back(source, done)
            self._awaits_feedback = True
            if not done and not answers:
                return None
        position = Position(
            self.source.topic,
            records[done - 1].offset + 1 if done else self.source.done_offset,
            answers[-1].offset + 1 if answers else self.feedback.done_offset,
            self._source_id,
        )
        last = records[done - 1] if done else answers[-1]
        seconds = time.perf_counter() - started
        return Decided(self, [*source, *feedback], done, effects, position, last.timestamp, seconds)

    def store_committed(self, decided: Decided, changelog_offset: int) -> None:
        """After the commit: what it changed becomes what is stored."""
        self.store.apply(decided.effects.rows, decided.position, changelog_offset)
        self.source.done_offset = decided.position.offset
        self.feedback.done_offset = decided.position.feedback_offset
