"""Bringing the partitions' rows from the changelog into the stores, and where to read on.

A restore reads record lists with a consumer of its own, outside the group, committed records only. It is done when
its POSITION (which moves past commit markers, the last offsets of a transactional topic) reaches the end the changelog
had when it began. The end is that of everything written, not of what is committed: behind a transaction that somebody
left open there may be rows of ours, so a restore waits until it is ended, at the latest by its timeout.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from worker.engine.checkpoint import ChangelogPartition, unfit, wall_clock_ms
from worker.engine.config import EngineConfig, StageConfig
from worker.engine.failpoint import reached
from worker.engine.metadata import describe_changelog, topic_id
from worker.engine.position import Position
from worker.engine.store import PartitionStore
from worker.errors import InputLost, SettingsError, StateLost

logger = structlog.get_logger(__name__)

_FETCH_BYTES_PER_PARTITION: Final = 4 << 20
# A changelog ends with commit markers, which arrive as no record: the position passes them while we wait. Every
# start waits for that once, so the wait is short; data that comes ends it sooner.
_MARKER_WAIT_MS: Final = 20
_SAY_WAITING_SECONDS: Final = 5.0
_REQUEST_SECONDS: Final = 15.0
"""As for input: enough for a large piece over a slow network, and no longer behind a broker that hangs."""


async def restore(
    config: EngineConfig,
    stage: StageConfig,
    reader: AIOKafkaConsumer,
    stores: Mapping[int, PartitionStore],
    note_progress: Callable[[], None],
) -> None:
    """Brings every store of a stage to the end of its changelog partition, calling `note_progress` after every piece.

    `reader` (read_uncommitted) only answers where the changelog begins and ends. A store that the changelog cannot
    make complete (see `checkpoint.unfit`) is rebuilt from the beginning. Raises StateLost when that store is the only
    thing left.
    """
    started = time.monotonic()
    topic = config.changelog_topic(stage)
    partitions = await describe_changelog(reader, topic, stores)
    for partition, store in stores.items():
        _discard_unfit(topic, partition, store, partitions[partition])
    ends = {
        TopicPartition(topic, partition): there.end
        for partition, there in partitions.items()
        if max(stores[partition].checkpoint.changelog_offset, there.begin) < there.end
    }
    restored = 0
    if ends:
        async with open_reader(config.client, "read_committed", topic) as committed:
            committed.assign(list(ends))
            for tp in ends:
                offset = stores[tp.partition].checkpoint.changelog_offset
                committed.seek(tp, max(offset, partitions[tp.partition].begin))
            restored = await _read_to(ends, committed, stores, note_progress)
    for store in stores.values():
        store.finish_restore()
    seconds = time.monotonic() - started
    logger.info(
        "restored", table=stage.name, changelog_records=restored, partitions=sorted(stores), seconds=round(seconds, 2)
    )


def _discard_unfit(topic: str, partition: int, store: PartitionStore, there: ChangelogPartition) -> None:
    had = store.checkpoint
    reason = unfit(had, there, wall_clock_ms())
    if reason is not None:
        if there.begin == there.end:
            raise _state_lost(f"{topic}[{partition}] is empty, the local store has its rows up to another time's end")
        logger.warning(
            "store_rebuilt",
            partition=partition,
            reason=reason,
            store_offset=had.changelog_offset,
            changelog_begins=there.begin,
            changelog_ends=there.end,
        )
    if reason is not None or had.changelog_offset == 0:
        store.begin(there.topic_id)


async def _read_to(
    ends: Mapping[TopicPartition, int],
    reader: AIOKafkaConsumer,
    stores: Mapping[int, PartitionStore],
    note_progress: Callable[[], None],
) -> int:
    """Reads until every position is at its end; returns how many records there were."""
    restored = 0
    remaining = set(ends)
    last_piece = time.monotonic()
    while remaining:
        fetched = await reader.getmany(*remaining, timeout_ms=_MARKER_WAIT_MS)
        for tp in list(remaining):
            records = fetched.get(tp, ())
            position = await reader.position(tp)
            if position > stores[tp.partition].checkpoint.changelog_offset:
                stores[tp.partition].restore(records, position)
                restored += len(records)
            if records:
                await reached("restore")
                note_progress()
                last_piece = time.monotonic()
            if position >= ends[tp]:
                remaining.discard(tp)
                reader.pause(tp)
        if remaining and time.monotonic() - last_piece > _SAY_WAITING_SECONDS:
            last_piece = time.monotonic()
            logger.warning(
                "restore_waits",
                partitions=sorted(tp.partition for tp in remaining),
                reason="a transaction in the changelog is open, or its broker does not answer",
            )
    return restored


def require_kept(
    config: EngineConfig,
    stage: StageConfig,
    partition: int,
    store: PartitionStore,
    start: Position,
    group_offset: int | None,
) -> None:
    """Raises StateLost when input was processed and the changelog knows nothing of it: to begin anew would give
    every session a second life beside its outputs."""
    if store.position is None and group_offset is not None and group_offset > start.offset:
        raise _state_lost(
            f"{config.changelog_topic(stage)}[{partition}] holds no state, but the group {config.app_id} has processed "
            f"{stage.source_topic}[{partition}] up to offset {group_offset}"
        )


def _state_lost(problem: str) -> StateLost:
    return StateLost(
        f"{problem}: the changelog was deleted and created again, or emptied",
        "restore the topic from a backup; or start a new state: another WORKER_APP_ID, and new output topics. If "
        "nothing was ever processed and only the group's offsets were set by hand, delete those",
    )


Isolation = Literal["read_committed", "read_uncommitted"]


@asynccontextmanager
async def open_reader(client: Mapping[str, Any], isolation: Isolation, *topics: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside any group that knows these topics already."""
    consumer = AIOKafkaConsumer(
        **client,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=_FETCH_BYTES_PER_PARTITION,
        fetch_max_wait_ms=50,
        request_timeout_ms=int(_REQUEST_SECONDS * 1000),
    )
    try:
        await consumer.start()
        # Else the first question about each waits for a retry, a tenth of a second.
        await asyncio.gather(*(consumer._client.add_topic(topic) for topic in topics))
        yield consumer
    finally:
        await consumer.stop()


