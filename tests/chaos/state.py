"""The worker's local copy of its state: deleted, damaged, out of date, on a disk that is full or read-only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from rocksdict import Options, Rdict

from tests.broker.pipeline import Pipeline
from tests.broker.processes import WorkerProcess
from tests.chaos.crashes import WAITING
from tests.chaos.disk import Disk, damaged, open_files_limit
from tests.chaos.scenario import Run, scenario
from worker.engine.state_dir import LOCK

JSON: Final[Any] = {"log_format": "json"}
CHECKPOINT_KEY: Final = b"\xff\x00checkpoint"
HOUR_MS: Final = 3_600_000


@scenario("state-directory-deleted")
def deleted(run: Run) -> None:
    """The state directory is deleted, under a running worker or before a start: all is restored from the changelog."""
    run.pipeline.create_topics()
    # Given from outside, because the directory kept it: else each start waits until the member before has timed out.
    worker = run.pipeline.prepared(instance_id="one", **JSON)
    with run.traffic(per_second=1_000, waiting=WAITING):
        worker.start()
        for turn in range(run.scaled(2, 8)):
            run.wait_progress(1_000)
            if turn % 2 == 0:
                delete(worker.state_dir)
                run.injected("directory deleted under a running worker")
                run.wait_progress(500)
                run.pipeline.wait_until(lambda: bool(worker.logged("status_not_written")), "it says so")
                worker.kill9()
            else:
                worker.kill9()
                delete(worker.state_dir)
                run.injected("directory deleted")
            with run.resuming():
                worker.start()
            wait_ready(run, worker)
            # Of the profiles there may be none yet: they follow the sessions, a transaction later.
            restored = [line for line in worker.logged("restored") if line["table"] == "sessions"]
            assert restored[0]["changelog_records"] > 0, restored


@scenario("state-files-damaged")
def files_damaged(run: Run) -> None:
    """Files of the store are cut, deleted, overwritten, another kind in each partition: each is found, and rebuilt."""
    run.pipeline.create_topics()
    feed = Feed(run)
    worker = run.pipeline.prepared(**JSON)
    kinds = sorted(DAMAGES)
    run.rng.shuffle(kinds)
    for turn in range(run.scaled(1, len(kinds))):
        feed(3_000)
        worker.start()
        run.pipeline.wait_drained()
        worker.stop()
        done = {}
        for partition in range(4):
            kind = kinds[(4 * turn + partition) % len(kinds)]
            DAMAGES[kind](worker.state_dir / "sessions" / str(partition))
            done[partition] = kind
            run.injected(kind)
        feed(1_000)
        with run.resuming():
            worker.start()
        wait_ready(run, worker)
        rebuilt = {event["partition"] for event in worker.logged("store_rebuilt")}
        expected = {partition for partition, kind in done.items() if kind not in HEALS_BY_ITSELF}
        assert expected <= rebuilt, f"{done}, rebuilt {rebuilt}"
        run.pipeline.wait_drained()
        worker.stop()
    worker.start()


def _first(pattern: str) -> Callable[[Path], Path]:
    return lambda directory: min(directory.glob(pattern))


DAMAGES: Final[dict[str, Callable[[Path], object]]] = {
    "table deleted": lambda store: _first("*.sst")(store).unlink(),
    "table cut": lambda store: os.truncate(_first("*.sst")(store), 1_000),
    "CURRENT overwritten": lambda store: (store / "CURRENT").write_text("nonsense"),
    "CURRENT emptied": lambda store: (store / "CURRENT").write_text(""),
    "MANIFEST deleted": lambda store: _first("MANIFEST-*")(store).unlink(),
    "MANIFEST overwritten": lambda store: damaged(_first("MANIFEST-*")(store), 0.2, 0.8),
    "MANIFEST cut": lambda store: os.truncate(
        _first("MANIFEST-*")(store), _first("MANIFEST-*")(store).stat().st_size - 9
    ),
}


HEALS_BY_ITSELF: Final = {"MANIFEST cut"}
"""Opens as of an earlier flush, whole: the changelog brings the rest."""


@scenario("state-bytes-flipped")
def bytes_flipped(run: Run) -> None:
    """Bytes rot inside tables: the worker meets them in the middle of work, serves nothing of it, ends and rebuilds."""
    run.pipeline.create_topics()
    feed = Feed(run)
    worker = run.pipeline.prepared(**JSON)
    worker.may_fail = True
    for _ in range(run.scaled(1, 4)):
        feed(4_000)
        worker.start()
        run.pipeline.wait_drained()
        worker.stop()
        for table in sorted((worker.state_dir / "sessions").rglob("*.sst")):
            damaged(table, 0.1, 0.6)
        before = len(_rebuilt_by_checksum(worker))
        feed(4_000)
        ends = 0
        worker.start()
        while run.pipeline.remaining():
            worker.expected_up = False
            run.pipeline.wait_until(
                lambda: not worker.running or run.pipeline.remaining() == 0, "all is done, or a damaged row is met"
            )
            if not worker.running:
                assert worker.wait_exit(1) == 70, worker.tail()
                ends += 1
                worker.start()
        assert ends, "no damaged row was met in the middle of work"
        run.injected("end with 70 at a row that cannot be read", ends)
        run.injected("store rebuilt", len(_rebuilt_by_checksum(worker)) - before)
        worker.stop()
    worker.start()


def _rebuilt_by_checksum(worker: WorkerProcess) -> list[dict[str, Any]]:
    return [event for event in worker.logged("store_rebuilt", ever=True) if "checksum" in event["reason"]]


@scenario("state-out-of-date")
def out_of_date(run: Run) -> None:
    """An old copy of the directory is put back: it catches up. One older than tombstones live, or of the future, is
    rebuilt: a row whose deletion the changelog forgot does not come back."""
    run.pipeline.create_topics()
    feed = Feed(run)
    worker = run.pipeline.prepared(**JSON)
    copy = run.directory / "old-copy"
    for age_hours in (0, 13) if not run.long else (0, 11, 13, 24 * 30, -2):
        feed(2_000)
        worker.start()
        run.pipeline.wait_drained()
        worker.stop()
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(worker.state_dir, copy)
        feed(2_000)
        worker.start()
        run.wait_progress(1_500)
        worker.kill9()
        shutil.rmtree(worker.state_dir)
        copy.rename(worker.state_dir)
        too_old = not 0 <= age_hours <= 12
        for partition in range(4):
            _age(worker.state_dir / "sessions" / str(partition), age_hours, phantom=too_old)
        with run.resuming():
            worker.start()
        wait_ready(run, worker)
        rebuilt = [event["reason"] for event in worker.logged("store_rebuilt")]
        assert len(rebuilt) == (4 if too_old else 0), (age_hours, rebuilt)
        assert all("forgotten deletions" in reason for reason in rebuilt)
        run.injected("rebuilt, of another time" if too_old else "old copy put back")
        run.pipeline.wait_drained()
        worker.stop()
    worker.start()


def _age(store: Path, hours: int, *, phantom: bool) -> None:
    """Sets back when the store was last up to date; with `phantom`, gives it a row that was deleted since."""
    database = Rdict(str(store), Options(raw_mode=True))
    checkpoint = msgspec.json.decode(bytes(database[CHECKPOINT_KEY] or b""))
    checkpoint["caught_up_ms"] -= hours * HOUR_MS
    database[CHECKPOINT_KEY] = msgspec.json.encode(checkpoint)
    if phantom:
        database[b"order-phantom"] = b"a row whose deletion nobody remembers"
    database.close()


@scenario("disk-full")
def disk_full(run: Run) -> None:
    """No room is left on the disk of the state directory: exit code 4 and what to do, at the stop and at each start."""
    run.pipeline.create_topics()
    feed = Feed(run)
    worker = run.pipeline.prepared(**JSON)
    worker.may_fail = True
    with Disk(worker) as disk:
        feed(1_000)
        worker.start()
        run.wait_progress(500)
        disk.fill()
        feed(run.scaled(1_000, 10_000))
        run.pipeline.wait_drained()  # from memory it goes on
        worker.sigterm()
        require_refused(worker, str(worker.state_dir))
        run.injected(f"full disk at the stop ({disk.kind})")
        if disk.mounted:
            for _ in range(run.scaled(1, 3)):
                worker.start()
                require_refused(worker, str(worker.state_dir))
                run.injected(f"full disk at the start ({disk.kind})")
        disk.free()
        feed(1_000)
        with run.resuming():
            worker.start()
        run.pipeline.wait_drained()
        worker.stop()
        run.pipeline.verdict(worker).require_clean()
    worker.start()


@scenario("state-directory-read-only")
def read_only(run: Run) -> None:
    """The state directory cannot be written: the worker refuses to start, exit code 4, and says what to do."""
    run.pipeline.create_topics()
    feed = Feed(run)
    worker = run.pipeline.prepared(**JSON)
    with Disk(worker) as disk:
        feed(1_000)
        worker.start()
        run.pipeline.wait_drained()
        worker.stop()
        if disk.can_be_read_only:
            disk.set_writable(False)
            worker.start()
            require_refused(worker, str(worker.state_dir))
            disk.set_writable(True)
            run.injected(f"read-only directory ({disk.kind})")
        else:
            run.injected("restart only: here nothing keeps this user from writing")
        feed(1_000)
        with run.resuming():
            worker.start()
        run.pipeline.wait_drained()
        worker.stop()
    worker.start()


@scenario("state-directory-used-twice")
def used_twice(run: Run) -> None:
    """A second worker starts with the state directory of a running one: refused, exit code 4; the first works on."""
    run.pipeline.create_topics()
    owner = run.pipeline.prepared("owner", **JSON)
    second = run.pipeline.prepared("second", **JSON)
    second.environment["WORKER_STATE_DIR"] = str(owner.state_dir)
    with run.traffic(per_second=1_000, waiting=WAITING):
        owner.start()
        for _ in range(run.scaled(1, 5)):
            run.wait_progress(500)
            second.start()
            require_refused(second, str(owner.state_dir))
            run.injected("directory in use refused")
        run.wait_progress(500)


@scenario("state-directory-of-another-app")
def of_another_app(run: Run) -> None:
    """A worker starts with the state directory of another app: refused, exit code 4, and nothing in it is touched."""
    run.pipeline.create_topics()
    owner = run.pipeline.prepared("owner", **JSON)
    stranger = Pipeline(run.pipeline.bootstrap, f"{run.pipeline.app_id}-other", run.directory)
    stranger.create_topics()
    foreign = stranger.prepared("foreign", **JSON)
    foreign.environment["WORKER_STATE_DIR"] = str(owner.state_dir)
    try:
        with run.traffic(per_second=1_000, waiting=WAITING):
            for _ in range(run.scaled(1, 5)):
                owner.start()
                run.wait_progress(1_000)
                owner.stop()
                before = _files(owner.state_dir)
                foreign.start()
                require_refused(foreign, str(owner.state_dir))
                assert stranger.app_id in foreign.said(), foreign.tail()
                changed = {name for name, _ in _files(owner.state_dir).items() ^ before.items()}
                assert not changed, f"the other app's worker changed {sorted(changed)}"
                run.injected("directory of another app refused")
            with run.resuming():
                owner.start()
    finally:
        stranger.destroy()


def _files(directory: Path) -> dict[str, bytes]:
    """All but the lock, which tells the process that looked last."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@scenario("too-few-file-descriptors")
