"""The Faust app around an engine: group membership, assignor, agent and table are Faust's."""

from __future__ import annotations

from typing import Any, cast

import faust
from faust.assignor.partition_assignor import PartitionAssignor
from faust.stores import STORES
from faust.stores import base as faust_stores
from faust.types import StreamT
from yarl import URL

from worker.engine.engine import Engine
from worker.engine.failure import exit_process
from worker.engine.internals import FAUST_LOGGER, survive_cut_connections
from worker.engine.recovery import TableManager
from worker.engine.transport import URL_SCHEME, BatchMessage, Consumer, to_slice
from worker.errors import EngineFailure


class UndecodedSchema(faust.Schema[Any, Any]):
    """Hands the message on as it was fetched: the handler decodes."""

    def compile(self, app: Any, **_: Any) -> Any:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(message.key, message.value, message.headers, message)

        return decode


class EngineStore(faust_stores.Store[Any, Any]):
    """What Faust takes for the table's store. The rows are in the engine's partition stores."""

    logger = FAUST_LOGGER

    def persisted_offset(self, tp: Any) -> int | None:
        """None: the engine's restore knows where each partition's rows end."""
        return None

    def reset_state(self) -> None:
        """Nothing: state is cleared per partition, by deleting its directory."""

    def apply_changelog_batch(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("the engine's recovery restores, in bulk")

    async def backup_partition(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("the changelog is the backup")

    def restore_backup(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("the changelog is the backup")


_STORE_URL = "engine-store://partitions"  # yarl: a URL of a scheme alone is false, and Faust would take its default
STORES.aliases["engine-store"] = f"{__name__}:EngineStore"


class WholeAssignor(PartitionAssignor):
    """Faust's, but it hands out all partitions or none.

    Faust leaves out a topic of which the broker that was asked knows nothing: deleted, or not yet told to it. The
    group keeps such an assignment, and gives it again to a static member that restarts: it would wait for ever, with
    nothing to do.
    """

    def assign(self, cluster: Any, member_metadata: Any) -> Any:
        engine_config = cast("BatchApp", self.app).engine.config
        stages = engine_config.stages
        for topic in (topic for each in stages for topic in (*each.input_topics, engine_config.changelog_topic(each))):
            found, expected = len(cluster.partitions_for_topic(topic) or ()), self.app.conf.topic_partitions
            if found != expected:
                exit_process(
                    EngineFailure(
                        f"the brokers tell of {found} partitions of {topic} where there must be {expected}: "
                        "the group cannot be assigned",
                        "restart the worker: its start compares all topics, and names what is off",
                    )
                )
        return super().assign(cluster, member_metadata)


class BatchApp(faust.App):
    """A Faust app with an agent per stage, which feed an engine."""

    logger = FAUST_LOGGER

    engine: Engine


def create_app(engine: Engine, *, partitions: int) -> BatchApp:
    """Builds the app for one worker process. Faust's web server, leader topic, topic declaration, standbys
    and own commits are off."""
    survive_cut_connections()
    config = engine.config
    app = BatchApp(
        config.app_id,
        broker=f"{URL_SCHEME}://brokers",  # addresses and security come from config.client
        TableManager=TableManager,
        PartitionAssignor=WholeAssignor,
        topic_partitions=partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
        # The assignor tells members apart by this URL; nothing listens there.
        canonical_url=URL(f"http://{config.instance_id}.worker"),
        datadir=str(config.state_dir / "faust"),
        broker_session_timeout=config.session_timeout_seconds,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        autodiscover=False,
    )
    app.engine = engine
    for stage in config.stages:
        app.Table(stage.name, key_type=bytes, value_type=bytes, partitions=partitions, store=_STORE_URL)
        inputs = app.topic(*stage.input_topics, schema=UndecodedSchema(), key_type=bytes, value_type=bytes)
        app.agent(inputs, name=stage.name)(_feed(app))
    return app


def _feed(app: BatchApp) -> Any:
    async def feed(stream: StreamT[Any]) -> None:
        stream.enable_acks = False  # the engine acknowledges, after the commit
        async for event in stream.events():
            message = cast(BatchMessage, event.message)
            fetched = to_slice(message, cast(Consumer, app.consumer))
            app.engine.offer(message.topic, message.partition, cast(int, message.generation_id), fetched)

    return feed
