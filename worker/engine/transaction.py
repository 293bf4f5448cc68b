"""One partition's work in one stage: whatever is queued becomes one Kafka transaction after another.

The protocol of a transaction; the code below carries the same numbers:

1. Take what is queued, at most `batch_max_records` of the source and of the feedback.
2. Let the handler turn it into effects, over committed rows.
3. Begin. Send changelog rows with the position record, then the handler's records, in large batches.
4. Await every delivery. (A failed batch does not poison an aiokafka transaction by itself.)
5. Send the offsets reached to the transaction; commit.
6. Apply rows, position and changelog offset to the local store in one write.
7. Acknowledge to Faust.

An error anywhere stops the process at once (failure.py): after a restart the transaction is aborted or
found committed, and in both cases the changelog tells what is true.

A handler may take fewer source records than it is given (it waits for answers). They are queued again, and the
source rests until feedback comes; feedback itself is always taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Final

import structlog
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from worker.engine.batch import Batch, BatchHandler, Effects, OutRecord
from worker.engine.config import EngineConfig, StageConfig
from worker.engine.failpoint import reached
from worker.engine.failure import as_worker_error, exit_process
from worker.engine.inbox import Inbox, Slice, records_of
from worker.engine.position import POSITION_KEY, Position, encode_position
from worker.engine.producer import Delivery, TransactionalProducer
from worker.engine.store import PartitionStore
from worker.errors import EngineFailure, WorkerError

logger = structlog.get_logger(__name__)

_SLOW_SECONDS: Final = 5.0
"""A transaction takes some ten milliseconds. One that waits so long is told of, with what it waits for."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Told to the observer after each transaction."""

    stage: str
    partition: int
    records: int
    """Of the source."""
    next_offset: int
    handler_seconds: float
    transaction_seconds: float
    summary: object


