"""One partition of sessions with its profiles answered at once, without topics: for tests of the rules and the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from worker.agents.profiles import ProfilesConfig, ProfilesHandler
from worker.agents.sessions import HELD_KEY, SessionsConfig, SessionsHandler
from worker.engine.batch import Batch, Effects, OutRecord, SourceRecord


class _Fed(NamedTuple):
    """A record that one stage sent and another takes."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class LonePartition:
    """Handlers and rows. Nothing else makes claims, so the order of its batches is that of the claim log."""

    def __init__(self, config: SessionsConfig, topic: str, partition: int) -> None:
        self._sessions = SessionsHandler(config)
        self._profiles = ProfilesHandler(ProfilesConfig("answers"))
        self._topic, self._partition = topic, partition
        self._answered = 0
        self.rows: dict[bytes, bytes] = {}
        self.profiles: dict[bytes, bytes] = {}

    def take(self, first_offset: int, records: Sequence[SourceRecord]) -> Effects:
        """All that the batch leads to, the answers to its claims included: rows as they are in the end, and what was
        sent, in order."""
        effects = self._step(Batch(self._topic, self._partition, first_offset, records))
        effects.rows.pop(HELD_KEY, None)
        claims = [record for sent in effects.routed.values() for each in sent.values() for record in each]
        if not claims:
            return effects
        done = effects.taken or 0
        answers = self._ask(claims)
        rest = records[done:]
        offset = records[done - 1].offset + 1 if done else first_offset
        more = self._step(Batch(self._topic, self._partition, offset, (), self._answered, answers))
        self._answered += len(answers)
        more.rows.pop(HELD_KEY, None)
        sends = _joined(effects.sends, more.sends)
        both = Effects(effects.rows | more.rows, sends, summary=effects.summary, taken=done)
        if not rest:
            return both
        last = self.take(offset, rest)
        return Effects(both.rows | last.rows, _joined(both.sends, last.sends), summary=last.summary, taken=len(records))

    def _step(self, batch: Batch) -> Effects:
        effects = self._sessions(batch, self.rows)
        _store(effects, self.rows)
        return effects

    def _ask(self, claims: Sequence[OutRecord]) -> list[_Fed]:
        asked = [_fed(number, record) for number, record in enumerate(claims)]
        effects = self._profiles(Batch("claims", 0, 0, asked), self.profiles)
        _store(effects, self.profiles)
        answers = effects.routed["answers"][self._partition]
        return [_fed(self._answered + number, record) for number, record in enumerate(answers)]


def _joined(first: dict[str, list[OutRecord]], then: dict[str, list[OutRecord]]) -> dict[str, list[OutRecord]]:
    return {topic: [*first.get(topic, ()), *then.get(topic, ())] for topic in first | then}


def _fed(offset: int, record: OutRecord) -> _Fed:
    return _Fed(offset, record.timestamp_ms, record.key, record.value, record.headers)


def _store(effects: Effects, rows: dict[bytes, bytes]) -> None:
    for key, changed in effects.rows.items():
        if changed.value is None:
            rows.pop(key, None)
        else:
            rows[key] = changed.value
