"""A whole installation in memory: the worker's handlers over topics that are lists, without a broker.

Transactions run one after another, each all or nothing, in whatever order and sizes a test wants them, of one stage
at a time; the rest of the protocol is the engine's (first offsets join, feedback first, source rests until feedback
when a batch ends early).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.logs import Logs, Record
from worker.agents.profiles import ProfilesConfig, ProfilesHandler
from worker.agents.sessions import SessionsConfig, SessionsHandler
from worker.engine.batch import Batch, BatchHandler, Effects, OutRecord
from worker.engine.position import POSITION_KEY, Position, encode_position

SIZES: Final = (1, 2, 7, 100, 1_000)


WRITTEN_MS: Final = 1_800_000_000_000
"""What a topic that stamps its records itself says, in ms: any time but the input's."""


class Topic:
    """Appends records as a broker would."""

    def __init__(self, partitions: int, *, stamps: bool = False) -> None:
        """stamps: whether records get the time they are written (LogAppendTime), as claims, answers and ledger do."""
        self.log: dict[int, list[Record]] = {partition: [] for partition in range(partitions)}
        self._stamps = stamps

    def append(self, partition: int, record: OutRecord) -> None:
        log = self.log[partition]
        offset = log[-1].offset + 1 if log else 0
        timestamp = WRITTEN_MS + offset if self._stamps else record.timestamp_ms
        log.append(Record(partition, offset, timestamp, record.key, record.value, tuple(record.headers)))


@dataclass
class Place:
    """One partition of one stage: what it reads, its state, and where it stands."""

    stage: str
    partition: int
    handler: BatchHandler
    source: Sequence[Record]
    feedback: Sequence[Record]
    changelog: str
    rows: dict[bytes, bytes] = field(default_factory=dict)
    source_done: int = 0
    """How many records of the source are done; likewise `feedback_done`."""
    feedback_done: int = 0
    awaits_feedback: bool = False

    @property
    def waiting(self) -> tuple[int, int]:
        """How many records of source and feedback can be taken."""
        feedback = len(self.feedback) - self.feedback_done
        return 0 if self.awaits_feedback and not feedback else len(self.source) - self.source_done, feedback


class Installation:
    """Processes `source` as a worker with this config would."""

    def __init__(
        self, source_topic: str, source: Mapping[int, Sequence[Record]], config: SessionsConfig, app_id: str
    ) -> None:
        self.source_topic, self.source, self.config = source_topic, source, config
        self.answers = f"{app_id}-profile-answers"
        self.changelogs = {name: f"{app_id}-{name}-changelog" for name in ("sessions", "profiles")}
        self.partitions = len(source)
        assert config.partitions == self.partitions
        dated = (config.enriched_topic, config.dead_letters_topic, *self.changelogs.values())
        self.topics = {name: Topic(self.partitions) for name in dated}
        for name in (config.ledger_topic, config.claims_topic, self.answers):
            self.topics[name] = Topic(self.partitions, stamps=True)
        self.places = [place for partition in range(self.partitions) for place in self._places(partition)]

    def _places(self, partition: int) -> tuple[Place, Place]:
        answers, claims = self.topics[self.answers].log[partition], self.topics[self.config.claims_topic].log[partition]
        sessions, profiles = SessionsHandler(self.config), ProfilesHandler(ProfilesConfig(self.answers))
        return (
            Place("sessions", partition, sessions, self.source[partition], answers, self.changelogs["sessions"]),
            Place("profiles", partition, profiles, claims, (), self.changelogs["profiles"]),
        )

    def step(self, place: Place, most_source: int, most_feedback: int) -> Effects | None:
        """One transaction of at most so many records; None when there was nothing to do."""
        can_source, can_feedback = place.waiting
        records = place.source[place.source_done :][: min(most_source, can_source)]
        feedback = place.feedback[place.feedback_done :][: min(most_feedback, can_feedback)]
        if not records and not feedback:
            return None
        place.awaits_feedback = place.awaits_feedback and not feedback
        topic = self.source_topic if place.stage == "sessions" else self.config.claims_topic
        batch = Batch(topic, place.partition, _reached(place.source, place.source_done), records)
        if feedback:
            batch = Batch(
                topic,
                place.partition,
                batch.first_offset,
                records,
                _reached(place.feedback, place.feedback_done),
                feedback,
            )
        effects = place.handler(batch, place.rows)
        taken = len(records) if effects.taken is None else effects.taken
        place.awaits_feedback = taken < len(records)
        if taken or feedback:
            self._commit(place, effects, taken, len(feedback), topic)
        return effects

    def _commit(self, place: Place, effects: Effects, source: int, feedback: int, topic: str) -> None:
        place.source_done += source
        place.feedback_done += feedback
        offsets = _reached(place.source, place.source_done), _reached(place.feedback, place.feedback_done)
        position = OutRecord(POSITION_KEY, encode_position(Position(topic, *offsets)), [], 0)
        for row in (*effects.rows.values(), position):
            self.topics[place.changelog].append(place.partition, row)
        for name, records in effects.sends.items():
            for record in records:
                self.topics[name].append(place.partition, record)
        for name, by_partition in effects.routed.items():
            for partition, records in by_partition.items():
                for record in records:
                    self.topics[name].append(partition, record)
        for key, row in effects.rows.items():
            if row.value is None:
                place.rows.pop(key, None)
            else:
                place.rows[key] = row.value

    def run(self, seed: int = 0, sizes: Sequence[int] = SIZES, most_steps: int = 1_000_000) -> Installation:
        """Everything there is to do, or so many steps of it: transactions in random order and of random sizes."""
        rng = random.Random(seed)
        for _ in range(most_steps):
            busy = [place for place in self.places if any(place.waiting)]
            if not busy:
                break
            self.step(rng.choice(busy), rng.choice((0, *sizes)), rng.choice((0, *sizes)))
        return self

    def logs(self) -> Logs:
        """What it leaves behind, for the oracle."""
        config = self.config
        stores: dict[str, dict[int, dict[bytes, bytes]]] = {"sessions": {}, "profiles": {}}
        committed: dict[str, dict[int, int]] = {}
        for place in self.places:
            stores[place.stage][place.partition] = dict(place.rows)
            topic = self.source_topic if place.stage == "sessions" else config.claims_topic
            committed.setdefault(topic, {})[place.partition] = _reached(place.source, place.source_done)
            if place.stage == "sessions":
                committed.setdefault(self.answers, {})[place.partition] = _reached(place.feedback, place.feedback_done)
        return Logs(
            input_topic=self.source_topic,
            input={partition: list(records) for partition, records in self.source.items()},
            output=self.topics[config.enriched_topic].log,
            dead_letters=self.topics[config.dead_letters_topic].log,
            changelog=self.topics[self.changelogs["sessions"]].log,
            ledger=self.topics[config.ledger_topic].log,
            committed=committed[self.source_topic],
            claims=self.topics[config.claims_topic].log,
            answers=self.topics[self.answers].log,
            profiles=self.topics[self.changelogs["profiles"]].log,
            committed_claims=committed[config.claims_topic],
            committed_answers=committed[self.answers],
            stores=[stores["sessions"]],
            profile_stores=[stores["profiles"]],
        )


def _reached(log: Sequence[Record], done: int) -> int:
    """The offset behind the first `done` records."""
    return log[done - 1].offset + 1 if done else 0
