"""The judge finds what is wrong: a good record passes, and each small damage to it does not."""

from __future__ import annotations

import pytest

from tests.schemas import judge
from tests.schemas.judge import NotAsDeclared

KEY = b"order-1"
VALUE = (
    b'{"type":"session_created","revision":1,"event_id":null,"integration_id":"order-1","application_id":7,'
    b'"occurred_at":"2026-11-22T10:15:30.100000Z","customer_session":{"integration_id":"order-1",'
    b'"created":"2026-11-22T10:15:30.100000Z","application_id":7,"profile_id":"","coupon_codes":["A"],'
    b'"referral_code":"","state":"open","cart_items":[{"name":"Hook","sku":"H","quantity":6,"price":1.85,'
    b'"position":0},{"name":"Hook","sku":"H","quantity":6,"price":1.85,"position":1}],'
    b'"additional_costs":{"fee":{"price":0.1}},"identifiers":[],"attributes":{"n":null},"first_session":true,'
    b'"cart_item_total":22.2,"additional_cost_total":0.1,"total":22.3}}'
)
HEADERS = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"order-1/1"),
    ("ce_type", b"session_created"),
    ("ce_source", b"/session-worker/7"),
    ("ce_time", b"2026-11-22T10:15:30.100000Z"),
    ("content-type", b"application/json"),
    ("traceparent", b"\xff not text"),
    ("traceparent", b"twice"),
]
REASON = [
    ("dead_letter.code", b"stale"),
    ("dead_letter.message", b"sequence 3 is not after 4, the last one applied"),
    ("dead_letter.pointer", b"/sequence"),
    ("dead_letter.state", b"open"),
    ("dead_letter.topic", b"sessions.updates.v1"),
    ("dead_letter.partition", b"2"),
    ("dead_letter.offset", b"17"),
    ("dead_letter.timestamp", b"1795342530100"),
    ("dead_letter.worker_version", b"0.1.0"),
]
ORIGINAL = [("dead_letter.code", b"of an earlier refusal"), ("traceparent", b"\xff")]
LEDGER = (
    b'{"topic":"sessions.updates.v1","partition":2,"first_offset":10,"last_offset":19,"records":9,'
    b'"outcomes":{"accepted":6,"unchanged":1,"duplicate":1,"rejected":1},"reasons":{"stale":1},"ignored_fields":0,"enriched":6}'
)


def test_good_records_pass() -> None:
    assert judge.check_enriched(VALUE, HEADERS, KEY)["revision"] == 1
    assert judge.check_dead_letter([*ORIGINAL, *REASON], ORIGINAL)["dead_letter.code"] == "stale"
    assert judge.check_ledger(LEDGER)["records"] == 9


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"revision":1,', ""),
        ('"revision":1,', '"revision":0,'),
        ('"revision":1,', '"revision":1,"extra":1,'),
        ('"revision":1,', '"revision":1,"revision":1,'),
        ('"revision":1,', '"revision":2,'),
        ('"type":"session_created"', '"type":"session_opened"'),
        ('"type":"session_created"', '"type":"session_updated"'),
        ('"occurred_at":"2026-11-22T10:15:30.100000Z"', '"occurred_at":"2026-11-22T10:15:30.1Z"'),
        ('"created":"2026-11-22T10:15:30.100000Z"', '"created":"2026-02-30T10:15:30.100000Z"'),
        ('_session":{"integration_id":"order-1"', '_session":{"integration_id":"order-2"'),
        ('"cart_item_total":22.2,', '"cart_item_total":22.20,'),
        ('"cart_item_total":22.2,', '"cart_item_total":22.200000000000003,'),
        ('"cart_item_total":22.2,', '"cart_item_total":2.22e1,'),
        ('"cart_item_total":22.2,', '"cart_item_total":"22.2",'),
        ('"total":22.3', '"total":22.2'),
        ('"position":1', '"position":0'),
        ('"position":1', '"position":1,"category":null'),
        ('"coupon_codes":["A"]', '"coupon_codes":["A",""]'),
        ('"attributes":{"n":null}', '"attributes":{"n":-0}'),
        ('"attributes":{"n":null}', '"attributes":{"n":NaN}'),
        ('"first_session":true', '"first_session":null'),
        ('"state":"open"', '"state":"paid"'),
        ('"cart_items"', '"cartItems"'),
    ],
)
def test_a_damaged_enriched_value_is_found(good: str, bad: str) -> None:
    damaged = VALUE.decode().replace(good, bad, 1)
    assert damaged.encode() != VALUE
    with pytest.raises(NotAsDeclared):
        judge.check_enriched(damaged.encode(), HEADERS, KEY)


@pytest.mark.parametrize("position", range(6))
def test_a_missing_or_wrong_enriched_header_is_found(position: int) -> None:
    without = HEADERS[:position] + HEADERS[position + 1 :]
    name, text = HEADERS[position]
    for damaged in (without, [*without, (name, text + b"x")], [*HEADERS, (name, text)]):
        with pytest.raises(NotAsDeclared):
            judge.check_enriched(VALUE, damaged, KEY)


def test_another_key_or_an_unknown_header_is_found() -> None:
    with pytest.raises(NotAsDeclared):
        judge.check_enriched(VALUE, HEADERS, b"order-2")
    with pytest.raises(NotAsDeclared):
        judge.check_enriched(VALUE, [*HEADERS, ("ce_subject", b"order-1")], KEY)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("code", b"unknown"),
        ("message", b""),
        ("pointer", b"sequence"),
        ("state", b"paid"),
        ("topic", b""),
        ("partition", b"two"),
        ("offset", b"-1"),
        ("timestamp", b"1795342530.1"),
        ("worker_version", b""),
    ],
)
def test_a_wrong_or_missing_dead_letter_header_is_found(name: str, text: bytes) -> None:
    wrong = [(header, text if header == f"dead_letter.{name}" else good) for header, good in REASON]
    missing = [(header, good) for header, good in REASON if header != f"dead_letter.{name}"]
    for damaged in (wrong, missing):
        with pytest.raises(NotAsDeclared):
            judge.check_dead_letter([*ORIGINAL, *damaged], ORIGINAL)


def test_a_dead_letter_that_lost_a_header_of_its_own_is_found() -> None:
    with pytest.raises(NotAsDeclared):
        judge.check_dead_letter([*ORIGINAL[1:], *REASON], ORIGINAL)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"records":9', '"records":10'),
        ('"records":9', '"records":9.0'),
        ('"unchanged":1,', ""),
        ('"stale":1', '"stale":2'),
        ('"stale":1', '"stale":1,"malformed":0'),
        ('"stale":1', '"late":1'),
        ('"last_offset":19', '"last_offset":17'),
        ('"ignored_fields":0', '"ignored_fields":-1'),
        ('"partition":2', '"partition":"2"'),
    ],
)
def test_a_damaged_ledger_record_is_found(good: str, bad: str) -> None:
    damaged = LEDGER.decode().replace(good, bad, 1)
    assert damaged.encode() != LEDGER
    with pytest.raises(NotAsDeclared):
        judge.check_ledger(damaged.encode())
