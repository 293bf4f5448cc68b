"""The partitions this worker owns now: their producers, stores and processors, across rebalances."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Literal, NamedTuple

import structlog

from worker.engine.batch import BatchHandler
from worker.engine.config import EngineConfig, StageConfig
from worker.engine.failpoint import reached
from worker.engine.inbox import Slice
from worker.engine.lane import Lane
from worker.engine.position import Position
from worker.engine.producer import TransactionalProducer
from worker.engine.store import MemoryStore, PartitionStore, open_rocksdb
from worker.engine.transaction import Committed, PartitionProcessor

logger = structlog.get_logger(__name__)

Phase = Literal["joining", "restoring", "ready", "stopping"]


def _ignore(_: Committed) -> None:
    """Nobody observes."""


class Place(NamedTuple):
    """One partition of one stage: what has a store and a position of its own."""

    stage: StageConfig
    partition: int


class Engine:
    """Follows the life of an assignment, driven by the transport and the recovery:

    `fence` (assigned) → `open_stores` → `start` (restored) → `offer`… → `quiesce` (revoked or stopping).
    Stores of partitions that come back after a rebalance are kept, and only catch up.
    """

    def __init__(
        self,
        config: EngineConfig,
        handlers: Mapping[str, BatchHandler],
        observe: Callable[[Committed], None] = _ignore,
    ) -> None:
        """`handlers` by the names of their stages."""
        self.config = config
        self._handlers = dict(handlers)
        self._observe = observe
        self._producers: dict[int, TransactionalProducer] = {}
        self._stores: dict[Place, PartitionStore] = {}
        self._processors: dict[int, PartitionProcessor] = {}
        self._generation = -1
        self._assignment = 0
        self._started_assignment = -1
        self._stopping = False
        # Producers are opened or closed as a whole: a stop or a revocation may come while they are being opened.
        self._changing = asyncio.Lock()
        self._room = asyncio.Event()
        self._last_progress = time.monotonic()

    @property
    def assignment(self) -> int:
        """Changes with every assignment and revocation: what was begun under another number is out of date."""
        return self._assignment

    @property
    def has_work(self) -> bool:
        """Whether progress is owed: partitions are assigned. (Between assignments it is the group's turn.)"""
        return bool(self._producers)

    @property
    def partitions(self) -> list[int]:
        """The source partitions assigned now, restored or not."""
        return sorted(self._producers)

    @property
    def phase(self) -> Phase:
        """Ready: all that is assigned is restored and processed. That may be nothing, in a group of many workers."""
        if self._stopping:
            return "stopping"
        if self._started_assignment == self._assignment:
            return "ready"
        return "restoring" if self._producers else "joining"

    @property
    def last_progress(self) -> float:
        """When something last got done: a commit, a piece of a restore, or a fetch that found nothing to do.

        Of the partition that waits the longest: one that hangs does not hide behind the others. In seconds of the
        monotonic clock.
        """
        # A copy at once: the watchdog asks from a thread of its own.
        busy = [processor.busy_since for processor in list(self._processors.values()) if not processor.is_idle]
        return min(self._last_progress, *busy) if busy else self._last_progress

    def note_progress(self) -> None:
        self._last_progress = time.monotonic()

    def note_idle_fetch(self) -> None:
        """A fetch brought nothing: that is progress unless some partition still has work queued."""
        if all(processor.is_idle for processor in self._processors.values()):
            self.note_progress()

    async def fence(self, partitions: Iterable[int]) -> None:
        """Opens a producer per partition; afterwards no former owner can commit anything for them.

        Must come before offsets and changelog ends are read, or a commit of the former owner could land
        in between.
        """
        async with self._changing:
            self._assignment += 1
            self.note_progress()
            await self._close_producers()
            if not self._stopping:
                self._producers = {p: TransactionalProducer(self.config, p) for p in partitions}
                await asyncio.gather(*(producer.open() for producer in self._producers.values()))
                await reached("fence")

    def open_stores(self, partitions: Iterable[int]) -> dict[Place, PartitionStore]:
        """The stores of exactly these partitions, of every stage; those of others are closed."""
        wanted = {Place(*each) for each in product(self.config.stages, partitions)}
        for place in self._stores.keys() - wanted:
            self._stores.pop(place).close()
        for place in wanted - self._stores.keys():
            self._stores[place] = self._open_store(place)
        return dict(self._stores)

    def _open_store(self, place: Place) -> PartitionStore:
        if self.config.store == "memory":
            return MemoryStore()
        directory = self.config.state_dir / place.stage.name / str(place.partition)
        store, unreadable = open_rocksdb(directory)
        if unreadable is not None:
            logger.warning("store_rebuilt", partition=place.partition, directory=str(directory), reason=unreadable)
        return store

    def start(self, generation: int, positions: Mapping[Place, Position]) -> None:
        """Starts processing restored partitions at these positions."""
        if self._stopping:
            return
        self._generation = generation
        self._started_assignment = self._assignment
        for partition, producer in self._producers.items():
            lanes = [
                Lane(stage, partition, self._handlers[stage.name], self._stores[place], positions[place])
                for stage in self.config.stages
                for place in (Place(stage, partition),)
            ]
            self._processors[partition] = PartitionProcessor(
                self.config, partition, lanes, producer, self._room.set, self._committed
            )
        self.note_progress()

    def _committed(self, committed: Committed) -> None:
        self.note_progress()
        self._observe(committed)

    def offer(self, topic: str, partition: int, generation: int, fetched: Slice) -> None:
        """Queues fetched records. Leftovers of an assignment that ended are dropped: they are read again."""
        processor = self._processors.get(partition)
        if processor is not None and generation == self._generation:
            processor.offer(topic, fetched)

    def has_room(self, topic: str, partition: int) -> bool:
        processor = self._processors.get(partition)
        return processor is not None and processor.has_room(topic)

    async def wait_for_room(self, timeout_seconds: float) -> None:
        """Returns when some partition took records from its queue, or after the timeout."""
        self._room.clear()
        try:
            await asyncio.wait_for(self._room.wait(), timeout_seconds)
        except TimeoutError:
            return

    async def quiesce(self) -> None:
        """Ends processing: running transactions finish, queues are dropped, producers are closed."""
        self._assignment += 1
        async with self._changing:
            processors, self._processors = self._processors, {}
            if processors:
                await reached("revoke")
            await asyncio.gather(*(processor.stop() for processor in processors.values()))
            await self._close_producers()

    async def stop(self) -> None:
        """Quiesces for good: what is assigned from now on is not processed."""
        self._stopping = True
        await self.quiesce()

    def close(self) -> None:
        """Closes the stores of a stopped engine."""
        self.open_stores(())

    async def _close_producers(self) -> None:
        producers, self._producers = self._producers, {}
        await asyncio.gather(*(producer.close() for producer in producers.values()))
