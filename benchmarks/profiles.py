"""`python -m benchmarks.profiles`: what first_session across partitions costs, with and without profiles in one run.

Throughput: the synthetic mix, and the same mix of guests alone, worked off in turns by one worker; what counts is the
ratio. Latency: new sessions at a steady rate, every other one bound to a profile, in turns with as many guests alone;
the binding updates wait for an answer, the others must not notice. A first round warms the broker up: a cold JVM takes
half of this machine, and three times as long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from benchmarks.__main__ import settings_of_run
from benchmarks.drain import drain
from benchmarks.process import CONTENDERS, Contender, running
from worker.kafka import topics
from worker.kafka.embedded import EmbeddedKafka
from worker.load.event import StreamEvent
from worker.load.generator import play as mix_of
from worker.load.mix import Mix
from worker.load.player import Pace, play
from worker.settings import Settings

CUSTOMERS = 20_000
WARM_UP_SECONDS = 4.0


def main() -> None:
    options = _options()
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="session-worker-bench-"))
    with EmbeddedKafka(full_jit=True) as kafka:
        console.print(f"logs in {work}")
        mix = Mix.of(options.sessions)
        mixes = {"profiles": mix, "guests": replace(mix, anonymous=1.0, bound_later=0.0, hot_profile_sessions=0)}
        for name, each in mixes.items():
            settings, _ = settings_of_run(kafka.bootstrap_servers, work, f"bench.{name}")
            asyncio.run(topics.create(settings))
            asyncio.run(play(settings, mix_of(each, seed=1), Pace(), stop=asyncio.Event(), on_sent=lambda _: None))
        for contender in CONTENDERS[:2]:
            _throughput(contender, kafka.bootstrap_servers, work, list(mixes), options.rounds, console)
        _latency(CONTENDERS[0], kafka.bootstrap_servers, work, options, console)


def _throughput(
    contender: Contender, bootstrap_servers: str, work: Path, names: list[str], rounds: int, console: Console
) -> None:
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            settings, environment = settings_of_run(bootstrap_servers, work, f"bench.{name}")
            asyncio.run(topics.create(settings))
            rates[name].append(drain(contender, settings, environment, work / "drain.log").events_per_second)
    medians = {name: statistics.median(each) for name, each in rates.items()}
    told = ", ".join(f"{name} {rate:,.0f} events/s" for name, rate in medians.items())
    console.print(
        f"{contender.name}: {told}; with profiles {medians['profiles'] / medians['guests']:.0%} of guests alone"
    )


def _latency(
    contender: Contender, bootstrap_servers: str, work: Path, options: argparse.Namespace, console: Console
) -> None:
    measured: dict[str, list[tuple[float, float]]] = {}
    for round_number in range(options.rounds + 1):
        for has_profiles in (True, False):
            settings, environment = settings_of_run(bootstrap_servers, work, None)
            asyncio.run(topics.create(settings))
            with running(contender, environment, work / "latency.log"):
                binding, others = _measure(
                    settings, _new_sessions(has_profiles=has_profiles), options.rate, options.seconds
                )
            if round_number:
                of_others = "all others" if has_profiles else "guests alone"
                for name, milliseconds in (("binding updates", binding), (of_others, others)):
                    if milliseconds:
                        quantiles = statistics.quantiles(milliseconds, n=100)
                        measured.setdefault(name, []).append((quantiles[49], quantiles[98]))
    for name, rounds in measured.items():
        p50, p99 = (statistics.median(each) for each in zip(*rounds, strict=True))
        told = ", ".join(f"{a:.0f}/{b:.0f}" for a, b in rounds)
        console.print(
            f"{options.rate:,} new sessions/s, {name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms (medians of {told})"
        )


def _measure(
    settings: Settings, events: Iterator[StreamEvent], rate: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Milliseconds from the producer's time stamp to a read_committed consumer: of binding updates, of the others."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": f"{settings.app_id}-latency",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.assign([TopicPartition(settings.topic_enriched, p, 0) for p in range(settings.partitions)])
    pace = Pace(rate, seconds + WARM_UP_SECONDS)
    playing = threading.Thread(
        target=lambda: asyncio.run(play(settings, events, pace, stop=asyncio.Event(), on_sent=lambda _: None))
    )
    playing.start()
    binding: list[float] = []
    others: list[float] = []
    first_stamp, quiet_since = 0, time.monotonic()
    while playing.is_alive() or time.monotonic() - quiet_since < 1.0:
        for message in consumer.consume(500, timeout=0.01):
            now, quiet_since, stamp = time.time() * 1000, time.monotonic(), message.timestamp()[1]
            first_stamp = first_stamp or stamp
            if stamp - first_stamp > WARM_UP_SECONDS * 1000:
                is_binding = json.loads(message.value() or b"")["customer_session"]["profile_id"] != ""
                (binding if is_binding else others).append(now - stamp)
    consumer.close()
    return binding, others


def _new_sessions(*, has_profiles: bool) -> Iterator[StreamEvent]:
    """One event per session; every other session has a profile, or none has."""
    for number in count():
        profile_id = f"customer-{number // 2 * 7919 % CUSTOMERS}" if number % 2 and has_profiles else ""
        body = {"profile_id": profile_id, "cart_items": [{"name": "Mug", "sku": "M-1", "quantity": 2, "price": 9.95}]}
        event = {"integration_id": f"order-{number}", "application_id": 7, "customer_session": body}
        yield StreamEvent("created", f"order-{number}".encode(), json.dumps(event).encode(), 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.profiles")
    parser.add_argument("--sessions", type=int, default=20_000, help="sessions of each mix, about 5.6 events each")
    parser.add_argument("--rounds", type=int, default=3, help="drains of each mix, and latency runs")
    parser.add_argument("--rate", type=int, default=1_000, help="new sessions a second in the latency run")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the latency run, after the warm-up")
    return parser.parse_args()


if __name__ == "__main__":
    main()
