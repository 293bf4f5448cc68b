"""What a running worker says about its work: a line every ten seconds in which something happened."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import structlog
from msgspec import structs

from worker.agents.sessions import BatchSummary
from worker.engine.transaction import Committed

logger = structlog.get_logger(__name__)

_REPORT_SECONDS: Final = 10.0


class Progress:
    """Adds up committed transactions. `record` is the engine's observer."""

    def __init__(self) -> None:
        self.records = 0
        """Records processed since the start."""
        self._since = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def record(self, committed: Committed) -> None:
        if isinstance(committed.summary, BatchSummary):  # the profiles' part adds nothing to it
            self.records += committed.records
            self._counts["transactions"] += 1
            self._counts.update(structs.asdict(committed.summary.outcomes))
            self._reasons.update(committed.summary.reasons)

    @contextlib.asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """Reports while the block runs, and a last time at its end."""
        task = asyncio.create_task(self._report_for_ever(), name="progress")
        try:
            yield
        finally:
            task.cancel()
            self._report()

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            self._report()

    def _report(self) -> None:
        now = time.monotonic()
        if self._counts:
            outcomes = {name: count for name, count in self._counts.items() if name != "transactions"}
            logger.info(
                "processed",
                **outcomes,
                reasons=dict(self._reasons),
                transactions=self._counts["transactions"],
                events_per_second=round(sum(outcomes.values()) / max(now - self._since, 1e-9)),
            )
        self._since = now
        self._counts.clear()
        self._reasons.clear()
