"""Faust's Kafka transport, moving slices of a partition instead of single records.

What differs from the stock driver, and why:

- One Faust message carries all records that one fetch returned for a partition.
- Offsets travel inside the transactions; Faust's own commit is bookkeeping only.
- R1: on revocation the running transactions end BEFORE Faust drops its bookkeeping (stock drops it first
  and processes the same records again).
- On assignment the former owners are fenced BEFORE committed offsets and changelog ends are read.
- Fetching starts at the position the state holds, never at the group's committed offset.
- A partition whose queue is full is not fetched; the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import aiokafka
from aiokafka.errors import GroupAuthorizationFailedError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as stock
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode import Service
from mode.utils.futures import notify

from worker.engine.batch import SourceRecord
from worker.engine.config import EngineConfig
from worker.engine.failure import as_worker_error, exit_process
from worker.engine.inbox import Slice
from worker.engine.internals import FAUST_LOGGER
from worker.engine.membership import Membership
from worker.errors import EngineFailure, Fenced, InputLost, WorkerError

if TYPE_CHECKING:
    from worker.engine.app import BatchApp
    from worker.engine.engine import Engine

URL_SCHEME = "kafka-batches"

# How long a fetch waits at the broker for data, and our thread for the fetch. Short, because a partition
# that gets room again joins only the next fetch; an idle worker polls 20 times a second for under 1% CPU.
_FETCH_WAIT_SECONDS = 0.05
_FETCH_BYTES_PER_PARTITION = 4 << 20
_NEVER_MS = 2**31 - 1
_GROUP_CHECK_SECONDS = 1.0


class BatchMessage(ConsumerMessage):
    """A Faust message whose value is the list of records of one fetch, all of one partition."""

    __slots__ = ("first_offset",)
    first_offset: int


class ConsumerThread(stock.AIOKafkaConsumerThread):
    """Builds the aiokafka consumer: static member, read_committed, no automatic offset of any kind."""

    logger = FAUST_LOGGER
    _membership: Membership

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        app = cast("BatchApp", self.app)
        config = app.engine.config
        # Session and rebalance timeouts: a static member keeps its partitions for the former, and the
        # group waits for all members to finish their transactions for the latter.
        rebalance_seconds = max(config.session_timeout_seconds, 10.0)
        self._membership = Membership(config.app_id, config.instance_id)
        return aiokafka.AIOKafkaConsumer(
            **config.client,
            client_id=config.instance_id,
            group_id=config.app_id,
            group_instance_id=self._membership.group_instance_id,
            partition_assignment_strategy=[app.assignor],
            enable_auto_commit=False,
            # Without a position of its own the engine must not start anywhere by accident.
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=config.batch_max_records,
            # aiokafka leaves the group when nothing was fetched for so long, and joins again only with the next fetch:
            # a member without partitions, or in a long restore, makes none. What hangs is the watchdog's to find.
            max_poll_interval_ms=_NEVER_MS,
            max_partition_fetch_bytes=_FETCH_BYTES_PER_PARTITION,
            fetch_max_wait_ms=int(_FETCH_WAIT_SECONDS * 1000),
            session_timeout_ms=int(config.session_timeout_seconds * 1000),
            rebalance_timeout_ms=int(rebalance_seconds * 1000),
            # The answer to a join comes when all members have joined, after the rebalance timeout at the latest.
            request_timeout_ms=int((rebalance_seconds + 5.0) * 1000),
            heartbeat_interval_ms=int(config.session_timeout_seconds * 1000 / 5),
        )

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        try:
            await self._membership.require_own_place(self._ensure_consumer()._coordinator)
        except Fenced as error:
            exit_process(error)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        coordinator = self._ensure_consumer()._coordinator
        self._membership.note(coordinator)
        # aiokafka begins with its heartbeats when this returns. Fencing takes a dozen round trips, and longer while a
        # coordinator moves: beyond the session timeout the group would throw this member out, again and again.
        coordinator._start_heartbeat_task()
        await super().on_partitions_assigned(assigned, generation_id)

    async def committed(self, tp: TP) -> int | None:
        offset: int | None = await self.call_thread(self._ensure_consumer().committed, tp)
        return offset

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Seeks in the consumer's own thread: aiokafka's fetcher, which runs there, is not made for another's."""
        await self.call_thread(self._seek_all, offsets)

    async def _seek_all(self, offsets: Mapping[TP, int]) -> None:
        for tp, offset in offsets.items():
            self.seek(tp, offset)

    @Service.task
    async def _watch_group(self) -> None:
        """Asks for what ended the membership, or the fetching. aiokafka keeps the first for a fetch of its own kind,
        which Faust never makes, and the other for nobody: the worker would wait for partitions or records for ever."""
        while not self.should_stop:
            await self.sleep(_GROUP_CHECK_SECONDS)
            if self._consumer is None or self.should_stop:
                continue
            try:
                self._consumer._coordinator.check_errors()
            except Exception as error:  # noqa: BLE001  # what aiokafka gives up on, nobody else will try again
                if not getattr(error, "retriable", False):
                    exit_process(as_worker_error(error, being_in_group(cast("BatchApp", self.app).engine.config)))
            fetching = self._consumer._fetcher._fetch_task
            if fetching.done() and not fetching.cancelled() and (crash := fetching.exception()):
                exit_process(as_worker_error(crash, "fetching records"))


