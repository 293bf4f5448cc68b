"""What the worker made of a stream, read back from its output topics as any consumer would (read_committed)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from worker.kafka.connection import client_settings
from worker.settings import Settings

MARKERS_SECONDS: Final = 10.0
"""A commit is answered before its markers are in every topic: consumers may see the last records a moment later."""

# Numbers with a point as exact Decimals.
_decode: Final = msgspec.json.Decoder(float_hook=Decimal).decode


class Enriched(NamedTuple):
    """A session's latest record on the enriched topic; the numbers are int or Decimal, exact."""

    integration_id: str
    type: str
    revision: int
    application_id: int
    profile_id: str
    state: str
    first_session: bool
    items: int
    cart_item_total: Decimal
    additional_cost_total: Decimal
    total: Decimal
    value: bytes


class DeadLetter(NamedTuple):
    """A rejected record: its key for display, and what its headers say."""

    key: str
    code: str
    message: str
    pointer: str


@dataclass(slots=True)
class Readout:
    """Everything on the output topics."""

    sessions: dict[bytes, bytes] = field(default_factory=dict)
    """Key -> the latest enriched value, as compaction would leave it."""
    enriched_records: int = 0
    dead_letters: list[DeadLetter] = field(default_factory=list)
    transactions: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """Input events with an outcome, as the ledger adds up."""
        return self.outcomes.total()

    def adds_up_to(self, sent: int) -> bool:
        """Whether every event sent has its outcome, and every outcome its record."""
        return (
            self.events == sent
            and self.enriched_records == self.outcomes["accepted"]
            and len(self.dead_letters) == self.outcomes["rejected"]
        )

    def latest(self) -> Iterator[Enriched]:
        """Every session's latest record, in either spelling of the output."""
        for value in self.sessions.values():
            yield _enriched(value)


async def read(settings: Settings, sent: int) -> Readout:
    """Read the enriched, dead-letter and ledger topics from their beginning until they account for `sent` events.

    Returns what there is when that does not happen within MARKERS_SECONDS of the last record read: the
    caller compares.
    """
    readout = Readout()
    take = {
        settings.topic_enriched: _take_enriched,
        settings.topic_dead_letters: _take_dead_letter,
        settings.topic_ledger: _take_ledger,
    }
    async with consumer_of(settings, *take) as consumer:
        last_read = time.monotonic()
        while not readout.adds_up_to(sent) and time.monotonic() - last_read < MARKERS_SECONDS:
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                last_read = time.monotonic()
                for record in records:
                    take[partition.topic](readout, record)
    return readout


@asynccontextmanager
async def consumer_of(settings: Settings, *topics: str) -> AsyncIterator[Any]:
    """A groupless read_committed consumer of all partitions of those topics, at their beginning."""
    consumer = AIOKafkaConsumer(
        **client_settings(settings),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for topic in topics for number in range(settings.partitions)])
        yield consumer
    finally:
        await consumer.stop()


def _take_enriched(readout: Readout, record: Any) -> None:
    readout.enriched_records += 1
    readout.sessions[record.key] = record.value


def _take_dead_letter(readout: Readout, record: Any) -> None:
    # A record's own headers come first and could bear the same names: the last ones are the worker's.
    headers = {name: text for name, text in record.headers if name.startswith("dead_letter.")}
    code, message, pointer = (headers[f"dead_letter.{name}"].decode() for name in ("code", "message", "pointer"))
    key = "" if record.key is None else record.key.decode(errors="backslashreplace")
    readout.dead_letters.append(DeadLetter(key, code, message, pointer))


def _take_ledger(readout: Readout, record: Any) -> None:
    entry = _decode(record.value)
    readout.transactions += 1
    readout.outcomes.update(entry["outcomes"])
    readout.reasons.update(entry["reasons"])


def _either(fields: dict[str, Any], snake: str, camel: str) -> Any:
    return fields[snake] if snake in fields else fields[camel]


def _enriched(value: bytes) -> Enriched:
    record = _decode(value)
    session = _either(record, "customer_session", "customerSession")
    return Enriched(
        integration_id=_either(record, "integration_id", "integrationId"),
        type=record["type"],
        revision=record["revision"],
        application_id=_either(record, "application_id", "applicationId"),
        profile_id=_either(session, "profile_id", "profileId"),
        state=session["state"],
        first_session=_either(session, "first_session", "firstSession"),
        items=len(_either(session, "cart_items", "cartItems")),
        cart_item_total=Decimal(_either(session, "cart_item_total", "cartItemTotal")),
        additional_cost_total=Decimal(_either(session, "additional_cost_total", "additionalCostTotal")),
        total=Decimal(session["total"]),
        value=value,
    )
