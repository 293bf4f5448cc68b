"""Whoever restarts a worker that ended, as an operator's supervisor does, and counts how it ended."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection
from types import TracebackType
from typing import Self

from tests.broker.processes import WorkerProcess

POLL_SECONDS = 0.2


class Restarts:
    """Inside the `with`, a running worker that ends by itself is started again. `ended` counts the exit codes."""

    def __init__(self, worker: WorkerProcess, codes: Collection[int]) -> None:
        """codes: the ends that are in order; any other fails the scenario when the `with` is left."""
        self.ended: Counter[int] = Counter()
        self._worker, self._codes = worker, codes
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="restarts", daemon=True)

    def __enter__(self) -> Self:
        self._worker.require_running()
        self._worker.expected_up = False
        # An error that ends it is logged with its cause: no unhandled exception.
        self._worker.may_fail = True
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        if error is None:
            wrong = self.ended.keys() - set(self._codes)
            assert not wrong, f"{self._worker.name} ended with {sorted(wrong)}\n{self._worker.tail()}"

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            if not self._worker.running:
                self.ended[self._worker.wait_exit(0)] += 1
                self._worker.start()
                self._worker.expected_up = False
