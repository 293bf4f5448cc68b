"""One partition's work: whatever is queued becomes one Kafka transaction after another.

All stages of a partition number share its transactions: half as many as if each had its own, and transactions are
what a lightly loaded worker and its broker spend most of their time on. Each stage has a lane (lane.py).

The protocol of a transaction; the code below carries the same numbers:

1. Take what is queued, in each lane at most `batch_max_records` of the source and of the feedback.
2. Let the lane's handler turn it into effects, over committed rows.
3. Begin. Send changelog rows with the position record, then the handlers' records, in large batches.
4. Await every delivery. (A failed batch does not poison an aiokafka transaction by itself.)
5. Send the offsets reached to the transaction; commit.
6. Apply rows, position and changelog offset to each lane's store in one write.
7. Acknowledge to Faust.

An error anywhere stops the process at once (failure.py): after a restart the transaction is aborted or
found committed, and in both cases the changelog tells what is true.

A handler may take fewer source records than it is given (it waits for answers). They are queued again, and the
source rests until feedback comes; feedback itself is always taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import structlog
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from worker.engine.batch import OutRecord
from worker.engine.config import EngineConfig
from worker.engine.failpoint import reached
from worker.engine.failure import as_worker_error, exit_process
from worker.engine.inbox import Slice
from worker.engine.lane import Decided, Lane, Taken
from worker.engine.position import POSITION_KEY, encode_position
from worker.engine.producer import Delivery, TransactionalProducer
from worker.errors import EngineFailure, WorkerError

logger = structlog.get_logger(__name__)

_SLOW_SECONDS: Final = 5.0
"""A transaction takes some ten milliseconds. One that waits so long is told of, with what it waits for."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A stage's part in a transaction, told to the observer afterwards."""

    stage: str
    partition: int
    records: int
    """Of the source."""
    next_offset: int
    handler_seconds: float
    transaction_seconds: float
    """Of all stages' parts together."""
    summary: object


