"""What the rules and codecs cost: µs per event, stage by stage, on one thread without Kafka.

    python -m benchmarks.rules [--events N]

Two inputs: the synthetic stream of session semantics, section 8, as `worker load` sends it; and the plain event the
budget is written for (500 bytes, 4 items; 15 µs for the handler as a whole). Each figure is the best of RUNS: on a
shared machine the best run is the one least disturbed. The collector is off, as the worker runs it between batches.
The handler takes longer than its stages together: it keeps what they throw away, and more than the cache holds.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from tests.partition import LonePartition
from worker.agents.sessions import SessionsConfig, SessionsHandler
from worker.engine.batch import Batch
from worker.load.generator import generate
from worker.session.apply import Accepted, Outcome, apply
from worker.session.model import Limits, Session, Update
from worker.wire import enriched, row
from worker.wire.update import decode

BATCH_RECORDS = 2000
RUNS = 30
LIMITS = Limits()


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


def fold(events: Sequence[SourceEvent]) -> dict[bytes, bytes]:
    """The rows after all events, in batches, every claim answered after each."""
    partition = LonePartition(SessionsConfig(), "updates", 0)
    for start in range(0, len(events), BATCH_RECORDS):
        records = events[start : start + BATCH_RECORDS]
        partition.take(records[0].offset, records)
    return partition.rows


def decide(
    events: Sequence[SourceEvent], rows: Mapping[bytes, bytes]
) -> Iterator[tuple[Session | None, Update, Outcome]]:
    """What the rules are asked, and what they say, for events upon stored rows."""
    for event in events:
        update = decode(event.value, event.key, event.timestamp)
        if isinstance(update, Update):
            stored = rows.get(update.integration_id.encode())
            session = None if stored is None else row.decode(stored)
            yield session, update, apply(session, update, LIMITS)


def spend(results: Iterable[object]) -> None:
    """Makes the results and keeps none."""
    deque(results, maxlen=0)


def best(action: Callable[[], object], events: int) -> float:
    """µs of CPU time per event of the fastest run."""
    fastest = float("inf")
    for _ in range(RUNS):
        gc.collect()
        started = time.thread_time()
        action()
        fastest = min(fastest, time.thread_time() - started)
    return fastest / events * 1e6


def report(name: str, events: Sequence[SourceEvent]) -> None:
    """Prints the stages of one input: its last batch, upon the rows of all before."""
    handler = SessionsHandler(SessionsConfig())
    before, last = events[:-BATCH_RECORDS], events[-BATCH_RECORDS:]
    rows = fold(before)
    batch = Batch("updates", 0, last[0].offset, last)
    asked = list(decide(last, rows))
    accepted = [(outcome, update) for _, update, outcome in asked if isinstance(outcome, Accepted)]
    written = [row.encode(outcome.session) for outcome, _ in accepted]
    sizes = sum(len(event.value or b"") for event in last) / len(last), sum(map(len, written)) / len(written)
    print(f"{name}: events of {sizes[0]:.0f} bytes, rows of {sizes[1]:.0f}, {len(accepted) / len(last):.0%} accepted")
    stages: dict[str, Callable[[], object]] = {
        "the handler as a whole": lambda: handler(batch, rows),
        "  decode the value": lambda: spend(decode(event.value, event.key, event.timestamp) for event in last),
        "  decode the row": lambda: spend(row.decode(one) for one in written),
        "  apply the rules": lambda: spend(apply(session, update, LIMITS) for session, update, _ in asked),
        "  encode the enriched session": lambda: spend(enriched.encode(o.type, o.session, up) for o, up in accepted),
        "  build its headers": lambda: spend(enriched.headers(o.type, o.session, up, ()) for o, up in accepted),
        "  encode the row": lambda: spend(row.encode(outcome.session) for outcome, _ in accepted),
    }
    for stage, action in stages.items():
        print(f"{stage:32} {best(action, len(last)):6.2f} µs/event")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    count = parser.parse_args().events
    gc.disable()
    report("plain", list(plain_events(count)))
    report("mixed", list(mixed_events(count)))


if __name__ == "__main__":
    main()
