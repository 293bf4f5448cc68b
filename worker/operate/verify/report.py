"""The result of `verify`: what was compared, how much differs, and the first differences in full."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from worker.operate.verify.findings import Kind


@dataclass(frozen=True)
class Difference:
    """A record that is not as it must be. Without payload unless that was asked for."""

    kind: Kind
    topic: str
    partition: int
    offset: int | None
    """Where it stands in `topic`; None when it is not there."""
    key: str | None
    source_offset: int | None
    """The input record that leads to it, where there is one."""
    text: str
    differs_in: tuple[str, ...] = ()
    expected: str | None = None
    found: str | None = None

    @property
    def headline(self) -> str:
        """Which record it is and what is wrong, in a sentence."""
        where = f"{self.topic}[{self.partition}]"
        if self.offset is not None:
            where += f" offset {self.offset}"
        about = "" if self.key is None else f", key {self.key}"
        source = "" if self.source_offset is None else f" (input offset {self.source_offset})"
        return f"{where}{about}: {self.text}{source}"


@dataclass
class TopicResult:
    """One topic, all partitions together."""

    topic: str
    holds: str
    compared: int = 0
    differences: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Expected records that are rightly not there, by why."""

    def as_json(self) -> dict[str, Any]:
        left_out = {why: count for why, count in self.left_out.items() if count}
        return {
            "topic": self.topic,
            "holds": self.holds,
            "compared": self.compared,
            "differences": self.differences,
            "left_out": left_out,
        }


@dataclass(frozen=True)
class PartitionResult:
    """The input of one partition that was folded: from `first_offset` up to, not including, `next_offset`."""

    partition: int
    first_offset: int
    next_offset: int
    records: int


@dataclass
class Report:
    """Everything `verify` found."""

    input_topic: str
    topics: dict[str, TopicResult]
    partitions: list[PartitionResult] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    written_by: Counter[str] = field(default_factory=Counter)
    """Dead letters by the version of the worker that wrote them."""
    differences: list[Difference] = field(default_factory=list)
    """The first ones of each topic and partition; by partition and place in its input, stored rows last."""

    @property
    def agrees(self) -> bool:
        return not self.differing_records

    @property
    def differing_records(self) -> int:
        """How many records are not as they must be; `differences` need not hold all of them."""
        return sum(topic.differences for topic in self.topics.values())

    @property
    def updates(self) -> int:
        """Input records folded."""
        return sum(partition.records for partition in self.partitions)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; `first` is the first difference, null when all agree."""
        differences = [asdict(difference) for difference in self.differences]
        return {
            "agrees": self.agrees,
            "updates": self.updates,
            "differing_records": self.differing_records,
            "first": differences[0] if differences else None,
            "input": {"topic": self.input_topic, "partitions": [asdict(one) for one in self.partitions]},
            "topics": [topic.as_json() for topic in self.topics.values()],
            "outcomes": dict(self.outcomes),
            "reasons": dict(self.reasons),
            "dead_letters_written_by": dict(self.written_by),
            "differences": differences,
        }
