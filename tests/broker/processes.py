"""A worker as users run it: a process of its own, steered by environment and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.patience import PATIENCE_SECONDS
from worker.child_process import dies_with_parent

PROJECT: Final = Path(__file__).parents[2]
TAIL_LINES: Final = 60
"""Enough of a worker's log to see why it stopped."""


class WorkerProcess:
    """`python -m worker run` with its own state directory and log file. It can be started again after it ended."""

    def __init__(self, name: str, environment: dict[str, str], directory: Path, *flags: str) -> None:
        self.name = name
        self.flags = flags
        self.state_dir = directory / f"state-{name}"
        self.log = directory / f"{name}.log"
        self.environment = environment | {"WORKER_STATE_DIR": str(self.state_dir)}
        self.expected_up = False
        """Set between `start` and a signal that ends it: a test that waits fails at once when it is down."""
        self.may_fail = False
        """Set by a test that makes it fail on purpose: a stack trace in its `worker_failed` is then no fault (S8). With
        log_format="json", where the one is part of the other's line; else its log is not judged at all."""
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    def start(self) -> WorkerProcess:
        assert not self.running, f"{self.name} is already running"
        self._said_before = len(self.output())
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run", *self.flags],
                cwd=PROJECT,
                env=inherited | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509 # a killed test run leaves no worker
            )
        self.starts += 1
        self.expected_up = True  # not before: somebody may be waiting, and sees it down
        return self

    @property
    def is_fleet(self) -> bool:
        """Whether it is the parent of others, `run --processes N`."""
        return "--processes" in self.flags

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def handles(self, number: signal.Signals) -> bool:
        """Whether it is so far that this signal no longer ends it by itself."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (number - 1) & 1)

    def kill9(self) -> None:
        """SIGKILL, and reap: when this returns the process is gone."""
        self.expected_up = False
        self._signal(signal.SIGKILL)
        assert self.wait_exit() == -signal.SIGKILL

    def sigterm(self) -> None:
        self.expected_up = False
        self._signal(signal.SIGTERM)

    def sigstop(self) -> None:
        self._signal(signal.SIGSTOP)

    def sigcont(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """SIGTERM, and require the clean exit an operator expects."""
        self.sigterm()
        code = self.wait_exit(timeout_seconds)
        assert code == 0, f"{self.name} exited {code} on SIGTERM\n{self.tail()}"

    def wait_exit(self, timeout_seconds: float = PATIENCE_SECONDS) -> int:
        """The exit code (negative: the signal); AssertionError with the log's tail when it runs on."""
        assert self._process is not None
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout_seconds} s\n{self.tail()}") from None

    def require_running(self) -> None:
        """Raise with the log's tail when the process has ended."""
        if not self.running:
            code = None if self._process is None else self._process.returncode
            raise AssertionError(f"{self.name} is not running (exit code {code})\n{self.tail()}")

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def said(self) -> str:
        """What it has logged since it was last started."""
        return self.output()[self._said_before :]

    def complaints(self) -> str:
        """What it has logged in all its starts, without the failures it was to have."""
        if not self.may_fail:
            return self.output()
        if self.environment.get("WORKER_LOG_FORMAT") != "json":
            return ""
        return "\n".join(line for line in self.output().splitlines() if '"event": "worker_failed"' not in line)

    def logged(self, event: str, *, ever: bool = False) -> list[dict[str, Any]]:
        """Its log lines about `event` since it was last started, or of all its starts; needs log_format="json"."""
        text = self.output() if ever else self.said()
        whole = text[: text.rfind("\n") + 1].splitlines()
        lines = [json.loads(line) for line in whole if line.startswith("{") and f'"{event}"' in line]
        return [line for line in lines if line["event"] == event]

    def owned(self) -> dict[Path, set[int] | None]:
        """Its state directory, and the partitions it said last it serves (None when it does not log JSON); of a fleet
        those of each process."""
        if self.is_fleet:
            return {self.state_dir / name: set(partitions) for name, partitions in self.served().items()}
        ready = self.logged("ready")
        return {self.state_dir: set(ready[-1]["partitions"]) if ready else None}

    def served(self) -> dict[str, list[int]]:
        """The partitions of each process of a fleet, by what it said last; none of one that has crashed since."""
        crashed = {line["child"]: line["timestamp"] for line in self.logged("child_crashed")}
        return {
            line["process"]: line["partitions"]
            for line in self.logged("ready")
            if line["timestamp"] > crashed.get(line["process"], "")
        }

    def tail(self) -> str:
        lines = self.output().splitlines()[-TAIL_LINES:]
        return "\n".join([f"--- last lines of {self.log}", *lines, "---"])

    @property
    def standing(self) -> bool:
        """Whether a SIGSTOP holds it, whoever sent that."""
        status = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2]
        return status.startswith("T")

    def destroy(self) -> None:
        """End it whatever its state (a stopped process too); for the end of a test."""
        self.expected_up = False
        if self.running:
            self._signal(signal.SIGKILL)
            self.wait_exit()

    def _signal(self, number: signal.Signals) -> None:
        self.require_running()
        os.kill(self.pid, number)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, as the kernel counts it now."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    """How many files a process has open now, sockets included."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processors since it started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
