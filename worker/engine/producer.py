"""A transactional producer that belongs to one partition number, sending few large record batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    RecordListTooLargeError,
)
from aiokafka.structs import RecordMetadata, TopicPartition

from worker.engine.batch import OutRecord
from worker.engine.config import EngineConfig
from worker.engine.failpoint import reached
from worker.errors import TopicsError

# Under every topic's default max.message.bytes (1,048,588) whatever the compression does.
_MAX_BATCH_BYTES: Final = 900_000
# A request without an answer is sent again within the transaction's time: a connection may be half open, where
# what is sent vanishes and nothing ever comes back.
_ATTEMPTS_PER_TRANSACTION: Final = 3
_ASK_AGAIN_SECONDS: Final = 0.1
_REFUSED_FOR: Final = {
    MessageSizeTooLargeError: "max.message.bytes",
    RecordListTooLargeError: "segment.bytes",
    InvalidTimestampError: "message.timestamp.before.max.ms or message.timestamp.after.max.ms",
}
"""Errors no retry heals, and the topic's setting behind each."""


class TransactionalProducer:
    """Life: `open` → (`begin` → `send`… → `commit`)* → `close`. One transaction at a time."""

    def __init__(self, config: EngineConfig, partition: int) -> None:
        self._config = config
        self._partition = partition
        self._kafka = AIOKafkaProducer(
            **config.client,
            client_id=f"{config.instance_id}-{partition}",
            transactional_id=config.transactional_id(partition),
            transaction_timeout_ms=int(config.transaction_timeout_seconds * 1000),
            request_timeout_ms=int(config.transaction_timeout_seconds * 1000 / _ATTEMPTS_PER_TRANSACTION),
            max_batch_size=_MAX_BATCH_BYTES,
            compression_type=config.compression,
        )
        # How long a batch may wait while nobody leads its partition: as long as the transaction may take, and not
        # only as long as one request.
        assert hasattr(self._kafka._message_accumulator, "_batch_ttl")
        self._kafka._message_accumulator._batch_ttl = config.transaction_timeout_seconds
        self._kafka.client.coordinator_lookup = _patient(self._kafka.client.coordinator_lookup)

    async def open(self) -> None:
        """Returns once InitProducerId is done: the previous owner is fenced, its open transaction aborted."""
        await self._start()
        # Metadata of every topic now, so that no send has to wait for it inside a transaction. All at once: the group
        # waits for this, and each question takes a round trip.
        topics = {
            topic
            for stage in self._config.stages
            for topic in (self._config.changelog_topic(stage), *stage.output_topics)
        }
        await asyncio.gather(*(self._kafka.client.add_topic(topic) for topic in topics))

    async def _start(self) -> None:
        """A lonely broker that was silent for long knows of no broker for a moment, itself included, which aiokafka
        takes for a fault of its own. The watchdog ends what takes too long."""
        client = self._kafka.client
        while True:
            try:
                await self._kafka.start()
                return
            except AssertionError:
                if client.cluster.brokers():
                    raise
            while not client.cluster.brokers():
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
                if not await client.force_metadata_update() and not client._conns:
                    await client.bootstrap()  # the only connection ended meanwhile

    async def begin(self) -> None:
        await self._kafka.begin_transaction()

    async def send(self, topic: str, records: Iterable[OutRecord], partition: int | None = None) -> list[Delivery]:
        """Hands records to a partition, by default that of this producer's number, in as few batches as fit.

        Returning does not mean delivered: await each Delivery.
        """
        to = self._partition if partition is None else partition
        deliveries: list[Delivery] = []
        batch = self._kafka.create_batch()
        for key, value, headers, timestamp_ms in records:
            if batch.append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
                deliveries.append(await self._send_batch(topic, to, batch))
                batch = self._kafka.create_batch()
                batch.append(timestamp=timestamp_ms, key=key, value=value, headers=headers)
        if batch.record_count():
            deliveries.append(await self._send_batch(topic, to, batch))
        return deliveries

    async def _send_batch(self, topic: str, partition: int, batch: object) -> Delivery:
        count: int = batch.record_count()  # type: ignore[attr-defined]  # aiokafka is untyped
        while True:
            try:
                future = await self._kafka.send_batch(batch, topic, partition=partition)
            except KafkaTimeoutError:
                continue  # the batch before it still waits for the broker, for longer than one request
            return Delivery(future, count, f"{topic}[{partition}]")

    async def commit(self, next_offsets: Mapping[str, int]) -> None:
        """Adds the next offset of each input topic to the transaction and commits it."""
        offsets = {TopicPartition(topic, self._partition): offset for topic, offset in next_offsets.items()}
        await self._kafka.send_offsets_to_transaction(offsets, self._config.app_id)
        await reached("5b")
        await self._kafka.commit_transaction()

    @property
    def is_kept_waiting(self) -> bool:
        """Whether the coordinator has not yet let the transaction begin: it is away, or still ends the one before,
        whose markers must be written to every partition of that."""
        return bool(self._kafka._txn_manager.partitions_to_add())

    def failed_with(self) -> BaseException | None:
        """Why the running transaction failed, if it did. What is sent after that fails with an error of its own."""
        waiter = self._kafka._txn_manager._transaction_waiter
        return waiter.exception() if waiter is not None and waiter.done() and not waiter.cancelled() else None

    async def close(self) -> None:
        await self._kafka.stop()


_Lookup = Callable[[int, str], Awaitable[int]]


def _patient(lookup: _Lookup) -> _Lookup:
    """Who coordinates? aiokafka's producer asks again when a broker cannot be reached, but takes a connection that ends
    while it asks for the end of everything."""

    async def coordinator_lookup(kind: int, key: str) -> int:
        try:
            return await lookup(kind, key)
        except KafkaConnectionError as error:
            raise NodeNotReadyError(str(error)) from error

    return coordinator_lookup


class Delivery:
    """One record batch on its way."""

    __slots__ = ("_count", "_future", "target")

    def __init__(self, future: asyncio.Future[RecordMetadata], count: int, target: str) -> None:
        self._future = future
        self._count = count
        self.target = target
        """topic[partition]"""

    @property
    def is_pending(self) -> bool:
        """Whether the broker has not answered yet."""
        return not self._future.done()

    def refusal(self) -> TopicsError | None:
        """What in the topic's settings refused the records, if that is why they were not delivered."""
        error = None if self.is_pending or self._future.cancelled() else self._future.exception()
        for kind, setting in _REFUSED_FOR.items():
            if isinstance(error, kind):
                return TopicsError(
                    f"{self.target} refuses {self._count} records in one batch, because of the topic's {setting}",
                    f"set {setting} of this topic to what `python -m worker topics check` lists as declared, or to "
                    "the broker's default; then start the worker again: nothing was acknowledged, it continues with "
                    "these records",
                )
        return None

    async def offsets(self) -> range:
        """Waits for the broker; returns the offsets the records got. Raises the delivery's error."""
        first = int((await self._future).offset)  # the metadata's offset is that of the batch's FIRST record
        return range(first, first + self._count)
