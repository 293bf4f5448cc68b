"""Ends a process that has work and gets nothing done, so that no silent stall can last.

A thread of its own, because a blocked event loop is one of the things it must notice. Before the end it
logs the stacks of all tasks and threads: the next reader of the log sees what hung.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

import structlog

from worker.engine.engine import Engine
from worker.engine.failure import exit_process
from worker.errors import BrokerUnreachable, Stalled, WorkerError

logger = structlog.get_logger(__name__)

_CHECK_SECONDS: Final = 1.0


class Watchdog:
    """Watches one engine from `start` until `stop`.

    An outage of all brokers is no stall: the time is counted anew when it ends. But a worker that has work does not
    wait for ever: it ends as one does that finds no broker at its start, and whoever restarts it waits. An idle one
    stays (its fetches count as progress, whatever they find), so an outage at night is no series of crashes.
    """

    def __init__(self, engine: Engine, limit_seconds: float, brokers_away_seconds: Callable[[], float]) -> None:
        """brokers_away_seconds: how long no broker at all has answered; 0 while one does."""
        self._engine = engine
        self._limit_seconds = limit_seconds
        self._brokers_away_seconds = brokers_away_seconds
        self._last_away = 0.0
        self._stopped = threading.Event()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(loop,), name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped.wait(_CHECK_SECONDS):
            problem = self._problem()
            if isinstance(problem, Stalled):
                logger.critical("stacks", tasks=_task_stacks(loop), threads=_thread_stacks())
            if problem is not None:
                exit_process(problem)

    def _problem(self) -> WorkerError | None:
        if not self._engine.has_work:
            return None
        now = time.monotonic()
        away_seconds = self._brokers_away_seconds()
        if away_seconds:
            self._last_away = now
        idle_seconds = now - self._engine.last_progress
        if away_seconds and idle_seconds > self._limit_seconds:
            return BrokerUnreachable(
                f"no broker has answered for {away_seconds:.0f} s, and there is work to finish",
                "look at the brokers and the network; restart the worker, as often as it takes: it continues where "
                "the last transaction ended",
            )
        if now - max(self._engine.last_progress, self._last_away) > self._limit_seconds:
            return Stalled(
                f"the worker has work and got nothing done for {idle_seconds:.0f} s",
                "restart the worker: it continues where the last transaction ended. The log line before this "
                "one has the stacks of all tasks: please report it",
            )
        return None


def _task_stacks(loop: asyncio.AbstractEventLoop) -> dict[str, str]:
    return {task.get_name(): _awaited(task.get_coro()) for task in asyncio.all_tasks(loop)}


def _awaited(coroutine: Any) -> str:
    """Where each coroutine down to the last awaits the next: Task.get_stack has only the first of a waiting task."""
    lines: list[str] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            lines += traceback.format_stack(frame, limit=1)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return "".join(lines)


def _thread_stacks() -> dict[str, str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): "".join(traceback.format_stack(frame))
        for ident, frame in sys._current_frames().items()
    }
