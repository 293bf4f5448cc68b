"""Bad input of every kind: each record in the dead letters, untouched, with its reason; nothing else disturbed."""

from __future__ import annotations

import random
from itertools import islice

from tests.broker.pipeline import Pipeline
from tests.broker.poison import as_events, poison_kinds
from tests.broker.processes import cpu_seconds
from tests.logs import ordered, read_topic
from worker.load.event import StreamEvent
from worker.load.generator import generate


def _good(count: int, seed: int) -> list[StreamEvent]:
    return list(islice(generate(sessions=count, seed=seed), count))


def test_each_kind_of_poison_is_a_dead_letter_with_its_reason_and_its_bytes(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    kinds = poison_kinds()
    traced = (("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("raw", b"\xff\x00"))
    good = _good(2_000, seed=31)
    events = [event for kind in kinds for event in as_events(kind, traced)]
    pipeline.send([event for pair in zip(good, events, strict=False) for event in pair] + good[len(events) :])

    worker = pipeline.worker()
    pipeline.wait_drained()
    worker.stop()
    verdict = pipeline.verdict(worker).require_clean()

    letters = {letter.value: letter for letter in ordered(read_topic(pipeline.bootstrap, pipeline.names.dead_letters))}
    wrong = []
    for kind in kinds:
        letter = letters.get(kind.value)
        if letter is None:
            wrong.append(f"{kind.name}: no dead letter")
            continue
        headers = dict(letter.headers)
        if headers["dead_letter.code"].decode() != kind.code:
            wrong.append(f"{kind.name}: {headers['dead_letter.code'].decode()}, not {kind.code}")
        if letter.key != kind.key or letter.headers[:2] != traced or not headers["dead_letter.message"]:
            wrong.append(f"{kind.name}: key, headers or message: {letter.key!r} {letter.headers}")
    assert not wrong, "\n".join(wrong)
    assert verdict.outcomes["rejected"] >= len(kinds)


def test_ten_percent_poison_does_not_slow_the_good_events_down(pipeline: Pipeline) -> None:
    """Only a sanity bound: a reject path that logs, flushes or retries per record would break it by far. In CPU time,
    because others use the machine."""
    pipeline.create_topics()
    rng = random.Random(32)
    # The biggest ones are left out: their bytes, not their refusal, would be what is measured.
    bad = [event for kind in poison_kinds() if len(kind.value or b"") < 2_000 for event in as_events(kind)]

    def drain_cpu_seconds(seed: int, poison: int) -> float:
        events = _good(15_000, seed)
        for _ in range(poison):
            events.insert(rng.randrange(len(events)), rng.choice(bad))
        worker = pipeline.worker(f"seed-{seed}")
        pipeline.wait_until(lambda: " ready " in worker.output(), "it is ready")
        begin = cpu_seconds(worker.pid)
        pipeline.send(events)
        pipeline.wait_drained()
        seconds = cpu_seconds(worker.pid) - begin
        worker.stop()
        return seconds

    clean = drain_cpu_seconds(33, poison=0)
    poisoned = drain_cpu_seconds(34, poison=1_500)
    verdict = pipeline.verdict().require_clean()
    assert verdict.transactions < verdict.dead_letters, "bad events have transactions of their own"
    assert poisoned <= 3 * clean, f"{poisoned:.2f} CPU seconds with poison, {clean:.2f} without"
