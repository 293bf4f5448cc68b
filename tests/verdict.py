"""What the oracle says: counts over everything, and what is wrong, readable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.logs import Headers, Record

FAULTS_TOLD = 12
"""A verdict keeps this many descriptions; counts are always complete."""


class Written(NamedTuple):
    """A record the model says must be in a topic; `timestamp` in ms."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


@dataclass
class Verdict:
    """Counts over all partitions, and what is wrong. Clean means not one fault."""

    events: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    outputs: int = 0
    dead_letters: int = 0
    rows: int = 0
    transactions: int = 0
    lag: int = 0
    lost: int = 0
    duplicated: int = 0
    different: int = 0
    reordered: int = 0
    unexpected: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def fault(self, rule: str, partition: int | None, text: str) -> None:
        """Record that `rule` (S1…S8, schema) is broken; `text` shows the record."""
        self.broken[rule] += 1
        if len(self.faults) < FAULTS_TOLD or self.broken[rule] == 1:
            self.faults.append(f"{rule}{'' if partition is None else f' partition {partition}'}: {text}")

    @property
    def clean(self) -> bool:
        return not self.broken

    def require_clean(self) -> Verdict:
        """Return self, or raise AssertionError telling the first differing records and all counts."""
        if not self.clean:
            raise AssertionError("\n".join([str(self), *self.faults]))
        return self

    def __str__(self) -> str:
        return (
            f"{self.events} events ({counts(self.outcomes)}; {counts(self.reasons) or 'none rejected'}), "
            f"{self.outputs} outputs, {self.dead_letters} dead letters, {self.rows} rows, "
            f"{self.transactions} transactions: {self.lost} lost, {self.duplicated} duplicated, "
            f"{self.different} different, {self.reordered} reordered, {self.unexpected} unexpected, lag {self.lag}"
            + ("" if self.clean else f"; broken: {counts(self.broken)}")
        )


def difference(expected: Written | Record, found: Record) -> str:
    """What differs, readable; empty when nothing does."""
    parts = []
    for name in ("key", "value", "timestamp", "headers"):
        want, got, label = getattr(expected, name), getattr(found, name), name
        if want == got:
            continue
        if name == "headers":
            want, got = [h for h in want if h not in got], [h for h in got if h not in want]
        elif isinstance(want, bytes) and isinstance(got, bytes):
            at = next((i for i, (a, b) in enumerate(zip(want, got, strict=False)) if a != b), min(len(want), len(got)))
            label = f"value from byte {at}" if name == "value" else name
            want, got = (raw[max(0, at - 60) : at + 60] for raw in (want, got))
        parts.append(f"\n  {label}\n    expected {want!r}\n    found    {got!r}")
    return "".join(parts)


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)"


def counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))
