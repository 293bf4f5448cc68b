"""Topics are created as declared, never changed, and every difference that matters is found."""

from __future__ import annotations

import asyncio

import pytest

from tests.kafka.clients import create_topic, unique
from worker.errors import TopicsError
from worker.kafka import topics
from worker.kafka.embedded import EmbeddedKafka
from worker.settings import Settings, load_settings

pytestmark = pytest.mark.usefixtures("no_settings")


def settings_for(kafka: EmbeddedKafka, app: str | None = None, **more: object) -> Settings:
    """Settings of an app whose five topics no other test has."""
    app = app or unique("app")
    names = {
        f"topic_{name}": f"{app}.{name.replace('_', '-')}" for name in ("updates", "enriched", "dead_letters", "ledger")
    }
    return load_settings({"bootstrap_servers": kafka.bootstrap_servers, "app_id": app, **names, **more})


def compare(settings: Settings) -> topics.TopicsReport:
    return asyncio.run(topics.check(settings))


def test_create_makes_what_is_declared_and_a_second_create_changes_nothing(kafka: EmbeddedKafka) -> None:
    settings = settings_for(kafka)
    names = [declaration.name for declaration in topics.declared(settings)]
    assert asyncio.run(topics.create(settings)) == dict.fromkeys(names, True)
    assert compare(settings).differences() == []
    assert asyncio.run(topics.create(settings)) == dict.fromkeys(names, False)
    assert compare(settings).as_declared
    compare(settings).require_usable()


def test_two_workers_may_create_at_once(kafka: EmbeddedKafka) -> None:
    settings = settings_for(kafka)

    async def both() -> tuple[dict[str, bool], dict[str, bool]]:
        return await asyncio.gather(topics.create(settings), topics.create(settings))

    first, second = asyncio.run(both())
    assert all(first[name] != second[name] for name in first)
    assert compare(settings).as_declared


def test_check_creates_nothing_and_names_each_missing_topic(kafka: EmbeddedKafka) -> None:
    settings = settings_for(kafka)
    for _ in range(2):
        report = compare(settings)
        assert [topic.declaration.name for topic in report.topics if topic.missing] == [
            declaration.name for declaration in topics.declared(settings)
        ]
    with pytest.raises(TopicsError, match="topics create"):
        report.require_usable()


@pytest.mark.parametrize(
    ("topic", "name", "value", "declared", "usable"),
    [
        ("topic_updates", "cleanup.policy", "compact", "delete", True),
        ("topic_updates", "retention.ms", "3600000", "604800000", True),
        ("topic_enriched", "cleanup.policy", "delete", "compact", False),
        ("topic_changelog", "cleanup.policy", "compact,delete", "compact", False),
        ("topic_enriched", "max.message.bytes", "1000", "1048588", True),
        ("topic_dead_letters", "max.message.bytes", "1048588", "67108864", True),
        ("topic_ledger", "retention.ms", "60000", "2592000000", True),
        ("topic_claims", "message.timestamp.type", "CreateTime", "LogAppendTime", True),
        ("topic_dead_letters", "retention.bytes", "1048576", "1073741824", True),
        ("topic_ledger", "min.insync.replicas", "2", "1", True),
        ("topic_enriched", "message.timestamp.after.max.ms", "3600000", "9223372036854775807", True),
    ],
)
def test_a_differing_configuration_is_the_only_difference_found(
    kafka: EmbeddedKafka, topic: str, name: str, value: str, declared: str, usable: bool
) -> None:
    settings = settings_for(kafka)
    odd = getattr(settings, topic)
    [declaration] = [d for d in topics.declared(settings) if d.name == odd]
    create_topic(kafka.bootstrap_servers, odd, partitions=4, configs=declaration.configs | {name: value})
    assert asyncio.run(topics.create(settings))[odd] is False
    report = compare(settings)
    assert report.differences() == [(odd, name, value, declared)]
    assert not report.as_declared
    if usable:
        report.require_usable()
    else:
        with pytest.raises(TopicsError, match=name):
            report.require_usable()


def test_a_wrong_partition_count_stops_the_worker_with_the_table(kafka: EmbeddedKafka) -> None:
    settings = settings_for(kafka)
    create_topic(
        kafka.bootstrap_servers, settings.topic_ledger, partitions=3, configs=topics.declared(settings)[3].configs
    )
    asyncio.run(topics.create(settings))
    report = compare(settings)
    assert report.differences() == [(settings.topic_ledger, "partitions", "3", "4")]
    with pytest.raises(TopicsError) as refusal:
        report.require_usable()
    assert settings.topic_ledger in refusal.value.problem
    assert refusal.value.exit_code == 2


def test_a_lower_replication_than_declared_is_found_but_does_not_stop_the_worker(kafka: EmbeddedKafka) -> None:
    settings = settings_for(kafka)
    asyncio.run(topics.create(settings))
    wanted = settings_for(kafka, settings.app_id, replication_factor=3)
    report = compare(wanted)
    assert {(name, live, declared) for _, name, live, declared in report.differences()} == {
        ("replication", "1", "3"),
        ("min.insync.replicas", "1", "2"),
    }
    report.require_usable()


def test_more_replicas_than_brokers_is_refused_with_the_setting_to_change(kafka: EmbeddedKafka) -> None:
    with pytest.raises(TopicsError, match="WORKER_REPLICATION_FACTOR"):
        asyncio.run(topics.create(settings_for(kafka, replication_factor=30)))


def test_a_larger_record_limit_declares_larger_topics() -> None:
    settings = load_settings({"max_record_bytes": 5_000_000})
    limits = {d.name: int(d.configs.get("max.message.bytes", 0)) for d in topics.declared(settings)}
    assert limits[settings.topic_enriched] > 5_000_000
    assert limits[settings.topic_changelog] > 5_000_000
