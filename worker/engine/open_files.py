"""How many files the worker may open, looked at before it needs them.

Running out of them shows anywhere: in a connection that cannot be made, a table that cannot be read, a log line.
"""

from __future__ import annotations

import resource
from typing import Final

from worker.errors import SettingsError

# Measured, with room to spare: 30 files and 8 connections for the process; per partition a producer's two
# connections and, of a small database, ten files.
_PER_PROCESS: Final = 48
_PER_PARTITION: Final = 16
_WANTED_PER_PARTITION: Final = 160
"""With all tables of a large database open (store.py) and its producer's connections."""


def require_open_files(partitions: int) -> None:
    """Raises this process's own limit as far as it may and needs to. Raises SettingsError when that is too little
    even for small stores; `partitions` is how many it may come to own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _PER_PROCESS + partitions * _WANTED_PER_PARTITION
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    least = _PER_PROCESS + partitions * _PER_PARTITION
    if soft != resource.RLIM_INFINITY and soft < least:
        raise SettingsError(
            f"this process may open {soft} files, with {partitions} partitions it needs at least {least}",
            f"raise the limit (ulimit -n, LimitNOFILE=, or the container's ulimits) to {wanted}",
        )
