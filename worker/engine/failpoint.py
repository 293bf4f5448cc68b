"""For tests only: the process kills, stops or blocks itself at a chosen moment of the protocol.

`WORKER_TEST_FAILPOINT=<step>:<n>[:<action>]` acts the n-th time the step is reached, such as `4:10`. Several, joined
by commas, are reached in turn, and only the last one acts: `revoke:1,5:2` is the second step 5 after a revocation
began. Each one that is reached says so on stderr. Not a setting: it is read once, here, and without it a step costs
the call of an empty function.

Steps: `2` … `7` as numbered in transaction.py; `4b` in step 4, when the outputs are delivered and the changelog may
not be; `5b` in step 5, when the source offset is sent and the commit is not; `revoke` when partitions that were worked
on begin to be given up; `fence` when the former owners are fenced and nothing was read yet; `restore` for each piece
of a restore.

Actions: `kill` (SIGKILL, when none is given), `stop` (SIGSTOP: stands still until SIGCONT), `block` (the event loop
gets no further), `hang` (this step waits for ever, all else goes on).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

ENVIRONMENT_NAME: Final = "WORKER_TEST_FAILPOINT"
_DAY_SECONDS: Final = 86_400


async def _never(_: str) -> None:
    """Not armed."""


def _armed(setting: str) -> Callable[[str], Awaitable[None]]:
    points = [(step, int(count or 1), action or "kill") for step, count, action in map(_parts, setting.split(","))]
    seen = 0

    async def reached(name: str) -> None:
        nonlocal seen
        if not points or name != points[0][0]:
            return
        seen += 1
        step, count, action = points[0]
        if seen < count:
            return
        seen = 0
        del points[0]
        print(f"failpoint {step}", file=sys.stderr, flush=True)
        if not points:
            await _act(action)

    return reached


def _parts(point: str) -> tuple[str, str, str]:
    step, count, action = (*point.split(":"), "", "")[:3]
    return step, count, action


async def _act(action: str) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "block":
            time.sleep(_DAY_SECONDS)  # noqa: ASYNC251 - blocking the event loop is what is asked for
        case "hang":
            await asyncio.Event().wait()
        case _:
            raise ValueError(f"{ENVIRONMENT_NAME}: no action {action!r}")


reached: Final[Callable[[str], Awaitable[None]]] = (
    _armed(os.environ[ENVIRONMENT_NAME]) if os.environ.get(ENVIRONMENT_NAME) else _never
)
"""Await with the name of the step that is about to begin."""
