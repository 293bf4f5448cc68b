"""S8: what a worker takes of the machine stays within bounds all the time, however often things fail around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.broker.fleet import pids
from tests.broker.processes import WorkerProcess, open_files, resident_bytes

MAX_OPEN_FILES: Final = 256
MAX_RESIDENT_BYTES: Final = 512 << 20
"""Of any process of a scenario: a hundred files and 300 MB are the most that was seen."""
MAX_LOG_CHARACTERS: Final = 64 << 10
"""For every start of a worker, and for every minute."""
EVERY_SECONDS: Final = 1.0


class Bounds:
    """Looks at every process again and again, and keeps the most that any of them took."""

    def __init__(self, workers: Callable[[], Iterable[WorkerProcess]]) -> None:
        self._workers = workers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._begun = time.monotonic()
        self._most_open_files = (0, "")
        self._most_resident_bytes = (0, "")
        self._failure: BaseException | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watches inside the `with`."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def require_kept(self) -> None:
        """Raises AssertionError when a process took too much at any of the looks, or logged more than its starts and
        its time explain."""
        if self._failure is not None:
            raise self._failure
        files, name = self._most_open_files
        assert files <= MAX_OPEN_FILES, f"{name} had {files} open files"
        resident, name = self._most_resident_bytes
        assert resident <= MAX_RESIDENT_BYTES, f"{name} took {resident >> 20} MB"
        minutes = (time.monotonic() - self._begun) / 60
        for worker in self._workers():
            size, starts = len(worker.output()), worker.starts
            allowed = MAX_LOG_CHARACTERS * (starts + minutes)
            assert size <= allowed, f"{worker.name} logged {size >> 10} KB in {starts} starts, {minutes:.1f} minutes"

    def look(self) -> None:
        """Once, at all that run now."""
        for worker in list(self._workers()):
            for pid in _processes(worker):
                with suppress(OSError):  # it ended between
                    self._most_open_files = max(self._most_open_files, (open_files(pid), worker.name))
                    self._most_resident_bytes = max(self._most_resident_bytes, (resident_bytes(pid), worker.name))

    def _watch(self) -> None:
        try:
            while not self._stop.wait(EVERY_SECONDS):
                self.look()
        except BaseException as failure:  # noqa: BLE001 - raised in the scenario's own thread
            self._failure = failure


def _processes(worker: WorkerProcess) -> list[int]:
    own = [worker.pid] if worker.running else []
    return own + (list(pids(worker).values()) if worker.is_fleet else [])
