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
from typing import Final

import structlog

from worker.engine.engine import Engine
from worker.engine.failure import exit_process
from worker.errors import Stalled

logger = structlog.get_logger(__name__)

_CHECK_SECONDS: Final = 1.0


class Watchdog:
    """Watches one engine from `start` until `stop`."""

    def __init__(self, engine: Engine, limit_seconds: float) -> None:
        self._engine = engine
        self._limit_seconds = limit_seconds
        self._stopped = threading.Event()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(loop,), name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped.wait(_CHECK_SECONDS):
            seconds = time.monotonic() - self._engine.last_progress
            if self._engine.has_work and seconds > self._limit_seconds:
                logger.critical("stacks", tasks=_task_stacks(loop), threads=_thread_stacks())
                exit_process(
                    Stalled(
                        f"the worker has work and got nothing done for {seconds:.0f} s",
                        "restart the worker: it continues where the last transaction ended. The log line before this "
                        "one has the stacks of all tasks: please report it",
                    )
                )


def _task_stacks(loop: asyncio.AbstractEventLoop) -> dict[str, str]:
    return {
        task.get_name(): "".join(line for frame in task.get_stack() for line in traceback.format_stack(frame, limit=1))
        for task in asyncio.all_tasks(loop)
    }


def _thread_stacks() -> dict[str, str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): "".join(traceback.format_stack(frame))
        for ident, frame in sys._current_frames().items()
    }