async def start_positions(
    config: EngineConfig, stage: StageConfig, reader: AIOKafkaConsumer, stores: Mapping[int, PartitionStore]
) -> dict[int, Position]:
    """Where to read on, per partition: the state's position, or the topics' beginnings when there is no state.

    Raises InputLost when a topic does not reach from there on, or is another than the state was built from though it
    has its name; SettingsError when the state was built from a topic of another name.
    """
    source_id = await topic_id(reader._client, stage.source_topic)
    tps = [TopicPartition(topic, partition) for topic in stage.input_topics for partition in stores]
    begins, ends = await reader.beginning_offsets(tps), await reader.end_offsets(tps)
    positions: dict[int, Position] = {}
    for partition, store in stores.items():
        inputs = [TopicPartition(topic, partition) for topic in stage.input_topics]
        position = store.position
        if position is None:
            feedback_begin = begins[inputs[1]] if stage.feedback_topic else 0
            positions[partition] = Position(stage.source_topic, begins[inputs[0]], feedback_begin, source_id)
            continue
        if position.topic != stage.source_topic:
            raise SettingsError(
                f"the state was built from topic {position.topic}, this worker reads {stage.source_topic}",
                "set WORKER_TOPIC_UPDATES to the former topic, or WORKER_APP_ID to a new name for a new state",
            )
        if position.topic_id not in (source_id, "") and source_id not in config.accepted_topic_ids:
            raise _another_topic(inputs[0], position, source_id)
        for tp, offset in zip(inputs, (position.offset, position.feedback_offset), strict=False):
            _require_reachable(tp, offset, begins[tp], ends[tp])
        positions[partition] = position._replace(topic_id=source_id)
    return positions


def _another_topic(tp: TopicPartition, position: Position, source_id: str) -> InputLost:
    return InputLost(
        f"{tp.topic}[{tp.partition}]: the state was built from a topic of this name with id {position.topic_id}, up to "
        f"offset {position.offset}; it was deleted and created again, and has id {source_id} now",
        "start a new state: another WORKER_APP_ID, and new output topics. If the topic was restored with the same "
        f"records at the same offsets, add {source_id} to WORKER_ACCEPTED_TOPIC_IDS",
    )


def _require_reachable(tp: TopicPartition, offset: int, begin: int, end: int) -> None:
    """Raises InputLost unless the partition can be read on at `offset`."""
    if offset < begin:
        raise InputLost(
            f"{tp.topic}[{tp.partition}]: records {offset} to {begin - 1} were deleted before they were processed",
            "raise the topic's retention; see the README on lost input for how to go on",
        )
    if offset > end:
        raise InputLost(
            f"{tp.topic}[{tp.partition}]: the state has read up to offset {offset}, "
            f"the topic ends at {end}: it was deleted and created again, or lost records",
            "restore the topic; or start a new state with another WORKER_APP_ID",
        )
