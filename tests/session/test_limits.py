"""Limits at their border and one over it, by default and as set (session semantics, section 3)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.session.play import ENRICHED, PARTITION, SESSION, TOPIC, Number, Play, Reply, Source, event, item, written
from worker.agents.sessions import SessionsConfig, SessionsHandler
from worker.app import sessions_config
from worker.engine.batch import Batch, OutRecord
from worker.session.model import Limits
from worker.settings import Settings


def cart(quantities: list[int]) -> dict[str, Any]:
    return {"cart_items": [item("1", quantity) for quantity in quantities]}


def over(name: str, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Envelope members and body of an event that has `size` of what the limit called `name` counts."""
    long = "é" * size  # characters count, not bytes
    match name:
        case "integration_id_length":
            return {"integration_id": long}, {}
        case "profile_id":
            return {}, {"profile_id": long}
        case "event_id_length":
            return {"event_id": long}, {}
        case "coupon_code_length":
            return {}, {"coupon_codes": ["A", long]}
        case "referral_code_length":
            return {}, {"referral_code": long}
        case "cart_items":
            return {}, cart([1] * size)
        case "cart_quantity":
            return {}, cart([size - 1, 1])
        case "identifiers":
            return {}, {"identifiers": ["x"] * size}
        case _:
            raise AssertionError(name)


POINTERS: Final = {
    "integration_id_length": ("/integration_id", "integration_id must have at most {} characters"),
    "profile_id": ("/customer_session/profile_id", "profile_id must have at most {} characters"),
    "event_id_length": ("/event_id", "event_id must have at most {} characters"),
    "coupon_code_length": ("/customer_session/coupon_codes/1", "coupon_codes must have at most {} characters"),
    "referral_code_length": ("/customer_session/referral_code", "referral_code must have at most {} characters"),
    "cart_items": ("/customer_session/cart_items", "cart_items must have at most {} entries, not {}"),
    "cart_quantity": ("/customer_session/cart_items", "the quantities of cart_items must add up to at most {}, not {}"),
    "identifiers": ("/customer_session/identifiers", "identifiers must have at most {} entries, not {}"),
}

DEFAULTS: Final = {
    "integration_id_length": 1000,
    "profile_id": 1000,
    "event_id_length": 255,
    "coupon_code_length": 100,
    "referral_code_length": 100,
    "cart_items": 1000,
    "cart_quantity": 10_000,
    "identifiers": 5,
}
"""profile_id has the limit of integration_id: it is the same kind of name."""


def played(limits: Limits | None, name: str, size: int) -> tuple[Play, Reply]:
    play = Play(limits)
    envelope, body = over(name, size)
    return play, play.send(body, **envelope)


@pytest.mark.parametrize(("name", "limit"), DEFAULTS.items())
def test_at_the_limit_is_fine_and_one_over_it_is_refused(name: str, limit: int) -> None:
    assert played(None, name, limit)[1].verdict == "session_created"
    play, refused = played(None, name, limit + 1)
    pointer, message = POINTERS[name]
    assert (refused.verdict, refused.reason["pointer"]) == ("limit_exceeded", pointer)
    assert refused.reason["message"] == message.format(limit, limit + 1)
    assert play.rows == {}


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("limit", [7, 1200])
def test_every_limit_is_a_setting(name: str, limit: int) -> None:
    field = "integration_id_length" if name == "profile_id" else name
    set_to: dict[str, Any] = {"cart_items": 2000} | {field: limit}
    limits = Limits(**set_to)  # a cart has room for the quantities
    assert played(limits, name, limit)[1].verdict == "session_created"
    assert played(limits, name, limit + 1)[1].verdict == "limit_exceeded"


SETTINGS: Final[dict[str, tuple[str, Any]]] = {
    "max_integration_id_length": ("integration_id_length", 11),
    "max_event_id_length": ("event_id_length", 12),
    "max_coupon_code_length": ("coupon_code_length", 13),
    "max_referral_code_length": ("referral_code_length", 14),
    "max_cart_items": ("cart_items", 15),
    "max_cart_quantity": ("cart_quantity", 16),
    "max_identifiers": ("identifiers", 17),
    "duplicate_window": ("duplicate_window", 18),
    "allow_negative_prices": ("allow_negative_prices", True),
}