class PartitionProcessor:
    """Owns one partition of one stage from restore to revocation: its queues, producer, store and task."""

    def __init__(
        self,
        config: EngineConfig,
        stage: StageConfig,
        partition: int,
        handler: BatchHandler,
        producer: TransactionalProducer,
        store: PartitionStore,
        start: Position,
        on_room: Callable[[], object],
        observe: Callable[[Committed], None],
    ) -> None:
        self._config = config
        self._stage = stage
        self._partition = partition
        self._handler = handler
        self._producer = producer
        self._store = store
        self._on_room = on_room
        self._observe = observe
        self._source = Inbox(stage.source_topic, start.offset)
        # A stage without feedback has an inbox of it that stays empty.
        self._feedback = Inbox(stage.feedback_topic or "", start.feedback_offset)
        self._awaits_feedback = False
        self._wake = asyncio.Event()
        self._stopping = False
        self._last_commit = 0.0
        self._begun = 0.0
        self._deliveries: tuple[Delivery, ...] = ()
        self._is_slow = False
        self.busy_since = time.monotonic()
        """When work came to an idle partition, or the last transaction ended."""
        self._task = asyncio.create_task(self._run(), name=f"transactions-{stage.name}-{partition}")

    def has_room(self, topic: str) -> bool:
        """Whether more records should be fetched: two batches ahead keep the processor busy."""
        return self._inbox(topic).records < 2 * self._config.batch_max_records

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do before more arrives."""
        return self._feedback.is_done and (self._source.is_done or self._awaits_feedback)

    def offer(self, topic: str, fetched: Slice) -> None:
        """Queues a slice. Slices must join: a gap or overlap means lost or repeated records."""
        inbox = self._inbox(topic)
        if fetched.first_offset != inbox.next_offset:
            exit_process(
                EngineFailure(
                    f"{topic}[{self._partition}]: fetched records from offset {fetched.first_offset}, "
                    f"expected from {inbox.next_offset}",
                    "restart the worker: it continues at the last committed position; please report this",
                )
            )
        if self.is_idle:
            self.busy_since = time.monotonic()
        inbox.offer(fetched)
        self._wake.set()

    def _inbox(self, topic: str) -> Inbox:
        return self._source if topic == self._source.topic else self._feedback

    async def stop(self) -> None:
        """Lets the running transaction end; what is only queued stays unprocessed and is read again later."""
        self._stopping = True
        self._wake.set()
        await self._task

    async def _run(self) -> None:
        doing = self._describe()
        try:
            while await self._has_work():
                feedback = self._feedback.take(self._config.batch_max_records)  # Step 1
                self._awaits_feedback = self._awaits_feedback and not feedback
                source = [] if self._awaits_feedback else self._source.take(self._config.batch_max_records)
                self._on_room()
                if source:
                    doing = f"{self._describe()}, offsets {source[0].first_offset} to {source[-1].next_offset - 1}"
                await self._process(source, feedback)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever it is, nothing may be acknowledged after it
            root = self._named(error, doing) or self._producer.failed_with() or error
            exit_process(as_worker_error(root, doing, on_topics="WRITE"))

    async def _has_work(self) -> bool:
        """Waits until something is queued, and for the pause that limits the rate of transactions while there
        is little to do; full batches go at once. False when the processor is to stop."""
        while not self._can_work and not self._stopping:
            self._wake.clear()
            await self._wake.wait()
        if self._source.records < self._config.batch_max_records:
            pause = self._last_commit + self._config.transaction_pause_seconds - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
        return not self._stopping

    @property
    def _can_work(self) -> bool:
        return self._feedback.records > 0 or (self._source.records > 0 and not self._awaits_feedback)

    async def _process(self, source: list[Slice], feedback: list[Slice]) -> None:
        started = time.perf_counter()
        records, answers = records_of(source), records_of(feedback)
        batch = Batch(
            self._source.topic,
            self._partition,
            self._source.done_offset,
            records,
            self._feedback.done_offset,
            answers,
        )
        await reached("2")
        effects = self._handler(batch, self._store)  # Step 2
        handled = time.perf_counter()
        taken = len(records) if effects.taken is None else effects.taken
        if taken < len(records):
            source = self._source.put_back(source, taken)
            self._awaits_feedback = True
            if not taken and not answers:
                return  # Nothing happened: no transaction.
        position = Position(
            self._source.topic,
            records[taken - 1].offset + 1 if taken else self._source.done_offset,
            answers[-1].offset + 1 if answers else self._feedback.done_offset,
        )
        timestamp_ms = (records[taken - 1] if taken else answers[-1]).timestamp
        self._begun = time.monotonic()
        slow = asyncio.get_running_loop().call_later(_SLOW_SECONDS, self._tell_slow)
        changelog_offset = await self._commit(effects, position, timestamp_ms)  # Steps 3 to 5
        slow.cancel()
        if self._is_slow:
            self._tell_done()
        await reached("6")
        self._store.apply(effects.rows, position, changelog_offset)  # Step 6
        self._source.done_offset = position.offset
        self._feedback.done_offset = position.feedback_offset
        await reached("7")
        for done in chain(source, feedback):  # Step 7
            done.acknowledge()

        committed = time.perf_counter()
        self._last_commit = self.busy_since = time.monotonic()
        self._observe(
            Committed(
                self._stage.name,
                self._partition,
                taken,
                position.offset,
                handled - started,
                committed - handled,
                effects.summary,
            )
        )

    async def _commit(self, effects: Effects, position: Position, timestamp_ms: int) -> int:
        """Returns the changelog offset after the transaction's last changelog record."""
        producer = self._producer
        position_record = OutRecord(POSITION_KEY, encode_position(position), [], timestamp_ms)
        rows = chain(effects.rows.values(), (position_record,))
        await reached("3")
        await producer.begin()  # Step 3
        changelog = await producer.send(self._config.changelog_topic(self._stage), rows)
        others = [
            delivery for topic, sent in effects.sends.items() if sent for delivery in await producer.send(topic, sent)
        ]
        for topic, by_partition in effects.routed.items():
            for partition, sent in by_partition.items():
                others += await producer.send(topic, sent, partition)
        self._deliveries = (*others, *changelog)
        await reached("4")
        for delivery in others:  # Step 4
            await delivery.offsets()
        await reached("4b")
        changelog_offset = self._store.checkpoint.changelog_offset
        for delivery in changelog:
            offsets = await delivery.offsets()
            if offsets.start < changelog_offset:
                topic = self._config.changelog_topic(self._stage)
                raise _changelog_shrank(topic, self._partition, offsets.start, changelog_offset)
            changelog_offset = offsets.stop
        await reached("5")
        next_offsets = {self._source.topic: position.offset}
        if self._feedback.topic:
            next_offsets[self._feedback.topic] = position.feedback_offset
        await producer.commit(next_offsets)  # Step 5
        return changelog_offset

    # -- What goes wrong, said by name

    @property
    def _waiting_for(self) -> str:
        pending = [delivery.target for delivery in self._deliveries if delivery.is_pending]
        return f"delivery to {', '.join(dict.fromkeys(pending))}" if pending else "the transaction's coordinator"

    def _tell_slow(self) -> None:
        self._is_slow = True
        logger.warning(
            "transaction_waits",
            partition=self._partition,
            waiting_for=self._waiting_for,
            seconds=round(time.monotonic() - self._begun, 1),
            timeout_seconds=self._config.transaction_timeout_seconds,
        )

    def _tell_done(self) -> None:
        self._is_slow = False
        seconds = round(time.monotonic() - self._begun, 1)
        logger.warning("transaction_done", partition=self._partition, seconds=seconds)

    def _named(self, error: BaseException, doing: str) -> WorkerError | None:
        """What the error alone does not tell: which topic refused, or that the transaction took too long. (The
        broker fences such a producer as it does one whose partition another worker has; the age tells which.)"""
        for delivery in self._deliveries:
            if refusal := delivery.refusal():
                return refusal
        seconds = time.monotonic() - self._begun
        if not isinstance(error, ProducerFenced | InvalidProducerEpoch):
            return None
        if seconds < self._config.transaction_timeout_seconds:
            return None
        return EngineFailure(
            f"{doing}: the transaction was open for {seconds:.0f} s, waiting for {self._waiting_for}, and the broker "
            f"aborted it (WORKER_TRANSACTION_TIMEOUT_SECONDS={self._config.transaction_timeout_seconds:g})",
            "restart the worker: nothing was acknowledged, it continues where the last transaction ended. If it "
            "repeats, find out why the brokers take so long (replicas out of sync, full disks, a network that drops "
            "packets), or why this machine froze",
        )

    def _describe(self) -> str:
        return f"{self._source.topic}[{self._partition}]"


def _changelog_shrank(topic: str, partition: int, offset: int, expected: int) -> EngineFailure:
    return EngineFailure(
        f"{topic}[{partition}]: rows were written at offset {offset}, the store has those up to {expected}: the topic "
        "was deleted and created again; this transaction is not committed",
        "restore the topic from a backup, then restart; or start a new state: another WORKER_APP_ID, and new output "
        "topics",
    )
