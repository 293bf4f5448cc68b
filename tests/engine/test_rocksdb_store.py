"""The store on disk: what a crash leaves, and what damage does to it. No row may be missing before its checkpoint."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import rocksdict

from worker.engine.batch import OutRecord
from worker.engine.checkpoint import CHECKPOINT_KEY
from worker.engine.position import POSITION_KEY, Position, encode_position
from worker.engine.store import RocksDBStore, open_rocksdb
from worker.errors import EngineFailure, StateDirectoryError

ROWS = 60_000
BATCH = 500
ROW_BYTES = 700
"""Enough for two flushes, and rows in memory that no flush has written."""


class Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


def key(number: int) -> bytes:
    return b"order-%07d" % number


def fill(store: RocksDBStore, begin: int, end: int) -> None:
    for first in range(begin, end, BATCH):
        rows = {key(n): OutRecord(key(n), os.urandom(ROW_BYTES), [], 0) for n in range(first, first + BATCH)}
        store.apply(rows, Position("updates", first + BATCH), first + BATCH)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a process that was killed, with flushed rows and rows that never were."""
    directory = tmp_path_factory.mktemp("killed") / "0"
    # Not forked: RocksDB's threads would be missing in a copy of this process, and its writes would wait for them.
    child = multiprocessing.get_context("spawn").Process(target=_fill_and_die, args=(directory,))
    child.start()
    child.join()
    assert child.exitcode == 0
    return directory


def _fill_and_die(directory: Path) -> None:
    store, _ = open_rocksdb(directory)
    store.begin("changelog")
    fill(store, 0, ROWS)
    os._exit(0)


@dataclass
class Copy:
    directory: Path

    def first(self, pattern: str) -> Path:
        return min(self.directory.glob(pattern))


@pytest.fixture
def copy(killed: Path, tmp_path: Path) -> Copy:
    shutil.copytree(killed, tmp_path / "0")
    return Copy(tmp_path / "0")


def require_whole(store: RocksDBStore) -> int:
    """Every row before the checkpoint is there, and the position is that of the checkpoint."""
    offset = store.checkpoint.changelog_offset
    assert (store.position.offset if store.position else 0) == offset
    missing = [n for n in range(offset) if store.get(key(n)) is None]
    assert not missing, f"{len(missing)} rows before {offset} are missing, the first is {missing[0]}"
    return offset


def test_a_killed_process_leaves_an_earlier_state_whole(copy: Copy) -> None:
    store, rebuilt = open_rocksdb(copy.directory)
    assert rebuilt is None
    assert 0 < require_whole(store) < ROWS
    store.close()


def test_a_closed_store_is_complete(tmp_path: Path) -> None:
    store, _ = open_rocksdb(tmp_path / "0")
    store.begin("changelog")
    fill(store, 0, 5_000)
    store.close()
    again, rebuilt = open_rocksdb(tmp_path / "0")
    assert rebuilt is None
    assert require_whole(again) == 5_000
    again.close()


def test_a_manifest_cut_anywhere_never_leaves_a_hole(killed: Path, tmp_path: Path) -> None:
    """With a write-ahead log it would: the newest rows and checkpoint, without the flush before them."""
    size = min(killed.glob("MANIFEST-*")).stat().st_size
    offsets = set()
    for cut in range(1, size, 41):
        directory = tmp_path / str(cut)
        shutil.copytree(killed, directory)
        os.truncate(min(directory.glob("MANIFEST-*")), size - cut)
        store, _ = open_rocksdb(directory)
        offsets.add(require_whole(store))
        store.close()
        shutil.rmtree(directory)
    assert len(offsets) > 1, "no cut took anything away"


