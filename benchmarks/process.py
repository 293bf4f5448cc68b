"""A contender as a process: started with its settings, watched through /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that turns updates into enriched sessions."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]


WORKER: Final = ("-m", "worker", "run")
CONTENDERS: Final = (
    Contender("worker, rocksdb", WORKER, {"WORKER_STORE": "rocksdb"}),
    Contender("worker, memory", WORKER, {"WORKER_STORE": "memory"}),
    Contender("confluent-kafka loop", ("-m", "benchmarks.confluent_loop"), {}),
)


@contextmanager
def running(contender: Contender, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the contender; kills it at the end (what it had committed is what counts)."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            (sys.executable, *contender.command),
            env={**os.environ, **environment, **contender.environment},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def peak_megabytes(pid: int) -> float:
    """Highest resident memory so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
