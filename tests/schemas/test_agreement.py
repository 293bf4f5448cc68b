"""The schema of updates and the decoder give the same verdict, wherever a schema can say the rule.

What it cannot say is listed in BEYOND_SCHEMA, each with a case that the schema lets pass and the decoder
refuses; `schemas/README.md` tells users the same list.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import assume, event, given, settings
from jsonschema_rs import Draft202012Validator, ValidationError

from tests.schemas import documents
from tests.schemas.updates import updates, written
from worker.session import limits
from worker.session.model import Limits
from worker.session.rejections import Rejected
from worker.wire import update as wire

NOW_MS = 1_795_342_530_100
VALIDATOR = Draft202012Validator(documents.schema(documents.UPDATE), validate_formats=True)


def verdict_of_the_decoder(value: bytes, key: bytes | None = None) -> str:
    """fine, or the code of the rejection: decode and limits, that is all that needs no stored session."""
    update = wire.decode(value, key, NOW_MS)
    refusal = update if isinstance(update, Rejected) else limits.check(update, Limits())
    return "fine" if refusal is None else refusal.code


def verdict_of_the_schema(value: bytes) -> str:
    """fine, limit_exceeded when only limits are broken, else schema_invalid."""
    errors = list(VALIDATOR.iter_errors(json.loads(value, parse_float=Decimal)))
    if not errors:
        return "fine"
    return "limit_exceeded" if all(map(is_a_limit, errors)) else "schema_invalid"


def is_a_limit(error: ValidationError) -> bool:
    keyword = error.schema_path[-1]
    return keyword in ("maxLength", "maxItems") or (keyword == "maximum" and error.instance_path[-1] == "quantity")


def quantities(update: dict[str, Any]) -> list[int]:
    body = update.get("customer_session", update.get("customerSession"))
    items = body.get("cart_items", body.get("cartItems")) if isinstance(body, dict) else None
    found = [item.get("quantity") for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return [each for each in found if type(each) is int]


@settings(max_examples=400, deadline=None)
@given(updates(faults=0))
def test_an_update_made_to_the_schema_is_fine_for_both(update: dict[str, Any]) -> None:
    value = written(update)
    assert (verdict_of_the_schema(value), verdict_of_the_decoder(value)) == ("fine", "fine")


@settings(max_examples=1500, deadline=None)
@given(updates(faults=2))
def test_schema_and_decoder_agree_on_every_update(update: dict[str, Any]) -> None:
    # Two of the rules beyond the schema can be met here by chance.
    assume(sum(quantities(update)) <= 10_000 or max(quantities(update)) > 10_000)
    assume(all(quantity < 2**63 for quantity in quantities(update)))
    value = written(update)
    verdict = verdict_of_the_schema(value)
    event(verdict)
    assert verdict_of_the_decoder(value) == verdict


class Beyond(NamedTuple):
    """A rule the schema cannot say: why, an update (and key) that breaks it, and the code it gets."""

    why: str
    value: str
    code: str
    key: bytes | None = None


def _update(body: str = "{}", application_id: str = "7", more: str = "") -> str:
    return f'{{"integration_id": "o", "application_id": {application_id}, {more} "customer_session": {body}}}'


def _cart(*items: tuple[str, str]) -> str:
    texts = (f'{{"name": "a", "sku": "b", "quantity": {quantity}, "price": {price}}}' for quantity, price in items)
    return _update(f'{{"cart_items": [{", ".join(texts)}]}}')


_INTEGERS: Final = "2.0 and 1e1 are integers in JSON Schema"
_DIGITS: Final = "the digits of a number cannot be counted"
_SPELLINGS: Final = "two members cannot be compared"
BEYOND_SCHEMA: Final = {
    "quantity with a point": Beyond(_INTEGERS, _cart(("2.0", "1")), "schema_invalid"),
    "application_id with an exponent": Beyond(_INTEGERS, _update(application_id="1e1"), "schema_invalid"),
    "sequence with a point": Beyond(_INTEGERS, _update(more='"sequence": 1.0,'), "schema_invalid"),
    "fractional digits": Beyond(_DIGITS, _cart(("1", "0.000000000000000000001")), "schema_invalid"),
    "digits of a quoted number with exponent": Beyond(_DIGITS, _cart(("1", '"1e15"')), "schema_invalid"),
    "sum of quantities": Beyond("sums cannot be said", _cart(("9999", "1"), ("2", "1")), "limit_exceeded"),
    "both spellings": Beyond(_SPELLINGS, _update('{"coupon_codes": ["A"], "couponCodes": []}'), "malformed"),
    "null in one spelling": Beyond(_SPELLINGS, _update('{"coupon_codes": ["A"], "couponCodes": null}'), "malformed"),
    "record key": Beyond("the key is not in the value", _update(), "malformed", key=b"another"),
    "year 0": Beyond("0000 is a year", _update(more='"occurred_at": "0000-01-01T00:00:00Z",'), "schema_invalid"),
    "depth": Beyond(
        "depth cannot be counted", _update(f'{{"attributes": {{"a": {"[" * 98 + "]" * 98}}}}}'), "malformed"
    ),
}


@pytest.mark.parametrize("rule", BEYOND_SCHEMA)
def test_what_a_schema_cannot_say_the_decoder_refuses(rule: str) -> None:
    case = BEYOND_SCHEMA[rule]
    value = case.value.encode()
    assert verdict_of_the_schema(value) == "fine"
    assert verdict_of_the_decoder(value, case.key) == case.code


def test_users_are_told_what_the_schema_cannot_say() -> None:
    told = (documents.DIRECTORY / "README.md").read_text("utf-8")
    assert [rule for rule in BEYOND_SCHEMA if rule not in told] == []
