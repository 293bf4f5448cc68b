"""Restoring the partitions' rows in bulk, and starting where they end.

Stock recovery moves one changelog record at a time through streams and never ends on a transactional
changelog, whose last offset is a commit marker. This one reads in bulk, see restore.py.

R2, the order at the end: start the processors, seek, and only then resume partitions and flow. Stock
resumes before it seeks and processes the first records twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError
from faust.tables.manager import TableManager as StockTableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.types import TP
from mode import Service

from worker.engine.config import StageConfig
from worker.engine.engine import Engine, Place
from worker.engine.failure import as_worker_error, exit_process
from worker.engine.internals import FAUST_LOGGER
from worker.engine.position import Position
from worker.engine.restore import open_reader, require_kept, restore, start_positions
from worker.engine.store import PartitionStore

if TYPE_CHECKING:
    from worker.engine.app import BatchApp
    from worker.engine.transport import Consumer

logger = structlog.get_logger(__name__)


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
        partitions = consumer.assigned_partitions(consumer.assignment())

        self._set_recovery_started()
        await app.on_rebalance_complete.send()
        stores = engine.open_stores(partitions)
        positions: dict[Place, Position] = {}
        if stores:
            stages = engine.config.stages
            topics = {topic for each in stages for topic in (engine.config.changelog_topic(each), *each.input_topics)}
            async with open_reader(engine.config.client, "read_uncommitted", *topics) as reader:
                for found in await asyncio.gather(*(_restored(engine, stage, reader, stores) for stage in stages)):
                    positions |= found
        offsets = _offsets_of(positions)
        committed = await consumer.committed_offsets(offsets)
        for (stage, partition), position in positions.items():
            group_offset = committed[TP(stage.source_topic, partition)]
            require_kept(engine.config, stage, partition, stores[Place(stage, partition)], position, group_offset)
        self._compare_with_group(offsets, committed)
        self._set_recovery_ended()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])

        # Another rebalance may have begun at any await: it closed the producers, and starts the next recovery.
        if engine.assignment != assignment:
            return
        engine.start(generation, positions)
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
        logger.info("ready", topic=engine.config.stages[0].source_topic, partitions=partitions)

    def _compare_with_group(self, offsets: Mapping[TP, int], committed: Mapping[TP, int | None]) -> None:
        for tp, offset in offsets.items():
            if committed[tp] not in (offset, None):
                logger.warning(
                    "group_offset_differs",
                    topic=tp.topic,
                    partition=tp.partition,
                    group_offset=committed[tp],
                    state_position=offset,
                    used="state_position",
                )


async def _restored(
    engine: Engine, stage: StageConfig, reader: AIOKafkaConsumer, stores: Mapping[Place, PartitionStore]
) -> dict[Place, Position]:
    """Brings one stage's stores up to date; returns where it goes on."""
    its_stores = {place.partition: store for place, store in stores.items() if place.stage is stage}
    await restore(engine.config, stage, reader, its_stores, engine.note_progress)
    positions = await start_positions(engine.config, stage, reader, its_stores)
    return {Place(stage, partition): position for partition, position in positions.items()}


def _offsets_of(positions: Mapping[Place, Position]) -> dict[TP, int]:
    """Where to read every input partition on."""
    offsets = {}
    for (stage, partition), position in positions.items():
        offsets[TP(stage.source_topic, partition)] = position.offset
        if stage.feedback_topic is not None:
            offsets[TP(stage.feedback_topic, partition)] = position.feedback_offset
    return offsets


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
