"""Sends a stream of events to the updates topic: in order per key, at a steady rate or as fast as it goes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from worker.errors import TopicsError, WorkerError
from worker.kafka import rights
from worker.kafka.connection import client_settings, probe
from worker.load.event import StreamEvent
from worker.settings import Settings

CHUNK_EVENTS: Final = 1_000
"""Made, then sent, without a turn of the event loop: about 30 ms."""
TICK_SECONDS: Final = 0.01
"""How often a paced stream sends what is due."""
MAX_BATCH_BYTES: Final = 512 * 1024
MAX_UNANSWERED_BATCHES: Final = 64
"""Bounds what a slow broker makes this process hold: 32 MiB."""
DELIVERY_SECONDS: Final = 20


@dataclass(frozen=True, slots=True)
class Sent:
    """What was acknowledged by all in-sync replicas, by kind, and how long that took."""

    by_kind: dict[str, int]
    seconds: float

    @property
    def events(self) -> int:
        return sum(self.by_kind.values())

    @property
    def per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast and how long; None = as fast as it goes, to the end of the stream."""

    events_per_second: float | None = None
    duration_seconds: float | None = None


async def play(
    settings: Settings,
    events: Iterable[StreamEvent],
    pace: Pace,
    *,
    stop: asyncio.Event,
    on_sent: Callable[[int], None],
) -> Sent:
    """Send `events` until they end, the time is over or `stop` is set; `on_sent` gets the number of each chunk.

    Records are stamped with the time of sending, whatever time the events carry: the topic keeps records
    by that time (invoices of 2010 would be deleted before anybody read them), and latency is measured
    from it. Raises BrokerUnreachable, AccessDenied or TopicsError before anything is sent, and WorkerError at
    the first record that is not delivered.
    """
    await probe(settings)
    await rights.require(settings, rights.of_load(settings))
    await _require_topic(settings)
    producer = AIOKafkaProducer(
        **client_settings(settings),
        enable_idempotence=True,
        acks="all",
        max_batch_size=MAX_BATCH_BYTES,
        compression_type=None if settings.compression == "none" else settings.compression,
        request_timeout_ms=DELIVERY_SECONDS * 1_000,
    )
    try:
        await producer.start()
        lane = _Lane(producer, settings.topic_updates, len(await producer.partitions_for(settings.topic_updates)))
        return await _paced(lane, iter(events), pace, stop, on_sent)
    except KafkaError as error:
        raise WorkerError(
            f"an update for {settings.topic_updates} was not delivered: {type(error).__name__}: {error}",
            "see in the broker's log why; what was sent before it stays, and a second run sends it again.",
        ) from error
    finally:
        await producer.stop()


async def _require_topic(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(**client_settings(settings))
    try:
        await admin.start()
        # All topics: asking for one by name creates it on a broker that creates topics by itself.
        if settings.topic_updates not in await admin.list_topics():
            raise TopicsError(
                f"topic {settings.topic_updates} is not at {settings.bootstrap_servers}",
                "create the topics with `python -m worker topics create`.",
            )
    finally:
        await admin.close()


async def _paced(
    lane: _Lane, events: Iterator[StreamEvent], pace: Pace, stop: asyncio.Event, on_sent: Callable[[int], None]
) -> Sent:
    started = time.monotonic()
    kinds: Counter[str] = Counter()
    handed_over = 0
    while not stop.is_set():
        elapsed = time.monotonic() - started
        if pace.duration_seconds is not None and elapsed >= pace.duration_seconds:
            break
        due = CHUNK_EVENTS
        if pace.events_per_second is not None:
            due = min(due, int(elapsed * pace.events_per_second) + 1 - handed_over)
        chunk = list(islice(events, due)) if due > 0 else []
        if not chunk and due > 0:
            break
        if chunk:
            await lane.send(chunk)
            kinds.update(event.kind for event in chunk)
            handed_over += len(chunk)
            on_sent(len(chunk))
        # A paced stream waits for its next tick; one at full speed only lets the event loop turn.
        await asyncio.sleep(TICK_SECONDS if due < CHUNK_EVENTS else 0)
    await lane.flush()
    return Sent(dict(kinds), time.monotonic() - started)


class _Lane:
    """Batches per partition of one topic. A key's events stay in order: one partition, one batch after the other."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._unanswered: deque[asyncio.Future[Any]] = deque()
        self._keyless = 0
        # Java's default partitioner; murmur2 in Python costs more than all else here, so live keys are remembered.
        self._hash = lru_cache(maxsize=10_000)(murmur2)

    async def send(self, chunk: list[StreamEvent]) -> None:
        """Hand over a chunk, waiting only when too much is unanswered."""
        now_ms = time.time_ns() // 1_000_000
        batches: dict[int, Any] = {}
        for event in chunk:
            partition = self._partition(event.key)
            batch = batches.get(partition)
            if batch is None:
                batch = batches[partition] = self._producer.create_batch()
            if not _append(batch, event, now_ms):
                await self._hand_over(partition, batch)
                batch = batches[partition] = self._producer.create_batch()
                _append(batch, event, now_ms)
        for partition, batch in batches.items():
            await self._hand_over(partition, batch)
        while self._unanswered and (self._unanswered[0].done() or len(self._unanswered) > MAX_UNANSWERED_BATCHES):
            await self._unanswered.popleft()

    async def flush(self) -> None:
        """Return when everything handed over is acknowledged."""
        while self._unanswered:
            await self._unanswered.popleft()

    async def _hand_over(self, partition: int, batch: Any) -> None:
        batch.close()
        self._unanswered.append(await self._producer.send_batch(batch, self._topic, partition=partition))

    def _partition(self, key: bytes | None) -> int:
        if key is None:
            self._keyless += 1
            return self._keyless % self._partitions
        return int(self._hash(key) & 0x7FFFFFFF) % self._partitions


def _append(batch: Any, event: StreamEvent, now_ms: int) -> bool:
    """False when the batch is full."""
    return batch.append(timestamp=now_ms, key=event.key, value=event.value, headers=list(event.headers)) is not None
