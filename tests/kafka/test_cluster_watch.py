"""What happens to topics under a running worker ends it, by name; what is as it should be does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from tests.kafka.clients import create_topic, unique
from tests.patience import PATIENCE_SECONDS
from worker.errors import TopicsError, WorkerError
from worker.kafka import cluster_watch, topics
from worker.kafka.cluster_watch import ClusterWatch
from worker.kafka.embedded import EmbeddedKafka
from worker.settings import Settings, load_settings

Harm = Callable[[AIOKafkaAdminClient, Settings], Awaitable[object]]


@pytest.fixture
def settings(kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch, no_settings: None) -> Settings:
    """Of an app whose topics exist; watched far more often than in real life."""
    monkeypatch.setattr(cluster_watch, "ROUND_SECONDS", 0.05)
    app = unique("watched")
    settings = load_settings(
        {
            "bootstrap_servers": kafka.bootstrap_servers,
            "app_id": app,
            "partitions": 2,
            "topic_updates": f"{app}.updates",
            "topic_enriched": f"{app}.enriched",
            "topic_dead_letters": f"{app}.dead-letters",
            "topic_ledger": f"{app}.ledger",
        }
    )
    asyncio.run(topics.create(settings))
    return settings


def ended_by(settings: Settings, harm: Harm) -> WorkerError:
    """What the watch ends the worker with after the harm was done; it must not before."""

    async def run() -> WorkerError:
        ends: asyncio.Queue[WorkerError] = asyncio.Queue()
        watch = ClusterWatch(settings, ends.put_nowait)
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        await admin.start()
        try:
            async with watch.watching(), asyncio.timeout(PATIENCE_SECONDS):
                while watch.rounds < 2 * cluster_watch.SURE_AFTER_ROUNDS:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
                assert ends.empty(), "it ends a worker whose topics are as they should be"
                await harm(admin, settings)
                return await ends.get()
        finally:
            await admin.close()

    return asyncio.run(run())


@pytest.mark.parametrize("field", ["topic_updates", "topic_dead_letters", "topic_changelog"])
def test_a_deleted_topic_is_named(settings: Settings, field: str) -> None:
    name = getattr(settings, field)
    error = ended_by(settings, lambda admin, _: admin.delete_topics([name]))
    assert isinstance(error, TopicsError)
    assert f"topic {name} was deleted" in error.problem


def test_a_topic_of_the_same_name_is_another_topic(settings: Settings) -> None:
    async def replace(admin: AIOKafkaAdminClient, settings: Settings) -> None:
        await admin.delete_topics([settings.topic_updates])
        bootstrap, name = settings.bootstrap_servers, settings.topic_updates
        while name in await admin.list_topics():  # noqa: ASYNC110 - it is the broker's doing
            await asyncio.sleep(0.01)
        await asyncio.to_thread(create_topic, bootstrap, name, partitions=2)

    error = ended_by(settings, replace)
    assert settings.topic_updates in error.problem
    assert "deleted" in error.problem


def test_added_partitions_are_named_with_both_counts(settings: Settings) -> None:
    name = settings.topic_updates
    error = ended_by(settings, lambda admin, _: admin.create_partitions({name: NewPartitions(total_count=5)}))
    assert f"{name} has 5 partitions, it was started with 2" in error.problem
