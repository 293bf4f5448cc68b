"""For tests only: the process kills itself at a chosen step of the protocol.

`WORKER_TEST_FAILPOINT=<step>:<n>` sends SIGKILL the n-th time the step is reached, such as `4:10`. The
steps are those numbered in transaction.py, and `restore` for each piece of a restore. Not a setting: it
is read once, here, and without it a step costs one call of an empty function.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

ENVIRONMENT_NAME: Final = "WORKER_TEST_FAILPOINT"


def _never(_: str) -> None:
    """Not armed."""


def _armed(setting: str) -> Callable[[str], None]:
    step, _, count = setting.partition(":")
    remaining = int(count or 1)

    def reached(name: str) -> None:
        nonlocal remaining
        if name == step:
            remaining -= 1
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached


reached: Final[Callable[[str], None]] = (
    _armed(os.environ[ENVIRONMENT_NAME]) if os.environ.get(ENVIRONMENT_NAME) else _never
)
"""Call with the name of the step that is about to begin."""
