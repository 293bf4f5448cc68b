"""Whether a worker on this machine does its work: a small file it rewrites every second, and who reads it.

STATE_DIR/status.json is written by the event loop that also moves the batches, so a blocked loop is seen. It says
where the worker is in its life, which partitions it has and when something last got done. `python -m worker health`
judges it: for a container's health check, which has no network and no broker to ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

if TYPE_CHECKING:  # a health check comes every few seconds: it must not import Faust
    from worker.engine.engine import Engine

logger = structlog.get_logger(__name__)

STATUS: Final = "status.json"
_WRITE_SECONDS: Final = 1.0
STALE_SECONDS: Final = 5.0
"""A status so old is that of a worker that ended or hangs. Four writes may come late before."""
STUCK_SECONDS: Final = 30.0
"""Work and nothing done for so long is not healthy. A commit takes milliseconds, a piece of a restore less than a
second. After WATCHDOG_SECONDS (120) the worker ends itself."""


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker says of itself. Times are of the monotonic clock, which all processes of a machine share and no
    change of the wall clock moves."""

    phase: str
    """joining, restoring, ready or stopping: see worker/engine/engine.py."""
    partitions: list[int]
    last_progress: float
    written: float


@contextlib.asynccontextmanager
async def reporting(engine: Engine, directory: Path) -> AsyncIterator[None]:
    """Keeps the status file in `directory` up to date while the block runs, and removes it at its end."""
    path = directory / STATUS
    task = asyncio.create_task(_write_for_ever(path, engine), name="health")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(OSError):  # then it goes stale
            path.unlink()


async def _write_for_ever(path: Path, engine: Engine) -> None:
    failed = False
    while True:
        try:
            _write(path, engine)
            failed = False
        except OSError as error:
            # Not the worker's end: the file goes stale, which is what its reader must see. Said once.
            if not failed:
                logger.warning("status_not_written", path=str(path), reason=error.strerror)
            failed = True
        await asyncio.sleep(_WRITE_SECONDS)


def _write(path: Path, engine: Engine) -> None:
    status = Status(engine.phase, engine.partitions, engine.last_progress, time.monotonic())
    draft = path.with_suffix(".tmp")
    draft.write_bytes(msgspec.json.encode(status) + b"\n")
    draft.replace(path)


def problem(directory: Path, now: float) -> str | None:
    """What is wrong with the worker of this state directory, in a sentence; None when it is ready and works.

    `now` is of the monotonic clock. An idle worker whose broker is away counts as ready: it has no work.
    """
    path = directory / STATUS
    try:
        status = msgspec.json.decode(path.read_bytes(), type=Status)
    except FileNotFoundError:
        return f"no worker is running: there is no {path}"
    except (OSError, msgspec.DecodeError) as error:
        return f"{path} cannot be read: {error}"
    age, idle_seconds = now - status.written, now - status.last_progress
    if not 0 <= age <= STALE_SECONDS:  # negative: from before the machine's last start
        return f"no worker is running, or it hangs: {path} is out of date"
    if status.phase != "ready":
        return f"the worker is {status.phase}"
    if status.partitions and idle_seconds > STUCK_SECONDS:
        return f"the worker has work and got nothing done for {idle_seconds:.0f} s"
    return None
