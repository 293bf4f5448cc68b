"""What a scenario asks of three brokers: who coordinates what, and whether all replicas are in sync again."""

from __future__ import annotations

import time
from typing import Final

from tests.broker.pipeline import Pipeline
from tests.logs import admin_of, from_coordinator
from tests.patience import PATIENCE_SECONDS
from worker.kafka.embedded import EmbeddedKafka

GROUPS: Final = "__consumer_offsets"
TRANSACTIONS: Final = "__transaction_state"
POLL_SECONDS: Final = 0.1


class Cluster:
    """Three brokers and one app on them."""

    def __init__(self, kafka: EmbeddedKafka, pipeline: Pipeline) -> None:
        self.kafka = kafka
        self._pipeline = pipeline
        self._admin = admin_of(kafka.bootstrap_servers)

    def group_coordinator(self) -> int:
        """The node that holds the app's consumer group. Not asked of the group: a client that knows one which died
        goes on asking it."""
        return self._leader(GROUPS, self._pipeline.app_id)

    def transaction_coordinator(self, partition: int) -> int:
        """The node that holds the transactions of this source partition."""
        transactional_id = f"{self._pipeline.app_id}-{self._pipeline.names.updates}-{partition}"
        return self._leader(TRANSACTIONS, transactional_id)

    def _leader(self, topic: str, name: str) -> int:
        """Of the partition of this topic that keeps what is so called."""
        partitions = from_coordinator(lambda: self._admin.list_topics(topic, timeout=5)).topics[topic].partitions
        return partitions[abs(java_hash(name)) % len(partitions)].leader

    def start(self, node: int, *, wait_in_sync: bool) -> None:
        """Starts a node that was killed or stopped, and waits until it serves or has caught up."""
        self.kafka.start(node)
        if wait_in_sync:
            self.wait_in_sync()

    def wait_in_sync(self) -> None:
        """Returns when every partition of every topic has all its replicas in sync: the next broker may go."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while lagging := self._lagging():
            assert time.monotonic() < deadline, f"not in sync after {PATIENCE_SECONDS} s: {lagging}"
            time.sleep(POLL_SECONDS)

    def _lagging(self) -> list[str]:
        topics = self._admin.list_topics(timeout=20).topics.values()
        return [
            f"{topic.topic}[{number}]"
            for topic in topics
            for number, partition in topic.partitions.items()
            if len(partition.isrs) < len(partition.replicas) or partition.leader < 0
        ]


def java_hash(text: str) -> int:
    """Java's String.hashCode, as a signed 32-bit number: how Kafka spreads transactional ids."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
