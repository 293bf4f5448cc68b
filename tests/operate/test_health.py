"""`health` believes a worker as long as the worker shows that it is at work, and not a moment of its life more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.broker.pipeline import Pipeline
from tests.broker.processes import PROJECT
from tests.patience import PATIENCE_SECONDS
from worker.load.generator import generate
from worker.operate.health import STALE_SECONDS, STATUS, STUCK_SECONDS, Status, problem

NOW = 10_000.0


def wrote(
    directory: Path, phase: str = "ready", *, written: float = NOW, progress: float = NOW, idle: bool = False
) -> str:
    """A worker's status file, read at `NOW`; empty when nothing is wrong."""
    status = Status(phase, [] if idle else [0, 2], progress, written)
    (directory / STATUS).write_bytes(msgspec.json.encode(status))
    return problem(directory, NOW) or ""


def test_a_ready_worker_that_works_is_healthy(tmp_path: Path) -> None:
    assert wrote(tmp_path) == ""
    assert wrote(tmp_path, written=NOW - STALE_SECONDS, progress=NOW - STUCK_SECONDS) == ""


@pytest.mark.parametrize("phase", ["joining", "restoring", "stopping"])
def test_a_worker_that_is_not_ready_is_not_healthy(tmp_path: Path, phase: str) -> None:
    assert phase in wrote(tmp_path, phase)


def test_a_file_that_nobody_rewrites_is_of_a_worker_that_ended_or_hangs(tmp_path: Path) -> None:
    assert "out of date" in wrote(tmp_path, written=NOW - STALE_SECONDS - 0.1)
    assert "out of date" in wrote(tmp_path, written=NOW + 1), "it is from before the machine's last start"


def test_work_and_nothing_done_is_not_healthy_while_no_partitions_are_no_work(tmp_path: Path) -> None:
    assert "got nothing done for 31 s" in wrote(tmp_path, progress=NOW - STUCK_SECONDS - 1)
    assert wrote(tmp_path, progress=NOW - STUCK_SECONDS - 1, idle=True) == ""


@pytest.mark.parametrize("content", [b"", b"{}", b"[1"])
def test_a_damaged_file_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATUS).write_bytes(content)
    assert "cannot be read" in (problem(tmp_path, NOW) or "")


def test_no_file_is_no_worker(tmp_path: Path) -> None:
    assert "no worker is running" in (problem(tmp_path / "none", NOW) or "")


def health(pipeline: Pipeline, state_dir: Path, *flags: str) -> tuple[int, str]:
    """`python -m worker health`: its exit code and what it says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    done = subprocess.run(
        [sys.executable, "-m", "worker", "health", *flags],
        cwd=PROJECT,
        env=kept | pipeline.environment | {"WORKER_STATE_DIR": str(state_dir)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_from_the_start_of_a_worker_to_its_end(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    pipeline.send(generate(sessions=50, seed=61))
    worker = pipeline.prepared()
    code, said = health(pipeline, worker.state_dir)
    assert (code, "no worker is running" in said) == (1, True), said

    worker.start()
    pipeline.wait_until(lambda: problem(worker.state_dir, time.monotonic()) is None, "the worker is healthy")
    assert health(pipeline, worker.state_dir) == (0, "ready\n")
    pipeline.wait_drained()

    worker.sigstop()
    pipeline.wait_until(lambda: health(pipeline, worker.state_dir)[0] == 1, "a stopped process is noticed")
    worker.sigcont()
    worker.may_fail = True  # it may have lost its partitions meanwhile, and go
    worker.sigterm()
    worker.wait_exit()
    code, said = health(pipeline, worker.state_dir)
    assert (code, "no worker is running" in said) == (1, True), said


def test_all_of_several_processes_must_be_ready(pipeline: Pipeline) -> None:
    """Also the one without a partition: 3 processes share 2."""
    pipeline.environment["WORKER_PARTITIONS"] = "2"
    pipeline.create_topics()
    workers = pipeline.prepared()
    workers.flags = ("--processes", "3")
    workers.start()
    pipeline.wait_until(lambda: health(pipeline, workers.state_dir, "--processes", "3")[0] == 0, "all three are ready")
    # Not the first answer: what a worker says of itself is up to a second old, and may be from before a rebalance.
    three_of_four = "worker-1: ready\nworker-2: ready\nworker-3: ready\nworker-4: no worker is running"
    asked = lambda: health(pipeline, workers.state_dir, "--processes", "4")  # noqa: E731
    pipeline.wait_until(lambda: asked()[1].startswith(three_of_four), "three are ready, and the fourth is missing")
    assert asked()[0] == 1

    pid = int((workers.state_dir / "worker-2" / "lock").read_text())
    os.kill(pid, signal.SIGSTOP)
    pipeline.wait_until(lambda: health(pipeline, workers.state_dir, "--processes", "3")[0] == 1, "the one is noticed")
    os.kill(pid, signal.SIGCONT)
    workers.stop()
