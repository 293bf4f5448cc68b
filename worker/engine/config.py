"""What the engine is told at its start. Frozen; built once by the application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

StoreKind = Literal["rocksdb", "memory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """One step of the work: a source topic, a table of its own, and what it sends.

    All topics of all stages have the same number of partitions, so that Faust's assignor moves the partitions of
    one number together.
    """

    name: str
    """Also the table's name, and part of its changelog's."""

    source_topic: str
    output_topics: tuple[str, ...]
    """Topics the handler sends to."""

    feedback_topic: str | None = None
    """Answers other stages send back to this one; never throttled, unlike the source."""

    @property
    def input_topics(self) -> tuple[str, ...]:
        return (self.source_topic,) if self.feedback_topic is None else (self.source_topic, self.feedback_topic)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    app_id: str
    """Consumer group, and prefix of transactional ids and of the changelog topic."""

    instance_id: str
    """Names this worker across restarts: a static member of the group, so that a restart within the
    session timeout causes no rebalance."""

    client: Mapping[str, Any]
    """Connection and security arguments, valid for every aiokafka client."""

    stages: tuple[StageConfig, ...]

    store: StoreKind
    state_dir: Path

    batch_max_records: int = 2000
    session_timeout_seconds: float = 10.0
    compression: str | None = None
    """Of everything the engine produces: gzip, snappy, lz4, zstd or None."""

    transaction_pause_seconds: float = 0.02
    """Between two transactions of a partition. A transaction costs the broker 2-6 ms of CPU whatever its
    size; 20 ms halves that for +10 ms of median latency."""

    transaction_timeout_seconds: float = 30.0
    """After so long the broker aborts a transaction that is neither committed nor fenced: readers wait no longer
    behind a worker that is frozen."""

    accepted_topic_ids: frozenset[str] = frozenset()
    """Source topics that hold what those of their names held that the state was built from, at the same offsets:
    restored ones. Any other is refused."""

    def changelog_topic(self, stage: StageConfig) -> str:
        return f"{self.app_id}-{stage.name}-changelog"

    def transactional_id(self, partition: int) -> str:
        """One id per partition number: whoever owns it next fences the one before."""
        return f"{self.app_id}-{self.stages[0].source_topic}-{partition}"
