"""Restoring the partitions' rows in bulk, and starting where they end.

Stock recovery moves one changelog record at a time through streams and never ends on a transactional
changelog, whose last offset is a commit marker. This one reads record lists with a consumer of its own,
outside the group, and is done when its POSITION (which moves past markers) reaches the end offset.

R2, the order at the end: start the processors, seek, and only then resume partitions and flow. Stock
resumes before it seeks and processes the first records twice.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError
from faust.tables.manager import TableManager as StockTableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from mode import Service

from worker.engine.failpoint import reached
from worker.engine.failure import as_worker_error, exit_process
from worker.engine.internals import FAUST_LOGGER
from worker.engine.store import PartitionStore
from worker.errors import InputLost, SettingsError

if TYPE_CHECKING:
    from worker.engine.app import BatchApp
    from worker.engine.transport import Consumer

logger = structlog.get_logger(__name__)

_FETCH_BYTES_PER_PARTITION = 4 << 20
# A changelog ends with commit markers, which arrive as no record: the position passes them while we wait. Every
# start waits for that once, so the wait is short; data that comes ends it sooner.
_MARKER_WAIT_MS = 20


class BulkRecovery(Recovery):
    """Replaces how Faust restores; Faust still decides when."""

    logger = FAUST_LOGGER

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):  # type: ignore[arg-type]
                return
            self.signal_recovery_start.clear()
            try:
                await self._wait(self._restore_and_start(self._generation_id))
            except RebalanceAgain:
                continue
            except ServiceStopped:
                return
            except Exception as error:  # noqa: BLE001  # without its state the worker must not run
                if self.app.should_stop:
                    return
                exit_process(as_worker_error(error, "restoring the state"))

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Nothing arrives through Faust's changelog queue."""

    async def _restore_and_start(self, generation: int) -> None:
        app = cast("BatchApp", self.app)
        consumer = cast("Consumer", app.consumer)
        engine = app.engine
        assignment = engine.assignment
        partitions = consumer.source_partitions(consumer.assignment())

        self._set_recovery_started()
        await app.on_rebalance_complete.send()
        stores = engine.open_stores(partitions)
        offsets: dict[int, int] = {}
        if stores:
            topics = (engine.config.changelog_topic, engine.config.source_topic)
            async with _reader_of(topics, engine.config.client) as reader:
                await restore(reader, engine.config.changelog_topic, stores, engine.note_progress)
                offsets = await start_offsets(reader, engine.config.source_topic, stores)
            self._compare_with_group(offsets, await consumer.committed_offsets(partitions))
        self._set_recovery_ended()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])

        # Another rebalance may have begun at any await: it closed the producers, and starts the next recovery.
        if engine.assignment != assignment:
            return
        engine.start(generation, offsets)
        try:
            await consumer.seek_to_positions(offsets)
        except IllegalStateError:
            if engine.assignment == assignment:
                raise
        if engine.assignment != assignment:
            return
        consumer.resume_partitions({tp for tp in consumer.assignment() if not consumer._is_changelog_tp(tp)})
        self.completed.set()
        app.flow_control.resume()
        consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        logger.info("ready", topic=engine.config.source_topic, partitions=partitions)

    def _compare_with_group(self, offsets: Mapping[int, int], committed: Mapping[int, int | None]) -> None:
        for partition, offset in offsets.items():
            if committed[partition] not in (offset, None):
                logger.warning(
                    "group_offset_differs",
                    partition=partition,
                    group_offset=committed[partition],
                    state_position=offset,
                    used="state_position",
                )


class TableManager(StockTableManager):
    """Faust's table manager with our recovery."""

    logger = FAUST_LOGGER

    async def on_start(self) -> None:
        """As stock, without its second of waiting."""
        await self._update_channels()
        await self.recovery.start()

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = BulkRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


@asynccontextmanager
async def _reader_of(topics: Iterable[str], client: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside any group, reading committed records only, that knows these topics already."""
    consumer = AIOKafkaConsumer(
        **client,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=_FETCH_BYTES_PER_PARTITION,
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        for topic in topics:  # else the first question about each waits for a retry, a tenth of a second
            await consumer._client.add_topic(topic)
        yield consumer
    finally:
        await consumer.stop()


async def restore(
    reader: AIOKafkaConsumer, topic: str, stores: Mapping[int, PartitionStore], note_progress: Callable[[], None]
) -> None:
    """Brings every store to the end of its changelog partition, calling `note_progress` after every piece.

    A store whose offset lies outside the changelog (the topic was recreated, or compacted past it) cannot
    be continued and is rebuilt from the beginning.
    """
    started = time.monotonic()
    by_tp = {TopicPartition(topic, partition): store for partition, store in stores.items()}
    ends = await reader.end_offsets(list(by_tp))
    beginnings = await reader.beginning_offsets(list(by_tp))
    for tp, store in by_tp.items():
        if store.changelog_offset and not beginnings[tp] <= store.changelog_offset <= ends[tp]:
            logger.warning(
                "store_rebuilt",
                partition=tp.partition,
                reason="its changelog offset lies outside the changelog",
                changelog_offset=store.changelog_offset,
                changelog_begins=beginnings[tp],
                changelog_ends=ends[tp],
            )
            store.clear()

    remaining = {tp for tp, store in by_tp.items() if max(store.changelog_offset, beginnings[tp]) < ends[tp]}
    restored = 0
    if remaining:
        reader.assign(list(remaining))
        for tp in remaining:
            reader.seek(tp, max(by_tp[tp].changelog_offset, beginnings[tp]))
    while remaining:
        fetched = await reader.getmany(*remaining, timeout_ms=_MARKER_WAIT_MS)
        for tp in list(remaining):
            records = fetched.get(tp, ())
            position = await reader.position(tp)
            by_tp[tp].restore(records, position)
            restored += len(records)
            if records:
                await reached("restore")
                note_progress()
            if position >= ends[tp]:
                remaining.discard(tp)
                reader.pause(tp)
    seconds = time.monotonic() - started
    logger.info("restored", changelog_records=restored, partitions=sorted(stores), seconds=round(seconds, 2))


async def start_offsets(reader: AIOKafkaConsumer, topic: str, stores: Mapping[int, PartitionStore]) -> dict[int, int]:
    """Where to read on, per partition: the state's position, or the topic's beginning when there is no state.

    Raises InputLost when the topic does not reach from there on, SettingsError when the state was built
    from another topic.
    """
    tps = {partition: TopicPartition(topic, partition) for partition in stores}
    beginnings = await reader.beginning_offsets(list(tps.values()))
    ends = await reader.end_offsets(list(tps.values()))
    offsets: dict[int, int] = {}
    for partition, store in stores.items():
        beginning, end = beginnings[tps[partition]], ends[tps[partition]]
        position = store.position
        if position is None:
            offsets[partition] = beginning
            continue
        if position.topic != topic:
            raise SettingsError(
                f"the state was built from topic {position.topic}, this worker reads {topic}",
                "set WORKER_TOPIC_UPDATES to the former topic, or WORKER_APP_ID to a new name for a new state",
            )
        if position.offset < beginning:
            raise InputLost(
                f"{topic}[{partition}]: records {position.offset} to {beginning - 1} were deleted "
                "before they were processed",
                "raise the topic's retention; see the README on lost input for how to go on",
            )
        if position.offset > end:
            raise InputLost(
                f"{topic}[{partition}]: the state has read up to offset {position.offset}, "
                f"the topic ends at {end}: it was deleted and created again, or lost records",
                "restore the topic; or start a new state with another WORKER_APP_ID",
            )
        offsets[partition] = position.offset
    return offsets
