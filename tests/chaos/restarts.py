"""Whoever restarts a worker that ended, as an operator's supervisor does, and counts how it ended."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection
from types import TracebackType
from typing import Self

from tests.broker.processes import WorkerProcess

POLL_SECONDS = 0.2


class Restarts:
    """Inside the `with`, a worker that ends by itself, or has just done so, is started again. `ended` counts the exit
    codes."""

    def __init__(self, worker: WorkerProcess, codes: Collection[int]) -> None:
        """codes: the ends that are in order; any other fails the scenario when the `with` is left."""
        self.ended: Counter[int] = Counter()
        self._worker, self._codes = worker, codes
        self._stopping = False
        self._changing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="restarts", daemon=True)

    def __enter__(self) -> Self:
        self._worker.expected_up = False
        # The error that ends it is logged with its cause: no unhandled exception.
        self._worker.may_fail = True
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while error is None and not self._worker.running:
            time.sleep(POLL_SECONDS)
        with self._changing:
            self._stopping = True
        self._worker.expected_up = self._worker.running
        if error is None:
            self._worker.require_running()
            wrong = self.ended.keys() - set(self._codes)
            assert not wrong, f"{self._worker.name} ended with {sorted(wrong)}\n{self._worker.tail()}"

    def _run(self) -> None:
        # A worker dies with the thread that started it: this one outlives the `with`, as long as the worker does.
        while not self._stopping or self._worker.running:
            with self._changing:
                if not self._stopping and not self._worker.running:
                    self.ended[self._worker.wait_exit(0)] += 1
                    self._worker.start()
                    self._worker.expected_up = False
            time.sleep(POLL_SECONDS)