def _cut(pattern: str) -> Callable[[Copy], object]:
    return lambda copy: os.truncate(copy.first(pattern), copy.first(pattern).stat().st_size // 2)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda copy: copy.first("*.sst").unlink(), id="a table deleted"),
        pytest.param(_cut("*.sst"), id="a table cut"),
        pytest.param(lambda copy: (copy.directory / "CURRENT").write_text("x"), id="CURRENT overwritten"),
        pytest.param(lambda copy: (copy.directory / "CURRENT").write_text(""), id="CURRENT emptied"),
        pytest.param(lambda copy: (copy.directory / "CURRENT").unlink(), id="CURRENT deleted"),
        pytest.param(lambda copy: copy.first("MANIFEST-*").unlink(), id="MANIFEST deleted"),
        pytest.param(lambda copy: copy.first("MANIFEST-*").write_bytes(os.urandom(300)), id="MANIFEST overwritten"),
    ],
)
def test_files_that_are_damaged_at_the_start_are_rebuilt(copy: Copy, damage: Callable[[Copy], object]) -> None:
    damage(copy)
    store, rebuilt = open_rocksdb(copy.directory)
    assert rebuilt
    assert store.checkpoint.changelog_offset == 0
    assert store.get(key(0)) is None
    store.close()


def test_a_flipped_byte_is_not_served_and_the_next_start_rebuilds(copy: Copy) -> None:
    table = copy.first("*.sst")
    with table.open("r+b") as file:
        file.seek(1000)
        file.write(bytes(byte ^ 255 for byte in table.read_bytes()[1000:1100]))
    store, rebuilt = open_rocksdb(copy.directory)
    assert rebuilt is None, "nothing reads that block at the start"
    with pytest.raises(EngineFailure, match="checksum mismatch"):
        require_whole(store)
    del store  # as os._exit would: nothing is closed in order

    again, rebuilt = open_rocksdb(copy.directory)
    assert "checksum mismatch" in str(rebuilt)
    assert again.checkpoint.changelog_offset == 0
    again.close()
    third, rebuilt = open_rocksdb(copy.directory)
    assert rebuilt is None, "rebuilt once, not for ever"
    third.close()


def test_a_directory_deleted_under_a_store_is_a_restart_and_no_more(tmp_path: Path) -> None:
    store, _ = open_rocksdb(tmp_path / "0")
    store.begin("changelog")
    shutil.rmtree(tmp_path / "0")
    with pytest.raises(EngineFailure, match="restart"):
        fill(store, 0, ROWS)
    del store
    again, _ = open_rocksdb(tmp_path / "0")
    assert again.checkpoint.changelog_offset == 0
    again.close()


def test_a_checkpoint_of_another_format_is_rebuilt(tmp_path: Path) -> None:
    raw = rocksdict.Rdict(str(tmp_path / "0"), rocksdict.Options(raw_mode=True))
    raw[CHECKPOINT_KEY] = b'{"format":2,"changelog_id":"x","changelog_offset":7,"caught_up_ms":1}'
    raw.close()
    store, rebuilt = open_rocksdb(tmp_path / "0")
    assert "format 2" in str(rebuilt)
    store.close()


def test_a_store_that_is_open_elsewhere_is_refused_and_kept(tmp_path: Path) -> None:
    store, _ = open_rocksdb(tmp_path / "0")
    store.begin("changelog")
    fill(store, 0, BATCH)
    with pytest.raises(StateDirectoryError, match="cannot be opened"):
        open_rocksdb(tmp_path / "0")
    assert require_whole(store) == BATCH
    store.close()


def test_a_restore_in_pieces_ends_at_the_same_rows_and_position(tmp_path: Path) -> None:
    store, _ = open_rocksdb(tmp_path / "0")
    store.begin("changelog")
    store.restore([Record(0, key(1), b"a"), Record(1, key(2), b"b")], 2)
    store.restore([Record(2, key(1), None), Record(3, POSITION_KEY, encode_position(Position("updates", 9)))], 5)
    store.finish_restore()
    store.close()
    again, _ = open_rocksdb(tmp_path / "0")
    assert (again.get(key(1)), again.get(key(2))) == (None, b"b")
    found = (again.position, again.checkpoint.changelog_id, again.checkpoint.changelog_offset)
    assert found == (Position("updates", 9), "changelog", 5)
    again.begin("another")
    assert again.get(key(2)) is None
    assert again.position is None
    again.close()
