"""The worker's rules and wire on a stage of their own: one partition, its rows in a dict, no broker.

Everything that comes out is put before the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tests.partition import LonePartition
from tests.schemas import judge
from worker.agents.sessions import SessionsConfig

NOON_MS: Final = 1_795_342_530_100
"""2026-11-22T10:15:30.100Z, the timestamp of records unless told otherwise."""

TOPIC: Final = "sessions.updates.v1"
PARTITION: Final = 2


class Source(NamedTuple):
    """An input record."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = NOON_MS


class Answer(NamedTuple):
    """What became of one input record."""

    outcome: str
    """accepted, unchanged, duplicate or rejected, as the ledger says."""
    record: dict[str, Any] | None
    """The enriched record, numbers exact."""
    enriched_headers: dict[str, str]
    reason: dict[str, str]
    """The nine headers of the dead letter."""
    ledger: dict[str, Any]
    ledger_of_answers: dict[str, Any]
    """Of the transaction that took the answer to first_session; empty when there was none."""


class Stage:
    """One partition of the worker. `send` plays one record, as a batch of its own."""

    def __init__(self, config: SessionsConfig | None = None) -> None:
        self._config = config or SessionsConfig()
        self._partition = LonePartition(self._config, TOPIC, PARTITION)
        self._next_offset = 0

    def send(
        self,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp: int = NOON_MS,
    ) -> Answer:
        """The worker's answer to one record, judged."""
        source = Source(self._next_offset, key, value, headers, timestamp)
        self._next_offset += 1
        effects = self._partition.take(source.offset, [source])
        ledger_record, *later = effects.sends.pop(self._config.ledger_topic)
        ledger_of_answers = {}
        for out in later:
            ledger_of_answers = judge.check_ledger(out.value or b"")
        assert ledger_record.key is None
        assert ledger_record.value is not None
        ledger = judge.check_ledger(ledger_record.value)
        [outcome] = [name for name, count in ledger["outcomes"].items() if count]

        record, enriched_headers, reason = None, {}, {}
        if outcome == "accepted":
            [out] = effects.sends.pop(self._config.enriched_topic)
            assert out.value is not None
            record = judge.check_enriched(out.value, out.headers, out.key)
            assert ("integrationId" in record) == (self._config.output_case == "camel")
            enriched_headers = {name: text.decode(errors="replace") for name, text in out.headers}
        elif outcome == "rejected":
            [out] = effects.sends.pop(self._config.dead_letters_topic)
            assert (out.key, out.value, out.timestamp_ms) == (key, value, timestamp)
            reason = judge.check_dead_letter(out.headers, headers)
            assert reason["dead_letter.offset"] == str(source.offset)
            assert ledger["reasons"] == {reason["dead_letter.code"]: 1}
        assert not any(effects.sends.values())
        return Answer(outcome, record, enriched_headers, reason, ledger, ledger_of_answers)
