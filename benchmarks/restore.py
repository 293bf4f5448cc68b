"""How long a worker is away: restoring a million sessions from the changelog, and starting on a kept directory.

    python -m benchmarks.restore [--sessions N] [--rounds N]

Rows of about 480 bytes, written into the changelog of an app that has processed all its input, 4 partitions. Each
round starts a worker three times: store in memory, RocksDB on an empty directory, RocksDB on the directory kept from
the start before. "Ready" is from the start of the process to its log event `ready`, Python's own start and joining
the group included; "restore" is what the worker's event `restored` says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from benchmarks.process import CONTENDERS, Contender, cpu_seconds, peak_megabytes, running
from benchmarks.rules import fold, plain_events
from worker.engine.position import POSITION_KEY, Position, encode_position
from worker.kafka import topics
from worker.kafka.embedded import EmbeddedKafka
from worker.settings import Settings, load_settings
from worker.wire import row

ROCKSDB, MEMORY, _ = CONTENDERS
STARTS: Final = (("memory", MEMORY), ("RocksDB, no directory", ROCKSDB), ("RocksDB, kept directory", ROCKSDB))
KAFKA_STREAMS_SECONDS: Final = 3.1
"""The restore of Kafka Streams 4.1, the same million keys, on a machine like the one this was written on."""
DEADLINE_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a worker."""

    ready_seconds: float
    restore_seconds: float
    restored_records: int
    cpu_seconds: float
    """Of the whole process up to ready: what a shared machine does not distort."""
    peak_megabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="session-worker-restore-"))
    with EmbeddedKafka(full_jit=True) as kafka:
        environment = {
            "WORKER_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "WORKER_APP_ID": "restore",
            "WORKER_STATE_DIR": str(work / "state"),
            # Else a deleted directory would make another member, which waits for the session timeout of the first.
            "WORKER_INSTANCE_ID": "restored",
            "WORKER_LOG_FORMAT": "json",
        }
        settings = load_settings({name.removeprefix("WORKER_").lower(): value for name, value in environment.items()})
        asyncio.run(topics.create(settings))
        mean = write_changelog(settings, options.sessions)
        console.print(f"{options.sessions:,} rows of {mean:.0f} bytes; logs in {work}")
        starts: dict[str, list[Start]] = {name: [] for name, _ in STARTS}
        for number in range(options.rounds):
            shutil.rmtree(work / "state", ignore_errors=True)
            for name, contender in STARTS:
                done = start(contender, environment, work / f"{name}-{number}.log".replace(", ", "-"))
                starts[name].append(done)
                console.print(
                    f"  {name}: ready {done.ready_seconds:.2f} s, restore {done.restore_seconds:.2f} s, "
                    f"CPU {done.cpu_seconds:.2f} s, {done.restored_records:,} records, load {os.getloadavg()[0]:.1f}"
                )
    console.print(_table(starts, options.sessions))


def write_changelog(settings: Settings, sessions: int) -> float:
    """The changelog as workers leave it when every session has one row. Returns the mean size of a row in bytes."""
    producer = Producer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "compression.type": settings.compression,
            "linger.ms": 20,
            "batch.size": 900_000,  # as large as the worker's own batches
            "queue.buffering.max.messages": 200_000,
        }
    )
    size = 0
    for number, (key, value) in enumerate(rows(sessions)):
        size += len(value)
        while True:
            try:
                producer.produce(settings.topic_changelog, value, key, partition=number % settings.partitions)
                break
            except BufferError:
                producer.poll(0.05)
    position = encode_position(Position(settings.topic_updates, 0))
    for partition in range(settings.partitions):
        producer.produce(settings.topic_changelog, position, POSITION_KEY, partition=partition)
    if producer.flush(DEADLINE_SECONDS):
        raise RuntimeError("the changelog could not be written")
    return size / sessions


def rows(sessions: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and row of each session: the rows of a thousand new ones, each session under its own id."""
    stored = fold(list(plain_events(5_000))[:1_000]).items()
    samples = [row.decode(value) for key, value in stored if not key.startswith(b"\xff")]
    for number, sample in enumerate(islice(cycle(samples), sessions)):
        name = f"order-{number:07d}"
        yield name.encode(), row.encode(msgspec.structs.replace(sample, integration_id=name))


def start(contender: Contender, environment: dict[str, str], log: Path) -> Start:
    """Starts a worker, waits until it is ready, and stops it as an operator would."""
    started = time.perf_counter()
    with running(contender, environment, log) as process:
        restored = _event(log, "restored", process, table="sessions")
        _event(log, "ready", process)
        ready = time.perf_counter() - started
        cpu, peak = cpu_seconds(process.pid), peak_megabytes(process.pid)
        process.terminate()
        process.wait(DEADLINE_SECONDS)
    return Start(ready, restored["seconds"], restored["changelog_records"], cpu, peak)


def _event(log: Path, name: str, process: subprocess.Popen[bytes], **fields: str) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if f'"{name}"' in line and (event := json.loads(line)).items() >= {"event": name, **fields}.items():
                return dict(event)
        time.sleep(0.01)
    raise RuntimeError(f"no event {name!r} within {DEADLINE_SECONDS:.0f} s, or the worker ended; see {log}")


def _table(starts: dict[str, list[Start]], sessions: int) -> Table:
    table = Table(title=f"{sessions:,} sessions, 4 partitions; medians of the rounds")
    table.add_column("")
    for column in (
        "ready s",
        "restore s",
        f"× Kafka Streams' {KAFKA_STREAMS_SECONDS} s",
        "CPU s",
        "records",
        "peak MB",
    ):
        table.add_column(column, justify="right")
    for name, measured in starts.items():
        restore = statistics.median(each.restore_seconds for each in measured)
        table.add_row(
            name,
            f"{statistics.median(each.ready_seconds for each in measured):.2f}",
            f"{restore:.2f}",
            f"{restore / KAFKA_STREAMS_SECONDS:.2f}",
            f"{statistics.median(each.cpu_seconds for each in measured):.2f}",
            f"{measured[0].restored_records:,}",
            f"{statistics.median(each.peak_megabytes for each in measured):.0f}",
        )
    return table


if __name__ == "__main__":
    main()
