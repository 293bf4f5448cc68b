"""The demo's report says so when the topics do not add up."""

from __future__ import annotations

from collections import Counter
from io import StringIO

from rich.console import Console

from worker.load.readout import DeadLetter, Readout
from worker.load.report import Run, show

VALUE = (
    b'{"type":"session_created","revision":1,"event_id":null,"integration_id":"order-1","application_id":7,'
    b'"occurred_at":"2026-11-22T10:15:30.000000Z","customer_session":{"integration_id":"order-1","application_id":7,'
    b'"profile_id":"","coupon_codes":[],"state":"open","cart_items":[],"first_session":true,'
    b'"cart_item_total":12345678901.00000000000000000001,"additional_cost_total":3.5,'
    b'"total":12345678904.50000000000000000001}}'
)
CAMEL_VALUE = (
    b'{"type":"session_closed","revision":2,"eventId":null,"integrationId":"order-2","applicationId":7,'
    b'"occurredAt":"2026-11-22T10:15:30.000000Z","customerSession":{"integrationId":"order-2","applicationId":7,'
    b'"profileId":"p","couponCodes":[],"state":"closed","cartItems":[],"firstSession":false,'
    b'"cartItemTotal":1,"additionalCostTotal":0,"total":1}}'
)


def readout(**outcomes: int) -> Readout:
    return Readout(
        sessions={b"order-1": VALUE, b"order-2": CAMEL_VALUE},
        enriched_records=2,
        dead_letters=[DeadLetter("order-3", "malformed", "no JSON", "")],
        transactions=1,
        outcomes=Counter(outcomes),
        reasons=Counter(malformed=1),
    )


def shown(readout: Readout, sent: int, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width)
    show(console, readout, Run(sent, seconds=2.0, lag=0, application_name=str))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_all_accounted_for() -> None:
    text = shown(readout(accepted=2, rejected=1, duplicate=1), sent=4)
    assert "✓ 4 in = 2 enriched + 1 unchanged or repeated + 1 dead letters" in text
    assert "2 events/s" in text


def test_a_lost_event_is_shown() -> None:
    text = shown(readout(accepted=2, rejected=1), sent=4)
    assert "✗ 4 in" in text
    assert "the ledger counts 3 events" in text


def test_a_missing_enriched_record_is_shown() -> None:
    text = shown(readout(accepted=3, rejected=1), sent=4)
    assert "✗ 4 in" in text
    assert "2 enriched records" in text


def test_sums_have_all_their_digits_in_either_spelling() -> None:
    text = shown(readout(accepted=2, rejected=1), sent=3, width=140)
    assert "12,345,678,905.50000000000000000001" in text
    assert "12,345,678,904.50000000000000000001" in text
    assert "malformed" in text
    assert "the whole record" in text
