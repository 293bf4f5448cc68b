"""The peer: a plain transactional confluent-kafka loop that does the same rules, as one would write it by hand.

Consume, apply `SessionsHandler` over a dict, produce changelog, outputs, dead letters and ledger, add the offsets,
commit: one transaction per poll. It takes its settings from WORKER_* like the worker. It restores nothing,
survives no rebalance with its state and has no store: it is the least code that gives the same records.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from types import FrameType
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.partition import LonePartition
from worker.agents.sessions import SessionsConfig
from worker.settings import Settings, load_settings


class Record:
    """A confluent-kafka message as the handler reads it."""

    __slots__ = ("headers", "key", "offset", "timestamp", "value")

    def __init__(self, message: Any) -> None:
        self.offset = message.offset()
        self.timestamp = message.timestamp()[1]
        self.key = message.key()
        self.value = message.value()
        self.headers = message.headers() or []


def run(settings: Settings) -> None:
    """Runs until SIGTERM."""
    stopped = False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": settings.app_id,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "transactional.id": settings.app_id,
            "compression.type": settings.compression,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.init_transactions()
    consumer.subscribe([settings.topic_updates])
    # Claims are answered within the partition, at once: nothing crosses partitions, which is less work than the
    # worker's, and other answers.
    config = SessionsConfig(
        enriched_topic=settings.topic_enriched,
        dead_letters_topic=settings.topic_dead_letters,
        ledger_topic=settings.topic_ledger,
    )
    partitions = [LonePartition(config, settings.topic_updates, number) for number in range(settings.partitions)]
    positions: dict[int, int] = defaultdict(int)
    while not stopped:
        messages = [m for m in consumer.consume(settings.batch_max_records, timeout=0.05) if m.error() is None]
        if messages:
            _transaction(settings, consumer, producer, messages, partitions, positions)
    consumer.close()


def _transaction(
    settings: Settings,
    consumer: Consumer,
    producer: Producer,
    messages: list[Any],
    partitions: list[LonePartition],
    positions: dict[int, int],
) -> None:
    by_partition: dict[int, list[Record]] = defaultdict(list)
    for message in messages:
        by_partition[message.partition()].append(Record(message))
    producer.begin_transaction()
    for partition, records in by_partition.items():
        effects = partitions[partition].take(positions[partition], records)
        for key, row in effects.rows.items():
            producer.produce(
                settings.topic_changelog, key=key, value=row.value, partition=partition, timestamp=row.timestamp_ms
            )
        for topic, sends in effects.sends.items():
            for send in sends:
                producer.produce(
                    topic,
                    key=send.key,
                    value=send.value,
                    partition=partition,
                    timestamp=send.timestamp_ms,
                    headers=list[tuple[str, str | bytes | None]](send.headers),
                )
        positions[partition] = records[-1].offset + 1
        producer.poll(0)
    offsets = [TopicPartition(settings.topic_updates, p, positions[p]) for p in by_partition]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
    producer.commit_transaction()


if __name__ == "__main__":
    run(load_settings())
