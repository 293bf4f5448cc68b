"""A disk of its own for a state directory, to be full or read-only when a scenario wants it.

Where this process may mount (root), it is a small tmpfs: ENOSPC and EROFS are real. Elsewhere files may not grow past
what they are (RLIMIT_FSIZE: EFBIG), and read-only is a matter of rights.
"""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.broker.processes import WorkerProcess

SIZE: Final = "64m"
BALLAST: Final = "ballast"


class Disk:
    """Lies at the worker's state directory inside the `with`; afterwards the directory is empty and on no disk."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._path = worker.state_dir
        self.mounted = False

    @property
    def kind(self) -> str:
        return "tmpfs" if self.mounted else "limit of file sizes"

    def __enter__(self) -> Self:
        self._path.mkdir(parents=True, exist_ok=True)
        self.mounted = _ran("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(self._path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.destroy()
        if self.mounted:
            assert _ran("umount", str(self._path)), f"{self._path} cannot be unmounted"

    def fill(self) -> None:
        """From now on there is no room; without a mount, for a running worker only."""
        if not self.mounted:
            # The log is a file as well, and has to take what the worker says.
            most = self._worker.log.stat().st_size + 16_384
            resource.prlimit(self._worker.pid, resource.RLIMIT_FSIZE, (most, most))
            return
        with (self._path / BALLAST).open("wb", buffering=0) as ballast:
            for size in (1 << 20, 4096, 1):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        (self._path / BALLAST).unlink(missing_ok=True)

    def set_writable(self, writable: bool) -> None:
        """For a stopped worker."""
        if self.mounted:
            assert _ran("mount", "-o", f"remount,{'rw' if writable else 'ro'}", str(self._path))
        else:
            for directory in (self._path, *(path for path in self._path.rglob("*") if path.is_dir())):
                directory.chmod(0o700 if writable else 0o500)

    @property
    def can_be_read_only(self) -> bool:
        return self.mounted or os.geteuid() != 0


def _ran(*command: str) -> bool:
    if os.geteuid() != 0:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def open_files_limit(worker: WorkerProcess, most: int) -> None:
    """For a worker that has just been started, long before it opens what it needs."""
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (most, most))


def damaged(path: Path, begin: float, end: float) -> None:
    """Flips the bytes of this part of a file (of 0.0 to 1.0)."""
    size = path.stat().st_size
    first, last = int(size * begin), int(size * end)
    with path.open("r+b") as file:
        file.seek(first)
        flipped = bytes(byte ^ 255 for byte in file.read(last - first))
        file.seek(first)
        file.write(flipped)