def being_in_group(config: EngineConfig) -> str:
    """What fails when the group refuses this member, whoever hears of it first."""
    return f"being in the group {config.app_id}"


class Consumer(stock.Consumer):
    """The consumer of every stage's input topics, in batches."""

    logger = FAUST_LOGGER
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._slice_offset: dict[TP, int] = {}
        self._acked_offset: dict[TP, int] = {}
        # No fetch may be under way across a seek: what it returns would be from before the seek.
        self._fetch_lock = asyncio.Lock()

    @property
    def _engine(self) -> Engine:
        return cast("BatchApp", self.app).engine

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Topics are declared by the operator, never as a side effect of a start."""

    # -- Assignment

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self._engine.quiesce()
        self._unacked_messages.clear()  # only what was queued and dropped is left
        self._slice_offset.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        try:
            if not self.app.should_stop:
                await self._engine.fence(self.assigned_partitions(assigned))
        except Exception as error:  # noqa: BLE001  # without fencing nothing may go on
            exit_process(as_worker_error(error, "fencing the former owners of the assigned partitions"))
        await super().on_partitions_assigned(assigned, generation_id)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: after five minutes Faust would report every partition that has a changelog as one that hangs, and
        every source partition as never committed. What hangs is the watchdog's to find."""

    def assigned_partitions(self, tps: set[TP]) -> list[int]:
        """The numbers of the assigned partitions, the same of every input topic.

        Raises EngineFailure when they are not: then a transaction would not cover what belongs together.
        """
        topics = [topic for stage in self._engine.config.stages for topic in stage.input_topics]
        numbers = [sorted(tp.partition for tp in tps if tp.topic == topic) for topic in topics]
        if any(each != numbers[0] for each in numbers):
            raise EngineFailure(
                "partitions of one number were assigned to different workers: "
                f"{dict(zip(topics, numbers, strict=True))}",
                "check with `python -m worker topics check` that all topics have the same number of partitions, "
                "and that all workers of the group run the same version",
            )
        return numbers[0]

    async def perform_seek(self) -> None:
        """Nothing: the recovery seeks to the positions it restored, see `seek_to_positions`."""

    async def seek_to_positions(self, offsets: Mapping[TP, int]) -> None:
        """Moves the input partitions to these offsets, and the bookkeeping with them."""
        async with self._fetch_lock:
            await self._thread.seek_all(offsets)
            self._read_offset.update(offsets)
            self._slice_offset.update(offsets)
            self._committed_offset.update(offsets)

    async def committed_offsets(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        """The group's committed offsets, as the broker tells them (they may be gone: see position.py)."""
        return {tp: await self._thread.committed(self._new_topicpartition(tp.topic, tp.partition)) for tp in tps}

    # -- Fetching

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # mode's Event or asyncio's
                    continue
                wanted = {tp for tp in self._get_active_partitions() if tp in self._slice_offset and self._has_room(tp)}
                if not wanted:
                    await self._engine.wait_for_room(_FETCH_WAIT_SECONDS)
                    continue
                async with self._fetch_lock:
                    await self._fetch_and_deliver(wanted)
        except asyncio.CancelledError:
            # Faust calls a cancellation in a rebalance a crash, and logs it as one: a stop is none.
            if self._engine.phase != "stopping":
                raise
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except Exception as error:  # noqa: BLE001  # a fetch loop that ended silently would stall for ever
            if not self.app.should_stop:
                exit_process(self._as_input_lost(error) or self._named(error))

    def _has_room(self, tp: TP) -> bool:
        return self._engine.has_room(tp.topic, tp.partition)

    async def _fetch_and_deliver(self, wanted: set[TP]) -> None:
        generation = self.app.consumer_generation_id
        try:
            fetched = await self._getmany(active_partitions=wanted, timeout=_FETCH_WAIT_SECONDS)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError):
            # When a rebalance came in between, aiokafka looks for a committed offset of what is newly assigned,
            # finds none before the group's first commit, and tells the fetch under way. The recovery will seek.
            if generation != self.app.consumer_generation_id or not self.flow_active:
                return
            raise
        if not fetched:
            self._engine.note_idle_fetch()
        for aiokafka_tp, records in (fetched or {}).items():
            if generation != self.app.consumer_generation_id or not self.flow_active:
                return  # a rebalance began: what was fetched is read again from the restored position
            tp = ensure_TP(aiokafka_tp)
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            message = self._batch_message(tp, records, generation)
            self._slice_offset[tp] = self._read_offset[tp] = message.offset + 1
            await self.wait_first(self.callback(message), self.suspend_flow.wait())

    def _batch_message(self, tp: TP, records: list[Any], generation: int) -> BatchMessage:
        last = records[-1]
        if records[0].offset < self._slice_offset[tp]:
            raise EngineFailure(
                f"{tp.topic}[{tp.partition}]: fetched records from offset {records[0].offset}, expected none before "
                f"{self._slice_offset[tp]}",
                "restart the worker: it continues at the last committed position; please report this",
            )
        message = BatchMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            None,
            cast(bytes, records),  # Faust does not look at it
            None,
            0,
            0,
            tp,
            generation_id=generation,
        )
        message.first_offset = self._slice_offset[tp]
        return message

    def _named(self, error: Exception) -> WorkerError:
        """What the fetch failed of. A fetch that is under way may be the first to hear what ended the membership."""
        is_of_group = isinstance(error, GroupAuthorizationFailedError)
        return as_worker_error(error, being_in_group(self._engine.config) if is_of_group else "fetching records")

    def _as_input_lost(self, error: Exception) -> InputLost | None:
        if isinstance(error, OffsetOutOfRangeError | NoOffsetForPartitionError):
            return InputLost(
                f"the broker no longer has records that were not processed: {error}",
                "see the README on lost input: raise the topic's retention; then decide how to go on",
            )
        return None

    # -- Acknowledging and committing: bookkeeping for Faust; the truth is in the transactions

    def ack(self, message: Any) -> bool:
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        if message.generation_id == self.app.consumer_generation_id:
            self._acked_offset[message.tp] = message.offset + 1
            self._acked[message.tp] = [message.offset]
        notify(self._waiting_for_ack)
        return True

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp] = []
        return self._acked_offset.pop(tp, None)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        self._committed_offset.update(offsets)
        self.app.monitor.on_tp_commit(dict(offsets))
        return True


class Producer(stock.Producer):
    """Sends nothing: a record outside a transaction would break exactly-once."""

    logger = FAUST_LOGGER

    async def on_start(self) -> None:
        """Opens no connection."""

    async def on_stop(self) -> None:
        """Has none to close."""

    async def flush(self) -> None:
        """Has nothing to flush."""

    async def send(self, topic: str, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"sending to {topic} outside a transaction; return it in Effects.sends instead")

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Topics are declared by the operator."""


class Transport(stock.Transport):
    """Registered for the URL scheme `kafka-batches`."""

    Consumer = Consumer
    Producer = Producer


TRANSPORTS.aliases[URL_SCHEME] = f"{__name__}:Transport"


def to_slice(message: BatchMessage, consumer: Consumer) -> Slice:
    """What the engine queues of a delivered message."""
    records = cast("list[SourceRecord]", message.value)
    return Slice(message.first_offset, records, lambda: consumer.ack(message))
