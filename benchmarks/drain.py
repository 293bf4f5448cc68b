"""How fast a contender works off a topic that is already full."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from benchmarks.process import Contender, cpu_seconds, peak_megabytes, running
from worker.settings import Settings

_DEADLINE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Drain:
    events_per_second: float
    cpu_seconds_per_million: float
    peak_megabytes: float


def drain(contender: Contender, settings: Settings, environment: dict[str, str], log: Path) -> Drain:
    """Measures from the first committed batch until all is committed and no output waits for an answer, so that
    start-up and restore stay out."""
    watcher = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": settings.app_id})
    partitions = [TopicPartition(settings.topic_updates, p) for p in range(settings.partitions)]
    total = sum(watcher.get_watermark_offsets(p)[1] for p in partitions)

    def committed() -> int:
        return sum(max(p.offset, 0) for p in watcher.committed(partitions, timeout=10))

    with running(contender, environment, log) as process:
        first_count, first_time, first_cpu = 0, 0.0, 0.0
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while (count := committed()) < total:
            _require_alive(process, contender, log)
            if time.monotonic() > deadline:
                raise RuntimeError(f"{contender.name} had {count} of {total} events after {_DEADLINE_SECONDS:.0f} s")
            if count and not first_count:
                first_count, first_time, first_cpu = count, time.perf_counter(), cpu_seconds(process.pid)
            time.sleep(0.02)
        _wait_emitted(settings, deadline)
        seconds = time.perf_counter() - first_time
        cpu = cpu_seconds(process.pid) - first_cpu
        megabytes = peak_megabytes(process.pid)
    watcher.close()
    events = total - first_count
    return Drain(events / seconds, cpu / events * 1e6, megabytes)


def _wait_emitted(settings: Settings, deadline: float) -> None:
    """Returns when the ledger counts as many enriched records as accepted updates."""
    reader = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": "ledger", "fetch.wait.max.ms": 10})
    reader.assign([TopicPartition(settings.topic_ledger, p, 0) for p in range(settings.partitions)])
    accepted = enriched = 0
    while not accepted or enriched < accepted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{accepted - enriched} outputs still wait for an answer")
        for message in reader.consume(1_000, timeout=0.02):
            if message.error() is None:
                entry = json.loads(message.value() or b"")
                accepted += entry["outcomes"]["accepted"]
                enriched += entry["enriched"]
    reader.close()


def _require_alive(process: subprocess.Popen[bytes], contender: Contender, log: Path) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"{contender.name} exited with {process.returncode}; see {log}")
