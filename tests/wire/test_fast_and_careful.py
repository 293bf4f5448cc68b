"""The fast reader and the careful one give the same answer to every value: valid, invalid, or no JSON at all."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.schemas.updates import updates, written
from tests.wire.damage import damaged
from worker.session.model import Update
from worker.session.rejections import Rejected
from worker.wire import careful, document
from worker.wire import update as wire

NOW_MS: Final = 1_795_342_530_100


def read_carefully(value: bytes, key: bytes | None, *, may_be_negative: bool) -> Update | Rejected:
    try:
        return careful.read(careful.Event(value), value, key, NOW_MS, may_be_negative=may_be_negative)
    except document.Invalid as problem:
        return Rejected(problem.code, problem.message, problem.path)


def check(value: bytes, key: bytes | None = None) -> Update | Rejected:
    """Both readers agree; what they say."""
    for may_be_negative in (True, False):
        fast = wire.decode(value, key, NOW_MS, may_be_negative=may_be_negative)
        assert fast == read_carefully(value, key, may_be_negative=may_be_negative)
    return fast


@settings(max_examples=200, deadline=None)
@given(updates(faults=0))
def test_on_valid_updates_in_any_spelling(update: dict[str, Any]) -> None:
    assert isinstance(check(written(update)), Update)


@settings(max_examples=200, deadline=None)
@given(updates(faults=3), st.sampled_from([None, b"order-1", b"order-2", b""]))
def test_on_faulty_updates(update: dict[str, Any], key: bytes | None) -> None:
    check(written(update), key)


@settings(max_examples=400, deadline=None)
@given(damaged())
def test_on_damaged_text(value: bytes) -> None:
    check(value)


_MEMBERS: Final = [
    *("integration_id", "integrationId", "customer_session", "customerSession", "cart_items", "cartItems", "state"),
    *("name", "sku", "quantity", "price", "weight", "attributes", "adjustment", "additional_costs", "additionalCosts"),
]
_JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=4)
    | st.sampled_from(["open", "9.90", "-0", "order-1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_MEMBERS), inner, max_size=6),
    max_leaves=25,
)


@settings(max_examples=200, deadline=None)
@given(_JSON)
def test_on_any_json(value: Any) -> None:
    check(written(value))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
@example(b"")
@example(b" ")
@example(b"\xef\xbb\xbf{}")
@example("{}".encode("utf-16"))
@example(b'{"integration_id":"o","customer_session":{}}\x00')
def test_on_any_bytes(value: bytes) -> None:
    check(value)


HEAD: Final = b'{"integration_id":"o","application_id":7,"customer_session":'


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (HEAD + b'{"attributes":' + b'{"a":' * 97 + b"1" + b"}" * 97 + b"}}", None),
        (HEAD + b'{"attributes":' + b'{"a":' * 98 + b"[]" + b"}" * 98 + b"}}", "malformed"),
        (HEAD + b'{"unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "malformed"),
        (b"[" * 1_000_000, "malformed"),
        (HEAD + b'{"attributes":{"note":"' + b"[{" * 500 + b'"}}}', None),
        (HEAD + b'{"attributes":{"n":' + b"9" * 1_000_000 + b"}}}", "schema_invalid"),
        (HEAD + b'{"unknown":' + b"9" * 1_000_000 + b"}}", None),
        (
            HEAD + b'{"cart_items":[{"name":"a","sku":"b","quantity":' + b"9" * 5000 + b',"price":1}]}}',
            "schema_invalid",
        ),
        (HEAD + b'{"cart_items":[{"name":"a","sku":"b","quantity":1,"price":1e-999999999}]}}', "schema_invalid"),
        (HEAD + b'{"cart_items":[{"name":"a","sku":"b","quantity":1,"price":0e999999999}]}}', None),
        (b'{"integration_id":"o","customer_session":{},"sequence":1' + b"0" * 5000 + b"}", "schema_invalid"),
    ],
    ids=[
        *("100 levels", "101 levels", "deep where unknown", "brackets alone", "brackets in text", "long integer"),
        *("long unknown integer", "long quantity", "tiny exponent", "huge exponent of zero", "long sequence"),
    ],
)
def test_on_hostile_sizes(value: bytes, code: str | None) -> None:
    answer = check(value)
    assert (answer.code if isinstance(answer, Rejected) else None) == code


def test_what_most_producers_send_takes_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The careful reader is not needed for tidy events, nor for untidy members around tidy items."""

    def fail(*_: object, **__: object) -> Update:
        raise AssertionError("read field by field")

    monkeypatch.setattr(careful, "read", fail)
    items = b'[{"name":"a","sku":"b","quantity":1,"price":9.90,"weight":1.5,"attributes":{"n":1.5}}]'
    for value in (
        HEAD + b'{"cart_items":' + items + b',"additional_costs":{"s":{"price":"4.50"}}}}',
        b'{"integrationId":"o","customerSession":{"cartItems":' + items + b',"profileId":null}}',
        b'{"integrationId":"o","customer_session":{"cartItems":' + items + b',"total":5,"profile_id":"p"}}',
    ):
        assert isinstance(wire.decode(value, b"o", NOW_MS), Update)
