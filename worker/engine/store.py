"""The local copy of one partition's rows: in memory or in RocksDB.

A store changes only after Kafka committed the change, in one write that holds the rows, the source
position and the changelog offset reached. What a store holds is therefore always some committed state,
never ahead of the changelog, and the rest can be read from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

import rocksdict

from worker.engine.batch import RESERVED_KEY_PREFIX, OutRecord, SourceRecord
from worker.engine.position import POSITION_KEY, Position, decode_position, encode_position
from worker.errors import StateDirectoryError, WorkerError

CHANGELOG_OFFSET_KEY: Final = RESERVED_KEY_PREFIX + b"\x00changelog-offset"


class PartitionStore(Protocol):
    """Rows of one partition. Not thread-safe."""

    @property
    def position(self) -> Position | None:
        """Next source offset to read; None when the partition has no state."""

    @property
    def changelog_offset(self) -> int:
        """Next changelog offset to apply; 0 for an empty store."""

    def get(self, key: bytes, /) -> bytes | None: ...

    def restore(self, records: Iterable[SourceRecord], next_offset: int) -> None:
        """Applies changelog records in order and moves `changelog_offset` to `next_offset`."""

    def apply(self, rows: Mapping[bytes, OutRecord], position: Position, changelog_offset: int) -> None:
        """Applies the rows of one committed transaction, all or none."""

    def clear(self) -> None:
        """Forgets everything, so that a restore starts from the beginning."""

    def close(self) -> None: ...


class MemoryStore:
    """A dict. Gone with the process; restored from the changelog."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self.get = self._rows.get
        self.position: Position | None = None
        self.changelog_offset = 0

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
        self.changelog_offset = next_offset

    def apply(self, rows: Mapping[bytes, OutRecord], position: Position, changelog_offset: int) -> None:
        stored = self._rows
        for key, row in rows.items():
            if row.value is None:
                stored.pop(key, None)
            else:
                stored[key] = row.value
        self.position = position
        self.changelog_offset = changelog_offset

    def clear(self) -> None:
        self._rows.clear()
        self.position = None
        self.changelog_offset = 0

    def close(self) -> None:
        self.clear()


# Per partition, so small: 64 partitions must fit a worker. Rows are under 2 KB and mostly hot.
_BLOCK_CACHE_BYTES: Final = 16 << 20
_WRITE_BUFFER_BYTES: Final = 16 << 20
_MAX_OPEN_FILES: Final = 128


def _rocksdb_options() -> rocksdict.Options:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(_MAX_OPEN_FILES)
    options.set_keep_log_file_num(2)
    options.set_max_total_wal_size(4 * _WRITE_BUFFER_BYTES)
    tables = rocksdict.BlockBasedOptions()
    tables.set_block_cache(rocksdict.Cache(_BLOCK_CACHE_BYTES))
    tables.set_bloom_filter(10, False)
    options.set_block_based_table_factory(tables)
    return options


class RocksDBStore:
    """A RocksDB database in a directory of its own. Survives restarts and kill -9.

    Writes go through the write-ahead log without fsync: a power loss may take the last writes, and then
    rows, position and changelog offset go together, so the restore reads them again.
    """

    def __init__(self, directory: Path) -> None:
        """Opens or creates the database. Raises an exception of rocksdict when it is corrupt or locked."""
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self._db = rocksdict.Rdict(str(self._directory), _rocksdb_options())
        self.get = self._db.get
        position = self._db.get(POSITION_KEY)
        offset = self._db.get(CHANGELOG_OFFSET_KEY)
        self.position: Position | None = decode_position(position) if position is not None else None
        self.changelog_offset = int(offset) if offset is not None else 0

    def restore(self, records: Iterable[SourceRecord], next_offset: int) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        position = self.position
        for record in records:
            key, value = record.key, record.value
            if key is None:
                continue
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
            if key == POSITION_KEY:
                position = decode_position(value) if value is not None else None
        batch.put(CHANGELOG_OFFSET_KEY, b"%d" % next_offset)
        self._db.write(batch)
        self.position, self.changelog_offset = position, next_offset

    def apply(self, rows: Mapping[bytes, OutRecord], position: Position, changelog_offset: int) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, row in rows.items():
            if row.value is None:
                batch.delete(key)
            else:
                batch.put(key, row.value)
        batch.put(POSITION_KEY, encode_position(position))
        batch.put(CHANGELOG_OFFSET_KEY, b"%d" % changelog_offset)
        self._db.write(batch)
        self.position, self.changelog_offset = position, changelog_offset

    def clear(self) -> None:
        self._db.close()
        shutil.rmtree(self._directory)
        self._directory.mkdir(parents=True)
        self._open()

    def close(self) -> None:
        self._db.close()


# How RocksDB's text begins when the files themselves are bad; a full disk or missing rights read otherwise.
_UNREADABLE: Final = ("Corruption", "Invalid argument", "Not implemented", "IO error: No such file")


def open_rocksdb(directory: Path) -> tuple[RocksDBStore, str | None]:
    """Opens the store of a partition; one that cannot be read is deleted, to be restored from the changelog.

    Returns the store and, when the old one was deleted, why. Raises StateDirectoryError when the directory
    cannot be used (disk full, rights, open elsewhere).
    """
    try:
        return RocksDBStore(directory), None
    except WorkerError:
        raise
    except Exception as error:  # rocksdict raises a plain Exception for every RocksDB status
        if not str(error).startswith(_UNREADABLE):
            raise StateDirectoryError(
                f"the store in {directory} cannot be opened: {error}",
                "free disk space or correct the rights; or stop the worker, delete this directory and restart: "
                "it is rebuilt from the changelog",
            ) from error
        shutil.rmtree(directory)
        return RocksDBStore(directory), str(error)
