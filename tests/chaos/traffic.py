"""Events that keep coming while things break."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from tests.logs import end_offsets
from tests.patience import PATIENCE_SECONDS
from worker.load.event import StreamEvent

if TYPE_CHECKING:
    from tests.broker.pipeline import Pipeline

TICK_SECONDS: Final = 0.02
LOOK_SECONDS: Final = 0.25
NO_LIMIT: Final = 10_000_000


class Traffic:
    """The synthetic stream at a steady rate, from a thread of its own, inside a `with`.

    At the end all that was handed over is delivered, in order: the producer is idempotent and retries for
    minutes, so that a broker may be away for a while. An event that cannot be delivered fails the scenario.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        events: Iterator[StreamEvent],
        *,
        per_second: int,
        most: int = NO_LIMIT,
        waiting: int = NO_LIMIT,
    ) -> None:
        """events: taken from while the `with` lasts; per_second: of them; most: stop sending after so many; waiting:
        hold back while more than so many wait to be processed, so that a slow machine does not drain for ever what a
        fast one would have done meanwhile."""
        self.sent = 0
        self._pipeline = pipeline
        self._events = islice(events, most)
        self._per_second = per_second
        self._waiting = waiting
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE_SECONDS)
        if error is None:
            assert not self._thread.is_alive(), f"events were not delivered within {PATIENCE_SECONDS} s"
            if self._failure is not None:
                raise self._failure

    def _run(self) -> None:
        try:
            producer = self._pipeline.producer()
            sent_until = looked = time.monotonic()
            held_back = False
            while not self._stopping.wait(TICK_SECONDS):
                now = time.monotonic()
                if now - looked > LOOK_SECONDS:
                    held_back = self._are_waiting()
                    looked = time.monotonic()
                due = 0 if held_back else int((now - sent_until) * self._per_second)
                sent_until = now if held_back else sent_until + due / self._per_second
                for event in islice(self._events, due):
                    self._pipeline.send_one(producer, event)
                    self.sent += 1
                producer.poll(0)
            self._pipeline.flush(producer)
        except BaseException as failure:  # noqa: BLE001 - told to the scenario's own thread
            self._failure = failure

    def _are_waiting(self) -> bool:
        """Whether more wait than may; false when nobody asked, without a question to the broker."""
        if self._waiting >= NO_LIMIT:
            return False
        sent = sum(end_offsets(self._pipeline.bootstrap, self._pipeline.names.updates).values())
        return sent - sum(self._pipeline.committed().values()) > self._waiting
