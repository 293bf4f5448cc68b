"""What the rules and codecs cost: µs per event, stage by stage, on one thread without Kafka.

    python -m benchmarks.rules [--events N]

Two inputs: the synthetic stream of session semantics, section 8, as `worker load` sends it; and the plain event the
budget is written for (500 bytes, 4 items; 15 µs for the handler as a whole). Each figure is the best of five runs:
on a shared machine the best run is the one least disturbed.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from worker.agents.sessions import SessionsConfig, SessionsHandler
from worker.engine.batch import Batch
from worker.load.generator import generate
from worker.session.apply import Accepted, Outcome, apply
from worker.session.model import Limits, Session, Update
from worker.wire import enriched, row
from worker.wire.update import decode

BATCH_RECORDS = 2000
RUNS = 5


class SourceEvent(NamedTuple):
    """A record as the engine would hand it over."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def plain_events(count: int) -> Iterator[SourceEvent]:
    """Sessions of five updates, interleaved; every update brings the whole cart, as the budget assumes."""
    for number in range(count):
        session = number % max(1, count // 5)
        name = f"order-{session:07d}"
        items = ",".join(
            f'{{"name":"Item {line} of the shop","sku":"SKU-{line:05d}","quantity":{1 + (number + line) % 4},'
            f'"price":{line + 3}.{10 + number % 89}}}'
            for line in range(4)
        )
        value = (
            f'{{"event_id":"01JD3Q5Z8XK2M4N6P8{number:08d}","integration_id":"{name}","application_id":7,'
            f'"occurred_at":"2026-11-22T10:15:{number % 60:02d}.{number % 1000:03d}Z","customer_session":{{'
            f'"profile_id":"user-{session}","coupon_codes":["SAVE10"],"cart_items":[{items}],'
            f'"additional_costs":{{"shipping":{{"price":4.95}}}}}}}}'
        )
        yield SourceEvent(number, 1_795_341_600_000 + number, name.encode(), value.encode(), ())


def mixed_events(count: int) -> Iterator[SourceEvent]:
    """The stream `worker load` sends, with its errors, retries and spellings."""
    for offset, event in enumerate(islice(generate(sessions=count // 4, seed=1), count)):
        yield SourceEvent(offset, event.timestamp_ms, event.key, event.value, event.headers)


def fold(handler: SessionsHandler, events: Sequence[SourceEvent]) -> dict[bytes, bytes]:
    """The whole handler over all events in batches, rows applied after each as the engine does."""
    rows: dict[bytes, bytes] = {}
    for start in range(0, len(events), BATCH_RECORDS):
        records = events[start : start + BATCH_RECORDS]
        effects = handler(Batch("updates", 0, records[0].offset, records), rows)
        for key, out in effects.rows.items():
            assert out.value is not None
            rows[key] = out.value
    return rows


def decide(updates: Sequence[Update]) -> list[tuple[Session | None, Update, Outcome]]:
    """The rules alone, one partition's claims in a dict."""
    sessions: dict[str, Session] = {}
    owners: dict[str, str] = {}
    limits = Limits()
    decisions = []
    for update in updates:
        stored = sessions.get(update.integration_id)
        outcome = apply(stored, update, limits, owners.get)
        if isinstance(outcome, Accepted):
            sessions[update.integration_id] = outcome.session
            if outcome.claims is not None:
                owners[outcome.claims] = update.integration_id
        decisions.append((stored, update, outcome))
    return decisions


def best(action: Callable[[], object], events: int) -> float:
    """µs per event of the fastest run."""
    fastest = float("inf")
    for _ in range(RUNS):
        gc.collect()
        started = time.thread_time()
        action()
        fastest = min(fastest, time.thread_time() - started)
    return fastest / events * 1e6


def report(name: str, events: Sequence[SourceEvent]) -> None:
    """Prints the stages of one input."""
    count = len(events)
    handler = SessionsHandler(SessionsConfig())
    read = [decode(event.value, event.key, event.timestamp) for event in events]
    updates = [update for update in read if isinstance(update, Update)]
    accepted = [(out, update) for _, update, out in decide(updates) if isinstance(out, Accepted)]
    rows = [row.encode(out.session) for out, _ in accepted]
    size = sum(len(event.value or b"") for event in events) / count
    print(
        f"{name}: {count} events of {size:.0f} bytes, {len(accepted)} accepted, "
        f"rows of {sum(map(len, rows)) / len(rows):.0f}"
    )
    stages: dict[str, Callable[[], object]] = {
        "handler, all of it": lambda: fold(handler, events),
        "  decode the value": lambda: [decode(event.value, event.key, event.timestamp) for event in events],
        "  apply the rules": lambda: decide(updates),
        "  encode the enriched session": lambda: [enriched.encode(out.type, out.session, up) for out, up in accepted],
        "  build its headers": lambda: [enriched.headers(out.type, out.session, up, ()) for out, up in accepted],
        "  encode the row": lambda: [row.encode(out.session) for out, _ in accepted],
        "  decode a row": lambda: [row.decode(one) for one in rows],
    }
    for stage, action in stages.items():
        print(f"{stage:32} {best(action, count):6.2f} µs/event")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    count = parser.parse_args().events
    report("plain", list(plain_events(count)))
    report("mixed", list(mixed_events(count)))


if __name__ == "__main__":
    main()
