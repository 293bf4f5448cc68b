"""The state directory of one worker process: locked, and marked with whom it belongs to.

STATE_DIR/worker-state.json      format, app id, cluster id, instance id
STATE_DIR/lock                   held (flock) while a worker runs
STATE_DIR/<table>/<partition>/   the RocksDB stores
STATE_DIR/worker-<n>/            the directories of `run --processes`, each like this one
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import Final, Self

import msgspec

from worker.errors import StateDirectoryError

MARKER: Final = "worker-state.json"
LOCK: Final = "lock"
_FORMAT: Final = 1


class Owner(msgspec.Struct, frozen=True):
    """Who the directory belongs to."""

    format: int
    app_id: str
    cluster_id: str
    instance_id: str


def read_owner(directory: Path) -> Owner | None:
    """The owner of an existing directory; None when it is absent or empty.

    Raises StateDirectoryError when it holds something that is not a worker's state.
    """
    marker = directory / MARKER
    try:
        text = marker.read_bytes()
    except FileNotFoundError:
        strangers = sorted(p.name for p in directory.iterdir() if not _expected(p)) if directory.is_dir() else []
        if strangers:
            raise StateDirectoryError(
                f"{directory} is not empty and not a worker's state directory (it holds {strangers[0]})",
                "set WORKER_STATE_DIR to an empty or new directory",
            ) from None
        return None
    except OSError as error:
        raise StateDirectoryError(f"{marker} cannot be read: {error.strerror}", "correct the rights") from error
    try:
        owner = msgspec.json.decode(text, type=Owner)
    except msgspec.DecodeError as error:
        raise StateDirectoryError(
            f"{marker} is damaged: {error}", f"delete {directory}: the state is rebuilt from the changelog"
        ) from error
    if owner.format != _FORMAT:
        raise StateDirectoryError(
            f"{directory} has format {owner.format}, this version knows format {_FORMAT}",
            f"run the version that wrote it, or delete {directory}: the state is rebuilt from the changelog",
        )
    return owner


def _expected(path: Path) -> bool:
    """Whether this may lie in a state directory that no worker has used itself."""
    return path.name == LOCK or (path / MARKER).is_file()


def check_owner(directory: Path, owner: Owner, app_id: str, cluster_id: str) -> None:
    """Raises StateDirectoryError when the state is another application's or another cluster's."""
    if owner.app_id != app_id:
        raise StateDirectoryError(
            f"{directory} holds the state of app {owner.app_id!r}, this worker is {app_id!r}",
            "give every app its own WORKER_STATE_DIR",
        )
    if owner.cluster_id != cluster_id:
        raise StateDirectoryError(
            f"{directory} holds state of Kafka cluster {owner.cluster_id}, the brokers are cluster {cluster_id}",
            f"check WORKER_BOOTSTRAP_SERVERS; if the cluster was replaced, delete {directory}",
        )


class StateDirectory:
    """An opened state directory. Its lock lasts until `close` or the end of the process, however it ends."""

    def __init__(self, path: Path, instance_id: str, lock_fd: int) -> None:
        self.path = path
        self.instance_id = instance_id
        self._lock_fd = lock_fd

    @classmethod
    def open(cls, path: Path, *, app_id: str, cluster_id: str, instance_id: str | None) -> Self:
        """Creates or opens the directory for this app and cluster, and locks it.

        `instance_id` None takes the one made at the directory's first use. Raises StateDirectoryError.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock_fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateDirectoryError(
                f"{path} cannot be used as state directory: {error.strerror}",
                "set WORKER_STATE_DIR to a directory this user may write",
            ) from error
        try:
            cls._lock(path, lock_fd)
            os.truncate(lock_fd, 0)
            os.pwrite(lock_fd, b"%d\n" % os.getpid(), 0)
            owner = read_owner(path)
            if owner is not None:
                check_owner(path, owner, app_id, cluster_id)
            kept = owner.instance_id if owner is not None else f"worker-{secrets.token_hex(4)}"
            chosen = instance_id or kept
            if owner is None or chosen != owner.instance_id:
                _write_marker(path, Owner(_FORMAT, app_id, cluster_id, chosen))
        except OSError as error:
            os.close(lock_fd)
            raise _unwritable(path, error) from error
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(path, chosen, lock_fd)

    @staticmethod
    def _lock(path: Path, lock_fd: int) -> None:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip()
            raise StateDirectoryError(
                f"{path} is in use by another worker (process {pid or 'unknown'})",
                "stop that worker, or give this one its own WORKER_STATE_DIR",
            ) from None

    def close(self) -> None:
        os.close(self._lock_fd)


def _write_marker(path: Path, owner: Owner) -> None:
    draft = path / f"{MARKER}.tmp"
    try:
        draft.write_bytes(msgspec.json.encode(owner) + b"\n")
        draft.replace(path / MARKER)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> StateDirectoryError:
    return StateDirectoryError(f"{path} cannot be written: {error.strerror}", "free disk space or correct the rights")
