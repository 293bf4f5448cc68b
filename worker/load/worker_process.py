"""The worker as the demo runs it: a process of its own with a log file, ended in order."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from worker.child_process import dies_with_parent, environment
from worker.errors import WorkerError
from worker.settings import Settings

STOP_SECONDS: Final = 15.0
LOG_TAIL_LINES: Final = 30


class WorkerProcess:
    """`python -m worker run` with the given settings. Its output goes to `log`."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run"],
                env=environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal must reach the demo alone: it decides in which order things stop.
                start_new_session=True,
                # Nor does it outlive a demo that was killed.
                preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509 - takes no lock
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def require_running(self) -> None:
        """Raise WorkerError with the exit code and the end of the log when the worker has ended."""
        if self._process.poll() is not None:
            raise WorkerError(
                f"the worker ended with exit code {self._process.returncode}; the end of its log:\n{self.log_tail()}",
                "the exit codes are explained by `python -m worker --help`.",
            )

    def log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:]) or "(empty)"

    def stop(self) -> None:
        """SIGTERM; SIGKILL when it has not ended within STOP_SECONDS. Safe to call again."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
