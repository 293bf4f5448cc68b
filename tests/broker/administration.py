"""What an administrator does to topics, for better or worse."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions

from tests.broker.pipeline import Pipeline
from tests.logs import Record, admin_of, partitions_of
from tests.patience import PATIENCE_SECONDS


def configure(pipeline: Pipeline, topic: str, configs: Mapping[str, str]) -> None:
    """Sets these and leaves the topic's other settings."""
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in configs.items()]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for done in admin_of(pipeline.bootstrap).incremental_alter_configs([resource]).values():
        done.result(timeout=20)


def add_partitions(pipeline: Pipeline, topic: str, count: int) -> None:
    """Raises the topic's number of partitions to `count`."""
    admin = admin_of(pipeline.bootstrap)
    for done in admin.create_partitions([NewPartitions(topic, count)]).values():
        done.result(timeout=20)
    partitions_of.cache_clear()


def delete_topic(pipeline: Pipeline, topic: str) -> None:
    """Returns when it is gone, and another of its name may be created."""
    admin = admin_of(pipeline.bootstrap)
    for done in admin.delete_topics([topic], operation_timeout=20).values():
        done.result(timeout=20)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while topic in admin.list_topics(timeout=20).topics:
        assert time.monotonic() < deadline, f"{topic} is still there"
        time.sleep(0.05)


def write_back(pipeline: Pipeline, topic: str, records: Iterable[Record]) -> None:
    """Writes records as they were, as a tool for backups does."""
    producer = pipeline.producer()
    for each in records:
        producer.produce(
            topic,
            each.value,
            each.key,
            partition=each.partition,
            timestamp=each.timestamp,
            headers=list(each.headers),
        )
        producer.poll(0)
    assert producer.flush(60) == 0