def few_descriptors(run: Run) -> None:
    """The worker may open 64 files only: it refuses to start and names the limit, instead of failing somewhere."""
    run.pipeline.create_topics()
    feed = Feed(run)
    worker = run.pipeline.prepared(**JSON)
    feed(2_000)
    worker.start()
    open_files_limit(worker, 64)
    worker.expected_up = False
    assert worker.wait_exit() == 2, worker.tail()
    assert "ulimit -n" in worker.said(), worker.tail()
    run.injected("limit of 64 open files")
    with run.resuming():
        worker.start()
        open_files_limit(worker, 128)


class Feed:
    """The synthetic stream, a piece at a time: sessions of one piece go on in the next."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, events: int) -> None:
        self._run.pipeline.send(islice(self._run.events, events))


def wait_ready(run: Run, worker: WorkerProcess) -> None:
    run.pipeline.wait_until(lambda: bool(worker.logged("ready")), "the worker is ready")


def require_refused(worker: WorkerProcess, named: str) -> None:
    """It ended with 4, told the path and what to do, and no stack trace hides that."""
    worker.expected_up = False
    assert worker.wait_exit() == 4, worker.tail()
    said = worker.said()
    assert named in said, said
    assert "What to do" in said or "what_to_do" in said, said
    assert "Traceback" not in said, said


def delete(directory: Path) -> None:
    """rm -rf, again when the worker writes between."""
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=True)
