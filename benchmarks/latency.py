"""From the producer's time stamp to a read_committed consumer, at a steady rate."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from benchmarks.process import Contender, running
from worker.settings import Settings

_WARM_UP_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, end to end."""

    p50: float
    p99: float
    events: int


def latency(
    contender: Contender, settings: Settings, environment: dict[str, str], rate: int, seconds: float, log: Path
) -> Latency:
    """Plays the synthetic mix at `rate` events/s and times every enriched record after the warm-up.

    An output carries its input's time stamp, in whole milliseconds.
    """
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
    load = [sys.executable, "-m", "worker", "load", "--rate", str(rate), "--duration", str(seconds + _WARM_UP_SECONDS)]
    with running(contender, environment, log):
        time.sleep(_WARM_UP_SECONDS)  # not synchronisation: lets start-up's CPU pass
        with log.open("ab") as output:
            player = subprocess.Popen(load, env={**os.environ, **environment}, stdout=output, stderr=output)
        try:
            milliseconds = _listen(consumer, player, seconds)
        finally:
            player.kill()
            player.wait()
            consumer.close()
    quantiles = statistics.quantiles(milliseconds, n=100)
    return Latency(quantiles[49], quantiles[98], len(milliseconds))


def _listen(consumer: Consumer, player: subprocess.Popen[bytes], seconds: float) -> list[float]:
    milliseconds: list[float] = []
    first_stamp: int | None = None
    quiet_since = time.monotonic()
    while player.poll() is None or time.monotonic() - quiet_since < 1.0:
        for message in consumer.consume(500, timeout=0.01):
            now = time.time() * 1000
            quiet_since = time.monotonic()
            stamp = message.timestamp()[1]
            first_stamp = first_stamp or stamp
            if stamp - first_stamp > _WARM_UP_SECONDS * 1000:
                milliseconds.append(now - stamp)
        if time.monotonic() - quiet_since > seconds + 60:
            break
    if len(milliseconds) < 100:
        raise RuntimeError("hardly any output arrived; see the log")
    return milliseconds
