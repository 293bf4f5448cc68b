"""When partitions go on: a thread that watches the group's committed offsets move."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from tests.broker.pipeline import Pipeline

LOOK_SECONDS: Final = 0.02


class Commits:
    """Inside a `with`: the moments, of time.monotonic, at which each partition was seen to have committed more."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._moments: dict[int, list[float]] = {}
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(30)
        if error is None and self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            before = self._pipeline.committed()
            while not self._stopping.wait(LOOK_SECONDS):
                now, committed = time.monotonic(), self._pipeline.committed()
                for partition, offset in committed.items():
                    if offset > before.get(partition, 0):
                        self._moments.setdefault(partition, []).append(now)
                before |= committed
        except BaseException as failure:  # noqa: BLE001 - told to the scenario's own thread
            self._failure = failure

    @staticmethod
    def now() -> float:
        """A moment to ask about later."""
        return time.monotonic()

    def between(self, partition: int, begin: float, end: float) -> int:
        """How often the partition was seen to commit between two moments."""
        return sum(begin < seen < end for seen in self._moments.get(partition, ()))

    def all_went_on(self, partitions: Iterable[int], moment: float) -> bool:
        """Whether each of these partitions committed after the moment."""
        return all(self.between(partition, moment, math.inf) for partition in partitions)

    def seconds_until(self, partitions: Iterable[int], moment: float) -> float:
        """From `moment` until the last of these partitions committed again; all of them have."""
        return max(min(seen for seen in self._moments[p] if seen > moment) for p in partitions) - moment

    def longest_gap_seconds(self, partitions: Iterable[int], begin: float, end: float) -> float:
        """The longest time between `begin` and `end` in which one of these partitions committed nothing."""
        longest = 0.0
        for partition in partitions:
            moments = [begin, *(seen for seen in self._moments.get(partition, ()) if begin < seen < end), end]
            longest = max(longest, *(later - earlier for earlier, later in itertools.pairwise(moments)))
        return longest
