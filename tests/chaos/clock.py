"""A wall clock that is set forward and back under a running worker, by hours and by days."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import msgspec
from rocksdict import Options, Rdict

from tests.broker.processes import WorkerProcess
from tests.chaos.crashes import WAITING
from tests.chaos.scenario import Run, scenario
from worker.engine.checkpoint import CHECKPOINT_KEY

JSON: Final[Any] = {"log_format": "json"}
HOUR_SECONDS: Final = 3_600
DAY_SECONDS: Final = 24 * HOUR_SECONDS
JUMPS: Final = (2 * HOUR_SECONDS, -2 * HOUR_SECONDS, 40 * DAY_SECONDS, -40 * DAY_SECONDS, 0)
"""What the clock is wrong by, each later moment; beyond the retention of every topic, and before its beginning."""

SITECUSTOMIZE: Final = """\
import time
_time, _time_ns = time.time, time.time_ns
def _wrong_by():
    with open({file!r}) as file:
        return int(file.read())
time.time = lambda: _time() + _wrong_by()
time.time_ns = lambda: _time_ns() + _wrong_by() * 1_000_000_000
"""
"""Python imports this at its start, and so everything in the process asks this clock."""


class WrongClock:
    """What a worker takes for the time of day."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "clock"
        self._file = self.directory / "wrong-by-seconds"
        self.directory.mkdir()
        self.set(0)
        (self.directory / "sitecustomize.py").write_text(SITECUSTOMIZE.format(file=str(self._file)))

    def set(self, wrong_by_seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(wrong_by_seconds))
        new.rename(self._file)  # at once: it is read all the time


@scenario("wall-clock-jumps")
def jumps(run: Run) -> None:
    """The clock is set forward and back by hours and by weeks, under load and between starts: nobody minds."""
    run.pipeline.create_topics()
    clock = WrongClock(run.directory)
    worker = run.pipeline.prepared(**JSON)
    worker.environment["PYTHONPATH"] = str(clock.directory)
    with run.traffic(per_second=1_000, waiting=WAITING):
        worker.start()
        for turn in range(run.scaled(1, 4) * len(JUMPS)):
            run.wait_progress(500)
            clock.set(JUMPS[turn % len(JUMPS)])
            run.injected("clock set")
            run.wait_progress(500)
            worker.require_running()
            if run.rng.random() < 0.5:
                worker.kill9() if run.rng.random() < 0.5 else worker.stop()
                with run.resuming():
                    worker.start()
                run.injected("start at a wrong time")
    run.pipeline.wait_drained()
    clock.set(2 * HOUR_SECONDS)
    with run.traffic(per_second=1_000, most=500) as traffic:
        run.pipeline.wait_until(lambda: traffic.sent >= 500, "all is sent")
    run.pipeline.wait_drained()
    worker.stop()
    assert min(_caught_up(worker)) > time.time() + HOUR_SECONDS, "the worker did not believe the clock"
    clock.set(0)
    worker.start()


def _caught_up(worker: WorkerProcess) -> list[float]:
    """When its stores say they last held all there was, in seconds since the epoch."""
    told = []
    for store in (worker.state_dir / "sessions").iterdir():
        database = Rdict(str(store), Options(raw_mode=True))
        told.append(msgspec.json.decode(bytes(database[CHECKPOINT_KEY] or b""))["caught_up_ms"] / 1000)
        database.close()
    return told