@pytest.mark.usefixtures("no_settings")
def test_the_workers_settings_are_the_limits_of_the_rules() -> None:
    set_to = {name: value for name, (_, value) in SETTINGS.items()}
    expected = Limits(**dict(SETTINGS.values()))
    assert sessions_config(Settings(**set_to)).limits == expected
    assert len(SETTINGS) == len(Limits.__struct_fields__), "every limit has a setting"
    assert sessions_config(Settings()).limits == Limits(), "and the same default"


@pytest.mark.parametrize("price", ["-0.01", '"-5"', "-1e3"])
@pytest.mark.parametrize("place", ["cart_items", "additional_costs"])
def test_negative_prices_are_refused_unless_allowed(price: str, place: str) -> None:
    body = {"cart_items": [item(price)]} if place == "cart_items" else {place: {"a": {"price": Number(price)}}}
    refused = Play().send(body)
    assert refused.verdict == "schema_invalid"
    assert refused.reason["pointer"].endswith("/price")
    assert Play(Limits(allow_negative_prices=True)).send(body).verdict == "session_created"


def test_limits_hold_for_updates_of_existing_sessions_too() -> None:
    play = Play()
    play.send()
    before = play.row()
    assert play.send({"identifiers": ["x"] * 6, "state": "closed"}).verdict == "limit_exceeded"
    assert play.row() == before


def test_a_session_stored_under_a_wider_limit_goes_on_under_a_narrower_one() -> None:
    wide, narrow = Play(Limits(identifiers=9)), Play()
    wide.send({"identifiers": ["x"] * 9})
    narrow.rows.update(wide.rows)
    assert narrow.send({"state": "closed"}).entity["identifiers"] == ["x"] * 9


SLACK: Final = 512
"""Beside key, value and headers, a record takes this much of max_record_bytes."""


def size_of_outputs(body: dict[str, Any]) -> tuple[int, int]:
    """Bytes of the enriched record and of the row that creating a session with this body makes."""
    effects = SessionsHandler(SessionsConfig())(Batch(TOPIC, PARTITION, 0, [Source(0, written(event(body)), None)]), {})
    [out] = effects.sends[ENRICHED]
    row = effects.rows[SESSION.encode()]
    headers = sum(len(name) + len(text) for name, text in out.headers)
    # first_session counts as "false", which it may turn out to be for a session that is bound to a profile.
    return record_size(out) + headers + len("false") - len("true"), record_size(row)


def record_size(record: OutRecord) -> int:
    return len(record.key or b"") + len(record.value or b"") + SLACK


def test_an_update_whose_output_would_not_fit_the_topic_is_refused() -> None:
    body = {"attributes": {"a": "x" * 5000}}
    enriched, row = size_of_outputs(body)
    assert enriched > row
    assert Play(max_record_bytes=enriched).send(body).verdict == "session_created"
    play = Play(max_record_bytes=enriched - 1)
    refused = play.send(body)
    assert (refused.verdict, refused.reason["pointer"], refused.reason["state"]) == ("limit_exceeded", "", "")
    assert play.rows == {}
    assert play.send().verdict == "session_created"


def test_an_update_whose_row_would_not_fit_is_refused_whether_it_changes_content_or_not() -> None:
    event_ids = [f"{number:0200}" for number in range(20)]
    free = Play()
    for event_id in event_ids:
        free.send(event_id=event_id)
    needed = len(SESSION) + len(free.rows[SESSION.encode()]) + SLACK

    fits, tight = Play(max_record_bytes=needed), Play(max_record_bytes=needed - 1)
    expected = ["accepted"] + ["unchanged"] * 19
    assert [fits.send(event_id=event_id).outcome for event_id in event_ids] == expected
    assert [tight.send(event_id=event_id).outcome for event_id in event_ids[:-1]] == expected[:-1]
    before = tight.row()
    assert tight.send(event_id=event_ids[-1]).verdict == "limit_exceeded"
    assert tight.send({"state": "closed"}, event_id=event_ids[-1]).verdict == "limit_exceeded"
    assert tight.row() == before, "nothing of the refused ones is remembered"
    assert tight.send({"state": "closed"}).verdict == "session_closed", "an event without event_id still fits"


def test_a_record_too_large_claims_no_profile() -> None:
    play = Play(max_record_bytes=2000)
    assert play.send({"profile_id": "P", "attributes": {"a": "x" * 2000}}).verdict == "limit_exceeded"
    assert play.send({"profile_id": "P"}, integration_id="order-2").entity["first_session"] is True
