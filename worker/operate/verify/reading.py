"""Kafka, only read: without a consumer group, committed records only, nothing committed, no topic created.

All topics must exist before (a client that asks for a missing one may make the broker create it).
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from worker.engine.batch import SourceRecord
from worker.errors import BrokerUnreachable, NotVerifiable
from worker.kafka.connection import client_settings
from worker.settings import Settings

POLL_MS: Final = 20
"""A read that ends at a commit marker learns so only by asking again."""
PATIENCE_SECONDS: Final = 60.0
"""Without any progress. A transaction whose worker died stays open for 30 s, then the broker aborts it."""
_FETCH_BYTES: Final = 4 << 20


class PartitionLog:
    """The committed records of one partition, read once, forwards, from `begin` up to `end`."""

    def __init__(self, consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self._consumer = consumer
        self._partition = partition
        self._position = begin
        self._fetched: Sequence[SourceRecord] = ()
        self._taken = 0

    async def until(self, offset: int | None = None) -> AsyncIterator[Sequence[SourceRecord]]:
        """The records below `offset` (default: all) that were not read yet, in pieces that are never empty."""
        limit = self.end if offset is None else min(offset, self.end)
        while True:
            cut = bisect_left(self._fetched, limit, lo=self._taken, key=lambda record: record.offset)
            if cut > self._taken:
                piece = self._fetched[self._taken : cut]
                self._taken = cut
                yield piece
            if cut < len(self._fetched) or self._position >= limit:
                return
            await self._fetch()

    async def _fetch(self) -> None:
        """More records, or a position further on, behind markers and aborted records."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        before = self._position
        while True:
            fetched = await self._consumer.getmany(self._partition, timeout_ms=POLL_MS)
            self._fetched, self._taken = fetched.get(self._partition, ()), 0
            self._position = await self._consumer.position(self._partition)
            if self._fetched or self._position > before:
                return
            if time.monotonic() > deadline:
                where = f"{self._partition.topic}[{self._partition.partition}] at offset {before}"
                raise BrokerUnreachable(
                    f"nothing could be read of {where} for {PATIENCE_SECONDS:.0f} s",
                    "see whether the partition has a leader, then verify again",
                )


class Reader:
    """What `verify` asks of Kafka, one partition number at a time."""

    def __init__(self, reading: AIOKafkaConsumer, committed: AIOKafkaConsumer, uncommitted: AIOKafkaConsumer) -> None:
        """`reading` reads; the others only tell offsets, each as its isolation level sees them."""
        self._reading = reading
        self._committed = committed
        self._uncommitted = uncommitted

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, topics: Sequence[str]) -> AsyncIterator[Reader]:
        """Connected for as long as the context lasts, to read these topics."""
        async with AsyncExitStack() as stack:
            consumers = []
            for isolation_level in ("read_committed", "read_committed", "read_uncommitted"):
                consumer = AIOKafkaConsumer(
                    **client_settings(settings),
                    isolation_level=isolation_level,
                    enable_auto_commit=False,
                    auto_offset_reset="none",
                    max_partition_fetch_bytes=_FETCH_BYTES,
                    fetch_max_wait_ms=POLL_MS,
                )
                stack.push_async_callback(consumer.stop)
                await consumer.start()
                consumers.append(consumer)
            everything = [TopicPartition(topic, number) for topic in topics for number in range(settings.partitions)]
            for consumer in consumers[1:]:
                _know(consumer, everything)
            yield cls(*consumers)

    async def beginning(self, topic: str, partition: int) -> int:
        asked = TopicPartition(topic, partition)
        return int((await self._committed.beginning_offsets([asked]))[asked])

    async def decided_end(self, topic: str, partition: int) -> int:
        """Where open transactions begin, if there are any; else the high watermark."""
        asked = TopicPartition(topic, partition)
        return int((await self._committed.end_offsets([asked]))[asked])

    async def high_watermarks(self, partition: int, *topics: str) -> list[int]:
        """Behind the last record of each topic, whatever becomes of its transaction."""
        asked = [TopicPartition(topic, partition) for topic in topics]
        ends = await self._uncommitted.end_offsets(asked)
        return [int(ends[one]) for one in asked]

    async def wait_decided(self, topic: str, partition: int, end: int) -> None:
        """Returns when every transaction with records below `end` is committed or aborted."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (decided := await self.decided_end(topic, partition)) < end:
            if time.monotonic() > deadline:
                raise NotVerifiable(
                    f"{topic}[{partition}]: a transaction is open since offset {decided}, for "
                    f"{PATIENCE_SECONDS:.0f} s and more",
                    "start the worker: it ends what its predecessor left open; then verify again",
                )
            await asyncio.sleep(POLL_MS / 1000)

    def open_logs(self, partition: int, *asked: tuple[str, int, int]) -> list[PartitionLog]:
        """Logs of these (topic, begin, end), to be read together; those opened before are closed."""
        tps = [TopicPartition(topic, partition) for topic, _, _ in asked]
        self._reading.assign(tps)
        for tp, (_, begin, _) in zip(tps, asked, strict=True):
            self._reading.seek(tp, begin)
        return [PartitionLog(self._reading, tp, begin, end) for tp, (_, begin, end) in zip(tps, asked, strict=True)]


def _know(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
    """Makes a consumer keep the leaders of these partitions in mind, without fetching from them: for a topic that
    it does not know, each question costs a metadata request and a tenth of a second."""
    consumer.assign(partitions)
    for partition in partitions:
        consumer.seek(partition, 0)
    consumer.pause(*partitions)
