"""A small stream that makes the worker say everything it can say: every event type, every reason to refuse.

Told on one partition without a broker. Nothing in it is random or reads a clock, so its bytes can be pinned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from tests.partition import LonePartition
from worker.agents.sessions import SessionsConfig
from worker.engine.batch import OutRecord
from worker.wire.spelling import OutputCase

TOPIC: Final = "sessions.updates.v1"
PARTITION: Final = 3
START_MS: Final = 1_795_342_530_123
"""2026-11-22T10:15:30.123Z, the first record's timestamp; each later one is a millisecond after."""

WORKER_VERSION: Final = "1.2.3"
"""Of the worker in the story, so that a release changes none of its bytes."""

TRACE: Final = [
    ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("tracestate", b"vendor=t61rcWkgMzE"),
]

RICH_CART: Final = r"""[
    {"name": "Mug \"Blau\" \u00fc/\u2028", "sku": "MUG-1", "quantity": 2, "price": "3.70", "category": "kitchen",
     "weight": 0.350, "height": -1e1, "width": 9, "length": "8.0", "position": 9,
     "attributes": {"z": [1.50, null, true], "a": {"max": 18446744073709551615, "tiny": 1e-20}},
     "adjustment": {"referenceId": "spring", "share": -0.0}},
    {"name": "Mug", "sku": "MUG-1", "quantity": 1, "price": 6.50, "colour": "red"}]"""


class Source(NamedTuple):
    """An input record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def _event(integration_id: str, body: str, more: str = "") -> str:
    return f'{{"integration_id": "{integration_id}", {more}"customer_session": {body}}}'


def _all() -> Iterable[tuple[str | None, str | None, Sequence[tuple[str, bytes]]]]:
    """(key, value, headers) of every record."""
    # One session from creation to revocation, then what it refuses at each stage of its life.
    rich = (
        '{"profile_id": "user_42", "coupon_codes": ["B", "", "a", "B"], "referral_code": "FRIEND-7", "state": "open",'
        f' "cart_items": {RICH_CART}, "identifiers": ["+49 30 1"], "attributes": {{"b": 1, "a": null, "É": {{}}}},'
        ' "additional_costs": {"shipping": {"price": 5}, "fees/a~b": {"price": "3.5"}}, "total": 1}'
    )
    envelope = '"event_id": "e-1", "application_id": 7, "occurred_at": "2026-11-22T12:15:30.1234567+02:00", '
    created = _event("order-1", rich, envelope + '"sequence": 1, ')
    yield "order-1", created, [("producer", b"shop"), *TRACE]
    yield "order-1", created, []  # a duplicate
    camel = '"applicationId": 7, "occurredAt": "2026-11-22T10:16:00Z", "customerSession": {"couponCodes": []}'
    yield "order-1", f'{{"integrationId": "order-1", "eventId": "e-2", {camel}}}', []
    yield "order-1", _event("order-1", "{}"), []  # unchanged
    yield "order-1", _event("order-1", "{}", '"event_id": "e-1", '), [("producer", b"shop")]  # event_id_conflict
    yield "order-1", _event("order-1", "{}", '"sequence": 1, '), []  # stale
    yield "order-1", _event("order-1", "{}", '"application_id": 8, '), []  # application_mismatch
    yield None, _event("order-1", '{"cart_items": [{"name": "Mug", "quantity": 1}]}'), TRACE  # schema_invalid
    yield "order-1", f'{{"integrationId": "order-1", "customerSession": {{"couponCodes": ["{"x" * 101}"]}}}}', []
    yield "order-1", _event("order-1", '{"state": "closed"}', '"event_id": "e-3", "sequence": 7, '), TRACE[:1]
    yield "order-1", _event("order-1", '{"state": "open"}'), []  # invalid_transition
    yield "order-1", _event("order-1", '{"referral_code": ""}'), []  # session_closed
    yield "order-1", _event("order-1", '{"state": "cancelled"}', '"event_id": "e-4", '), []
    yield "order-1", _event("order-1", '{"attributes": {"c": 1}}'), []  # session_cancelled
    # The least a session can be, and one whose profile is taken.
    yield "bestellung-ß", _event("bestellung-ß", "{}", '"application_id": -9223372036854775808, '), []
    yield "bestellung-ß", _event("bestellung-ß", '{"state": "cancelled"}'), []
    yield None, _event("order-2", '{"profile_id": "user_42"}', '"application_id": 0, '), []
    # No session of theirs.
    yield "order-9", _event("order-9", '{"state": "closed"}', '"application_id": 7, '), []  # must_start_open
    yield "order-9", "[1]", [("producer", b"\xff not text"), ("producer", b"again")]  # malformed
    yield None, None, []  # a tombstone, malformed as well


SOURCES: Final = [
    Source(
        offset=100 + number,
        timestamp=START_MS + number,
        key=None if key is None else key.encode(),
        value=None if value is None else value.encode(),
        headers=headers,
    )
    for number, (key, value, headers) in enumerate(_all())
]


class Told(NamedTuple):
    """What came of the story."""

    enriched: list[OutRecord]
    dead_letters: list[OutRecord]
    ledger: list[OutRecord]
    rows: dict[bytes, bytes]


def tell(case: OutputCase = "snake", batch_size: int = len(SOURCES)) -> Told:
    """Plays the story in batches of that many records. Enriched records session by session, in the order of the
    sessions' first: across sessions their order depends on when answers come."""
    config = SessionsConfig(output_case=case, worker_version=WORKER_VERSION)
    partition = LonePartition(config, TOPIC, PARTITION)
    told = Told([], [], [], partition.rows)
    for start in range(0, len(SOURCES), batch_size):
        records = SOURCES[start : start + batch_size]
        effects = partition.take(records[0].offset, records)
        told.enriched.extend(effects.sends.get(config.enriched_topic, []))
        told.dead_letters.extend(effects.sends.get(config.dead_letters_topic, []))
        told.ledger.extend(effects.sends[config.ledger_topic])
    sessions = [b"order-1", "bestellung-ß".encode(), b"order-2"]
    told.enriched.sort(key=lambda record: sessions.index(record.key or b""))
    return told