class PartitionProcessor:
    """Owns one partition number from restore to revocation: its lanes, producer and task."""

    def __init__(
        self,
        config: EngineConfig,
        partition: int,
        lanes: Sequence[Lane],
        producer: TransactionalProducer,
        on_room: Callable[[], object],
        observe: Callable[[Committed], None],
    ) -> None:
        """`lanes` in the order of the stages."""
        self._config = config
        self._partition = partition
        self._lanes = lanes
        self._lane_of = {topic: lane for lane in lanes for topic in lane.stage.input_topics}
        self._producer = producer
        self._on_room = on_room
        self._observe = observe
        self._wake = asyncio.Event()
        self._stopping = False
        self._last_commit = 0.0
        self._begun = 0.0
        self._deliveries: list[Delivery] = []
        self._is_slow = False
        self._is_processing = False
        self.busy_since = time.monotonic()
        """When work came to an idle partition, or the last transaction ended."""
        self._task = asyncio.create_task(self._run(), name=f"transactions-{partition}")

    def has_room(self, topic: str) -> bool:
        """Whether more records should be fetched: two batches ahead keep the processor busy."""
        return self._lane_of[topic].inbox(topic).records < 2 * self._config.batch_max_records

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do before more arrives."""
        return not self._is_processing and all(lane.is_idle for lane in self._lanes)

    def offer(self, topic: str, fetched: Slice) -> None:
        """Queues a slice. Slices must join: a gap or overlap means lost or repeated records."""
        inbox = self._lane_of[topic].inbox(topic)
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

    async def stop(self) -> None:
        """Lets the running transaction end; what is only queued stays unprocessed and is read again later."""
        self._stopping = True
        self._wake.set()
        await self._task

    async def _run(self) -> None:
        doing = str(self._lanes[0])
        try:
            while await self._has_work():
                taken = [work for lane in self._lanes if (work := lane.take(self._config.batch_max_records))]  # Step 1
                self._on_room()
                doing = " and ".join(map(str, taken))
                self._is_processing = True
                await self._process(taken)
                self._is_processing = False
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever it is, nothing may be acknowledged after it
            root = self._named(error, doing) or self._producer.failed_with() or error
            exit_process(as_worker_error(root, doing, on_topics="WRITE"))

    async def _has_work(self) -> bool:
        """Waits until something is queued, and for the pause that limits the rate of transactions while there
        is little to do; full batches go at once. False when the processor is to stop."""
        while not self._stopping and not any(lane.can_work for lane in self._lanes):
            self._wake.clear()
            await self._wake.wait()
        if not any(lane.can_work and lane.source.records >= self._config.batch_max_records for lane in self._lanes):
            pause = self._last_commit + self._config.transaction_pause_seconds - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
        return not self._stopping

    async def _process(self, taken: Sequence[Taken]) -> None:
        await reached("2")
        decided = [step for work in taken if (step := work.lane.decide(work))]  # Step 2
        if not decided:
            return  # Nothing happened: no transaction.
        self._begun = time.monotonic()
        slow = asyncio.get_running_loop().call_later(_SLOW_SECONDS, self._tell_slow)
        changelog_offsets = await self._commit(decided)  # Steps 3 to 5
        slow.cancel()
        if self._is_slow:
            self._tell_done()
        await reached("6")
        for step, changelog_offset in zip(decided, changelog_offsets, strict=True):
            step.lane.store_committed(step, changelog_offset)  # Step 6
        await reached("7")
        for step in decided:  # Step 7
            for done in step.done:
                done.acknowledge()

        self._last_commit = self.busy_since = time.monotonic()
        for step in decided:
            self._observe(
                Committed(
                    step.lane.stage.name,
                    self._partition,
                    step.records,
                    step.position.offset,
                    step.handler_seconds,
                    self._last_commit - self._begun,
                    step.effects.summary,
                )
            )

    async def _commit(self, decided: Sequence[Decided]) -> list[int]:
        """Returns for each lane the changelog offset after the transaction's last record there."""
        producer = self._producer
        await reached("3")
        await producer.begin()  # Step 3
        changelogs = [await self._send_changelog(step) for step in decided]
        others: list[Delivery] = []
        for step in decided:
            for topic, sent in step.effects.sends.items():
                others += await producer.send(topic, sent)
            for topic, by_partition in step.effects.routed.items():
                for partition, sent in by_partition.items():
                    others += await producer.send(topic, sent, partition)
        self._deliveries = [*others, *chain.from_iterable(changelogs)]
        await reached("4")
        for delivery in others:  # Step 4
            await delivery.offsets()
        await reached("4b")
        changelog_offsets = [
            await self._changelog_offset(step.lane, deliveries)
            for step, deliveries in zip(decided, changelogs, strict=True)
        ]
        await reached("5")
        next_offsets = {topic: offset for step in decided for topic, offset in step.next_offsets.items()}
        await producer.commit(next_offsets)  # Step 5
        return changelog_offsets

    async def _send_changelog(self, step: Decided) -> list[Delivery]:
        position = OutRecord(POSITION_KEY, encode_position(step.position), [], step.timestamp_ms)
        rows = chain(step.effects.rows.values(), (position,))
        return await self._producer.send(self._config.changelog_topic(step.lane.stage), rows)

    async def _changelog_offset(self, lane: Lane, deliveries: Sequence[Delivery]) -> int:
        offset = lane.store.checkpoint.changelog_offset
        for delivery in deliveries:
            offsets = await delivery.offsets()
            if offsets.start < offset:
                topic = self._config.changelog_topic(lane.stage)
                raise _changelog_shrank(topic, self._partition, offsets.start, offset)
            offset = offsets.stop
        return offset

    # -- What goes wrong, said by name

    @property
    def _waiting_for(self) -> str:
        if self._producer.is_kept_waiting:
            return "the transaction's coordinator; a topic may have too few replicas in sync to end the one before"
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


def _changelog_shrank(topic: str, partition: int, offset: int, expected: int) -> EngineFailure:
    return EngineFailure(
        f"{topic}[{partition}]: rows were written at offset {offset}, the store has those up to {expected}: the topic "
        "was deleted and created again; this transaction is not committed",
        "restore the topic from a backup, then restart; or start a new state: another WORKER_APP_ID, and new output "
        "topics",
    )
