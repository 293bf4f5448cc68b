"""All topics, declared in one place; created and compared with what a broker really has.

The worker never lets a broker create topics by itself: a topic with another partition count than its
siblings would put a session's outputs where nobody looks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.settings import Settings

DAY_MS: Final = 86_400_000
MIB: Final = 1024 * 1024
DEAD_LETTER_MAX_BYTES: Final = 8 * MIB
"""A dead letter is the rejected record as it came plus the reason: any input a broker accepts must fit."""
BROKER_DEFAULT_MAX_BYTES: Final = 1_048_588
BATCH_OVERHEAD_BYTES: Final = 4_096
"""What a batch holding a single record adds to it, generously: the batch header and the record's varints."""
ANY_TIMESTAMP: Final = str(2**63 - 1)


@dataclass(frozen=True)
class TopicDeclaration:
    """A topic as it must be. `configs` are the broker's own names and texts; others stay as the broker has them."""

    name: str
    purpose: str
    partitions: int
    replication_factor: int
    configs: dict[str, str]


def declared(settings: Settings) -> list[TopicDeclaration]:
    """The five topics, the input first. All have the same number of partitions: outputs keep their input's."""
    shared = {
        "min.insync.replicas": "2" if settings.replication_factor >= 3 else "1",
        # Outputs carry their input's timestamp, and a producer's clock may run ahead.
        "message.timestamp.after.max.ms": ANY_TIMESTAMP,
    }
    compacted = shared | {
        "cleanup.policy": "compact",
        # How long a reader may take to see a tombstone before it is gone.
        "delete.retention.ms": str(DAY_MS),
        # The cleaner never touches the open segment; 64 MiB keeps a restore from reading a gigabyte of old rows.
        "segment.bytes": str(64 * MIB),
        # A record of the largest size that `apply` lets pass must be one the topic takes.
        "max.message.bytes": str(max(BROKER_DEFAULT_MAX_BYTES, settings.max_record_bytes + BATCH_OVERHEAD_BYTES)),
    }

    def kept(days: int) -> dict[str, str]:
        return shared | {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}

    def topic(name: str, purpose: str, configs: dict[str, str]) -> TopicDeclaration:
        return TopicDeclaration(name, purpose, settings.partitions, settings.replication_factor, configs)

    return [
        topic(settings.topic_updates, "input: session updates", kept(days=7)),
        topic(settings.topic_enriched, "output: enriched sessions", compacted),
        topic(
            settings.topic_dead_letters,
            "rejected updates with the reason",
            kept(days=30) | {"max.message.bytes": str(DEAD_LETTER_MAX_BYTES)},
        ),
        topic(settings.topic_ledger, "counts per transaction", kept(days=30)),
        topic(settings.topic_changelog, "stored sessions", compacted),
    ]
