"""`run --processes N` as users run it: one process to start and stop, and what is known about its children."""

from __future__ import annotations

from pathlib import Path

from tests.broker.pipeline import Pipeline
from tests.broker.processes import WorkerProcess
from worker.child_process import PROCESS_NAME_VARIABLE

SLOW = {"WORKER_BATCH_MAX_RECORDS": "100", "WORKER_TRANSACTION_PAUSE_MS": "40"}
"""About 2,500 events a second and partition at most: a kill hits work in progress."""


def fleet_of(pipeline: Pipeline, processes: int, name: str = "fleet", **more: str) -> WorkerProcess:
    """`run --processes N` of that app, not started yet; it logs JSON, and ends with the test."""
    environment = pipeline.environment | SLOW | {"WORKER_LOG_FORMAT": "json"} | more
    fleet = WorkerProcess(name, environment, pipeline.directory, "--processes", str(processes))
    pipeline.workers.append(fleet)
    return fleet


def pids(fleet: WorkerProcess) -> dict[str, int]:
    """The living workers of a fleet by their names, also when nobody is their parent any more."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            lines = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        environment = dict(line.split("=", 1) for line in lines if "=" in line)
        name = environment.get(PROCESS_NAME_VARIABLE)
        if name and environment.get("WORKER_STATE_DIR") == str(fleet.state_dir / name):
            found[name] = int(entry.name)
    return found


def settled(fleet: WorkerProcess, shares: list[int]) -> bool:
    """Whether the workers that serve any, by what each said last, serve so many (fewest first), none of them twice."""
    busy = [set(partitions) for partitions in fleet.served().values() if partitions]
    return sorted(map(len, busy)) == shares and len(set().union(*busy)) == sum(shares)
