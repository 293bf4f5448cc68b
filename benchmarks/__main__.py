"""`make bench`: the worker against its peer on one machine, in one run, printed as ratios.

Machines are shared and noisy, so a number alone says little: contenders take turns, the median of the
rounds counts, and what is compared is their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.drain import Drain, drain
from benchmarks.latency import Latency, latency
from benchmarks.process import CONTENDERS, Contender
from worker.kafka import topics
from worker.kafka.embedded import EmbeddedKafka
from worker.load.generator import generate
from worker.load.player import Pace, play
from worker.settings import Settings, load_settings

RATES = (1_000, 5_000)
UPDATES = "bench.updates"
_run_numbers = count(1)


def main() -> None:
    options = _options()
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="session-worker-bench-"))
    with EmbeddedKafka(full_jit=True) as kafka:
        console.print(f"logs in {work}; preloading {options.sessions:,} sessions …")
        drains: dict[str, list[Drain]] = {c.name: [] for c in CONTENDERS}
        latencies: dict[tuple[str, int], Latency] = {}
        full, environment = settings_of_run(kafka.bootstrap_servers, work, UPDATES)
        events = asyncio.run(_preload(full, options.sessions))
        for round_number in range(options.rounds):
            for contender in CONTENDERS:
                settings, environment = settings_of_run(kafka.bootstrap_servers, work, UPDATES)
                asyncio.run(topics.create(settings))
                drains[contender.name].append(drain(contender, settings, environment, work / "drain.log"))
                rate = drains[contender.name][-1].events_per_second
                console.print(f"  drain, round {round_number + 1}: {contender.name} {rate:,.0f} events/s")
        for contender in CONTENDERS:
            for rate in RATES:
                settings, environment = settings_of_run(kafka.bootstrap_servers, work, None)
                asyncio.run(topics.create(settings))
                log = work / "latency.log"
                latencies[contender.name, rate] = latency(contender, settings, environment, rate, options.seconds, log)
                console.print(
                    f"  latency at {rate}/s: {contender.name} p99 {latencies[contender.name, rate].p99:.0f} ms"
                )
    console.print(_table(drains, latencies, events))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks")
    parser.add_argument("--sessions", type=int, default=50_000, help="sessions to preload, about 5.6 events each")
    parser.add_argument("--rounds", type=int, default=3, help="drains of each contender")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each latency run, after the warm-up")
    return parser.parse_args()


def settings_of_run(bootstrap_servers: str, work: Path, updates: str | None) -> tuple[Settings, dict[str, str]]:
    """Settings of a run with an app id, outputs and a state directory of its own."""
    run = f"bench{next(_run_numbers)}"
    environment = {
        "WORKER_BOOTSTRAP_SERVERS": bootstrap_servers,
        "WORKER_APP_ID": run,
        "WORKER_STATE_DIR": str(work / run),
        "WORKER_TOPIC_UPDATES": updates or f"{run}.updates",
        "WORKER_TOPIC_ENRICHED": f"{run}.enriched",
        "WORKER_TOPIC_DEAD_LETTERS": f"{run}.dead-letters",
        "WORKER_TOPIC_LEDGER": f"{run}.ledger",
    }
    flags = {name.removeprefix("WORKER_").lower(): value for name, value in environment.items()}
    return load_settings(flags), environment


async def _preload(settings: Settings, sessions: int) -> int:
    await topics.create(settings)
    sent = await play(
        settings, generate(sessions=sessions, seed=1), Pace(), stop=asyncio.Event(), on_sent=lambda _: None
    )
    return sent.events


def _table(drains: dict[str, list[Drain]], latencies: dict[tuple[str, int], Latency], events: int) -> Table:
    peer = CONTENDERS[-1]
    table = Table(title=f"{events:,} events of the synthetic mix, 4 partitions, exactly once; medians of the rounds")
    table.add_column("")
    for column in ("events/s", "× peer", "CPU s per 1M", "peak MB", *(f"p50 / p99 ms at {rate}/s" for rate in RATES)):
        table.add_column(column, justify="right")
    for contender in CONTENDERS:
        rate = _median(drains, contender, "events_per_second")
        latency_cells = (latencies[contender.name, r] for r in RATES)
        table.add_row(
            contender.name,
            f"{rate:,.0f}",
            f"{rate / _median(drains, peer, 'events_per_second'):.2f}",
            f"{_median(drains, contender, 'cpu_seconds_per_million'):.1f}",
            f"{_median(drains, contender, 'peak_megabytes'):.0f}",
            *(f"{cell.p50:.0f} / {cell.p99:.0f}" for cell in latency_cells),
        )
    return table


def _median(drains: dict[str, list[Drain]], contender: Contender, field: str) -> float:
    values: list[float] = [getattr(d, field) for d in drains[contender.name]]
    return statistics.median(values)


if __name__ == "__main__":
    main()
