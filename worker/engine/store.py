"""The local copy of one partition's rows: in memory or in RocksDB.

A store changes only after Kafka committed the change, in one write that holds the rows, the source
position and the checkpoint (how much of which changelog it holds). What a store holds is therefore always some
committed state, never ahead of the changelog, and the rest can be read from there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import rocksdict

from worker.engine.batch import OutRecord, SourceRecord
from worker.engine.checkpoint import CHECKPOINT_KEY, Checkpoint, decode_checkpoint, encode_checkpoint
from worker.engine.position import POSITION_KEY, Position, decode_position, encode_position
from worker.errors import EngineFailure, StateDirectoryError, WorkerError


class PartitionStore(Protocol):
    """Rows of one partition. Not thread-safe.

    Life: `begin` when it is new or unfit, `restore`…, `finish_restore`, `apply`…, and again from `restore` on after
    a rebalance.
    """

    @property
    def position(self) -> Position | None:
        """Next source offset to read; None when the partition has no state."""

    @property
    def checkpoint(self) -> Checkpoint:
        """How much of which changelog it holds."""

    def get(self, key: bytes, /) -> bytes | None:
        """Raises EngineFailure when the row cannot be read; the store is then rebuilt at the next start."""

    def begin(self, changelog_id: str) -> None:
        """Forgets everything; what comes is the changelog with this id, from its beginning."""

    def restore(self, records: Iterable[SourceRecord], next_offset: int) -> None:
        """Applies changelog records in order and moves the checkpoint to `next_offset`."""

    def finish_restore(self) -> None:
        """The end of the changelog is reached: the checkpoint is of now."""

    def apply(self, rows: Mapping[bytes, OutRecord], position: Position, changelog_offset: int) -> None:
        """Applies the rows of one committed transaction, all or none."""

    def close(self) -> None: ...


class MemoryStore:
    """A dict. Gone with the process; restored from the changelog."""

    def __init__(self) -> None:
        self.begin("")

    def begin(self, changelog_id: str) -> None:
        self._rows: dict[bytes, bytes] = {}
        self.get = self._rows.get
        self.position: Position | None = None
        self.checkpoint = Checkpoint.beginning(changelog_id)

    def restore(self, records: Iterable[SourceRecord], next_offset: int) -> None:
        rows = self._rows
        for record in records:
            key, value = record.key, record.value
            if key is None:
                continue
            if key == POSITION_KEY:
                self.position = decode_position(value) if value is not None else None
            elif value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        self.checkpoint = self.checkpoint.at(next_offset)

    def finish_restore(self) -> None:
        self.checkpoint = self.checkpoint.caught_up(self.checkpoint.changelog_offset)

    def apply(self, rows: Mapping[bytes, OutRecord], position: Position, changelog_offset: int) -> None:
        stored = self._rows
        for key, row in rows.items():
            if row.value is None:
                stored.pop(key, None)
            else:
                stored[key] = row.value
        self.position = position
        self.checkpoint = self.checkpoint.caught_up(changelog_offset)

    def close(self) -> None:
        self.begin("")


# Per partition, so small: 64 partitions must fit a worker. Rows are under 2 KB and mostly hot.
_BLOCK_CACHE_BYTES: Final = 16 << 20
# In tests small, so that a database flushes often and kill -9 leaves something on disk.
_WRITE_BUFFER_BYTES: Final = int(os.environ.get("WORKER_TEST_WRITE_BUFFER_BYTES") or 16 << 20)
_MAX_OPEN_FILES: Final = 128


def _rocksdb_options() -> rocksdict.Options:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(_MAX_OPEN_FILES)
    options.set_keep_log_file_num(2)
    tables = rocksdict.BlockBasedOptions()
    tables.set_block_cache(rocksdict.Cache(_BLOCK_CACHE_BYTES))
    tables.set_bloom_filter(10, False)
    options.set_block_based_table_factory(tables)
    return options


# The changelog is the write-ahead log. With a second one here, a database that lost the tail of its MANIFEST would
# open with the newest rows, the newest checkpoint, and a hole before them; without one it opens at an earlier flush,
# whole, and the changelog brings the rest.
_WITHOUT_LOG: Final = rocksdict.WriteOptions()
_WITHOUT_LOG.disable_wal = True  # type: ignore[method-assign, assignment]  # a property; the stub is wrong

_UNREADABLE: Final = "UNREADABLE"
"""A file in the directory of a database: rows of it could not be read, for the reason inside. The next start
rebuilds it; without the file it would open well, and fail again at the same row."""


class RocksDBStore:
    """A RocksDB database in a directory of its own. Survives restarts; after kill -9 or a power loss it is as of its
    last flush, rows, position and checkpoint together."""

    def __init__(self, directory: Path) -> None:
        """Opens or creates the database. Raises an exception of rocksdict when it is corrupt or locked, ValueError
        when another version made it."""
        self._directory = directory
        self._open()

    def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._db = rocksdict.Rdict(str(self._directory), _rocksdb_options())
        self._get = self._db.get
        try:
            position, checkpoint = self._get(POSITION_KEY), self._get(CHECKPOINT_KEY)
            self.position: Position | None = decode_position(position) if position is not None else None
            self.checkpoint = decode_checkpoint(checkpoint) if checkpoint is not None else Checkpoint.beginning("")
        except BaseException:
            self._db.close()
            raise

    def get(self, key: bytes, /) -> bytes | None:
        try:
            row: bytes | None = self._get(key)
        except Exception as error:  # rocksdict raises a plain Exception for every RocksDB status
            raise self._failed(error, "read") from error
        return row

    def begin(self, changelog_id: str) -> None:
        if self.checkpoint.changelog_offset:
            with suppress(Exception):  # whatever it could not write: it is deleted
                self._db.close()
            discard(self._directory)
            self._open()
        self.position, self.checkpoint = None, Checkpoint.beginning(changelog_id)

    def restore(self, records: Iterable[SourceRecord], next_offset: int) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        put = batch.put
        position = self.position
        for record in records:
            key, value = record.key, record.value
            if key is None:
                continue
            if value is None:
                batch.delete(key)
            else:
                put(key, value)
            if key == POSITION_KEY:
                position = decode_position(value) if value is not None else None
        self._write(batch, position, self.checkpoint.at(next_offset))

    def finish_restore(self) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        self._write(batch, self.position, self.checkpoint.caught_up(self.checkpoint.changelog_offset))

    def apply(self, rows: Mapping[bytes, OutRecord], position: Position, changelog_offset: int) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, row in rows.items():
            if row.value is None:
                batch.delete(key)
            else:
                batch.put(key, row.value)
        batch.put(POSITION_KEY, encode_position(position))
        self._write(batch, position, self.checkpoint.caught_up(changelog_offset))

    def _write(self, batch: rocksdict.WriteBatch, position: Position | None, checkpoint: Checkpoint) -> None:
        batch.put(CHECKPOINT_KEY, encode_checkpoint(checkpoint))
        try:
            self._db.write(batch, _WITHOUT_LOG)
        except Exception as error:
            raise self._failed(error, "written") from error
        self.position, self.checkpoint = position, checkpoint

    def close(self) -> None:
        try:
            self._db.flush()
            self._db.close()
        except Exception as error:
            raise self._failed(error, "written") from error

    def _failed(self, error: Exception, what: str) -> WorkerError:
        """Names what RocksDB could not do, and sees to it that the next start does not meet it again."""
        problem = f"the store in {self._directory} cannot be {what}: {error}"
        if not is_damage(error):
            return StateDirectoryError(problem, _remedy(error))
        try:
            (self._directory / _UNREADABLE).write_text(str(error))
        except FileNotFoundError:
            pass  # the directory itself is gone: the next start makes a new one
        except OSError as unwritable:
            return StateDirectoryError(
                f"{problem}; nor can it be marked as damaged: {unwritable.strerror}",
                f"delete {self._directory} and restart: it is rebuilt from the changelog",
            )
        return EngineFailure(problem, "restart the worker: this store is deleted and rebuilt from the changelog")


def _remedy(error: Exception) -> str:
    if "Too many open files" in str(error):
        return "raise the limit of open files (ulimit -n), 1024 or more: a partition takes up to 128"
    return (
        "free disk space or correct the rights; or stop the worker, delete this directory and restart: it is rebuilt "
        "from the changelog"
    )


# How RocksDB's text begins when the files themselves are bad; a full disk or missing rights read otherwise.
_DAMAGE: Final = ("Corruption", "Invalid argument", "Not implemented", "IO error: No such file")


def is_damage(error: Exception) -> bool:
    """Whether RocksDB says that files are damaged, missing or of another kind."""
    return str(error).startswith(_DAMAGE)


def open_rocksdb(directory: Path) -> tuple[RocksDBStore, str | None]:
    """Opens the store of a partition; one that cannot be read is deleted, to be restored from the changelog.

    Returns the store and, when the old one was deleted, why. Raises StateDirectoryError when the directory
    cannot be used (disk full, rights, open elsewhere), or when another version of the worker wrote it.
    """
    try:
        discard(directory, only_leftovers=True)
        reason = _why_unreadable(directory)
        if reason is not None:
            discard(directory)
        return RocksDBStore(directory), reason
    except WorkerError:
        raise
    except Exception as error:
        if not (is_damage(error) or isinstance(error, ValueError)):
            raise StateDirectoryError(f"the store in {directory} cannot be opened: {error}", _remedy(error)) from error
        discard(directory)
        return RocksDBStore(directory), str(error)


def _why_unreadable(directory: Path) -> str | None:
    try:
        return (directory / _UNREADABLE).read_text(errors="replace")
    except FileNotFoundError:
        return None


def discard(directory: Path, *, only_leftovers: bool = False) -> None:
    """Deletes a database. Moved away first: one that is half deleted might open."""
    doomed = directory.with_name(f"{directory.name}.discarded")
    shutil.rmtree(doomed, ignore_errors=True)
    if not only_leftovers and directory.exists():
        directory.rename(doomed)
        shutil.rmtree(doomed)
