"""What every process we start has in common: the settings it gets, and that it does not outlive us."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from pydantic import SecretStr

from worker.settings import ENV_PREFIX, TEST_ENV_PREFIX, Settings, env_name

PROCESS_NAME_VARIABLE: Final = "SESSION_WORKER_PROCESS"
"""Not a setting: whoever starts several workers names each, and `logs` puts the name on every line."""

_PR_SET_PDEATHSIG: Final = 1
# Looked up before the fork: after it, only what is sure to take no lock may run.
_LIBC: Final = ctypes.CDLL(None)
if sys.platform == "linux":
    _LIBC.prctl  # noqa: B018 - resolves the symbol now


def dies_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` for subprocess: the child gets signal `number` when its parent ends, however that ends.

    To the kernel the parent is the *thread* that starts the child (prctl(2)): it must live as long as the
    child shall. None where the system cannot do it, that is anywhere but on Linux.
    """
    if sys.platform != "linux":
        return None
    parent = os.getpid()

    def arm() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(128 + number)

    return arm


def hear_no_more_stops() -> None:
    """For a process that is done, in its event loop: whoever asks it to stop once more gets the exit code it has.

    A loop that closes gives signals back their default, which would end the process by the signal.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment with exactly those settings, flags and defaults that were changed included."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(ENV_PREFIX) or name.upper().startswith(TEST_ENV_PREFIX)
    }
    given: dict[str, str] = {}
    for field in settings.model_fields_set:
        value = getattr(settings, field)
        if value is not None:
            given[env_name(field)] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return inherited | given
