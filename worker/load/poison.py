"""Every kind of broken update a stream may hold, by name.

Three tables, one per way to be broken: MALFORMED (not an update at all), INVALID (an update against the
schema) and OVER_LIMITS (a good update, but too much of something). Each entry makes one record for a
session id; all of them are to be refused whatever the session holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

_ITEM: Final = '{"name":"lantern","sku":"SKU-1","quantity":1,"price":9.99}'


class Poison(NamedTuple):
    """Key and value of one broken record."""

    key: bytes | None
    value: bytes | None


Entry = Callable[[str], Poison]


def _update(integration_id: str, body: str = '{"state":"open"}', envelope: str = "") -> bytes:
    """An update of that session as JSON text; `envelope` is more text for its envelope, with a leading comma."""
    return (f'{{"integration_id":"{integration_id}","application_id":1{envelope},"customer_session":{body}}}').encode()


def _raw(value: bytes | None) -> Entry:
    return lambda integration_id: Poison(integration_id.encode(), value)


def _body(body: str) -> Entry:
    return lambda integration_id: Poison(integration_id.encode(), _update(integration_id, body))


def _item(item: str) -> Entry:
    return _body(f'{{"cart_items":[{_ITEM},{item}]}}')


def _envelope(envelope: str) -> Entry:
    return lambda integration_id: Poison(integration_id.encode(), _update(integration_id, envelope=envelope))


def _keyed(key: bytes) -> Entry:
    return lambda integration_id: Poison(key, _update(integration_id))


def _edited(edit: Callable[[bytes], bytes]) -> Entry:
    return lambda integration_id: Poison(integration_id.encode(), edit(_update(integration_id)))


def _long_id(integration_id: str) -> Poison:
    longer = integration_id.ljust(1_001, "x")
    return Poison(longer.encode(), _update(longer))


MALFORMED: Final[Mapping[str, Entry]] = {
    "tombstone": _raw(None),
    "empty": _raw(b""),
    "blank": _raw(b" \n"),
    "text": _raw(b"order placed"),
    "binary": _raw(bytes(range(256))),
    "array": _raw(b"[]"),
    "string": _raw(b'"open"'),
    "number": _raw(b"42"),
    "null": _raw(b"null"),
    "invalid_utf8": _edited(lambda value: value.replace(b"open", b"op\xff\xfen")),
    "byte_order_mark": _edited(lambda value: b"\xef\xbb\xbf" + value),
    "truncated": _edited(lambda value: value[:-9]),
    "two_documents": _edited(lambda value: value + value),
    "single_quotes": _edited(lambda value: value.replace(b'"', b"'")),
    "trailing_comma": _edited(lambda value: value[:-1] + b",}"),
    "nan": _item('{"name":"cup","sku":"SKU-2","quantity":1,"price":NaN}'),
    "infinity": _item('{"name":"cup","sku":"SKU-2","quantity":1,"price":-Infinity}'),
    "leading_zeros": _item('{"name":"cup","sku":"SKU-2","quantity":1,"price":009.99}'),
    "two_spellings": _body('{"cart_items":[],"cartItems":[' + _ITEM + "]}"),
    "too_deep": _body('{"attributes":{"a":' + "[" * 20_000 + "]" * 20_000 + "}}"),
    "key_of_another_session": _keyed(b"order-of-somebody-else"),
    "key_not_utf8": _keyed(b"\xff\xfe\xfd"),
    "key_reserved_by_the_worker": _keyed(b"\xff\x00position"),
    "no_key_no_sense": lambda integration_id: Poison(None, b"{}}"),
}
"""Refused as `malformed`, or for `too_deep` perhaps otherwise: never a crash."""

INVALID: Final[Mapping[str, Entry]] = {
    "item_quantity_zero": _item('{"name":"cup","sku":"SKU-2","quantity":0,"price":1}'),
    "item_quantity_negative": _item('{"name":"cup","sku":"SKU-2","quantity":-1,"price":1}'),
    "item_quantity_with_point": _item('{"name":"cup","sku":"SKU-2","quantity":2.0,"price":1}'),
    "item_quantity_true": _item('{"name":"cup","sku":"SKU-2","quantity":true,"price":1}'),
    "item_without_name": _item('{"sku":"SKU-2","quantity":1,"price":1}'),
    "item_with_empty_name": _item('{"name":"","sku":"SKU-2","quantity":1,"price":1}'),
    "item_with_empty_sku": _item('{"name":"cup","sku":"","quantity":1,"price":1}'),
    "item_without_price": _item('{"name":"cup","sku":"SKU-2","quantity":1}'),
    "item_price_null": _item('{"name":"cup","sku":"SKU-2","quantity":1,"price":null}'),
    "item_price_negative": _item('{"name":"cup","sku":"SKU-2","quantity":1,"price":-1}'),
    "item_price_true": _item('{"name":"cup","sku":"SKU-2","quantity":1,"price":true}'),
    "item_price_words": _item('{"name":"cup","sku":"SKU-2","quantity":1,"price":"free"}'),
    "item_price_16_integer_digits": _item('{"name":"cup","sku":"SKU-2","quantity":1,"price":1234567890123456}'),
    "item_price_21_fractional_digits": _item(
        '{"name":"cup","sku":"SKU-2","quantity":1,"price":0.123456789012345678901}'
    ),
    "item_price_huge_exponent": _item('{"name":"cup","sku":"SKU-2","quantity":1,"price":1e999999}'),
    "item_price_6000_digits": _item('{"name":"cup","sku":"SKU-2","quantity":1,"price":' + "9" * 6_000 + "}"),
    "item_not_an_object": _item('"cup"'),
    "cart_not_a_list": _body('{"cart_items":{}}'),
    "cost_without_price": _body('{"additional_costs":{"shipping":{}}}'),
    "cost_not_an_object": _body('{"additional_costs":{"shipping":5}}'),
    "cost_null": _body('{"additional_costs":{"shipping":null}}'),
    "coupon_not_a_string": _body('{"coupon_codes":["WELCOME",5]}'),
    "attributes_not_an_object": _body('{"attributes":[]}'),
    "unknown_state": _body('{"state":"paid"}'),
    "profile_not_a_string": _body('{"profile_id":42}'),
    "body_not_an_object": _body("[]"),
    "close_with_invalid_cart": _body('{"state":"closed","cart_items":[' + _ITEM.replace(":1,", ":0,") + "]}"),
    "sequence_negative": _envelope(',"sequence":-1'),
    "sequence_not_an_integer": _envelope(',"sequence":"7"'),
    "occurred_at_without_offset": _envelope(',"occurred_at":"2026-11-22T10:15:30"'),
    "occurred_at_not_a_date": _envelope(',"occurred_at":"yesterday"'),
    "application_not_an_integer": lambda integration_id: Poison(
        integration_id.encode(), _update(integration_id).replace(b":1,", b':"one",')
    ),
}
"""Refused as `schema_invalid`. Assumes that negative prices are not allowed (the default)."""

OVER_LIMITS: Final[Mapping[str, Entry]] = {
    "items_1001": _body('{"cart_items":[' + ",".join([_ITEM] * 1_001) + "]}"),
    "quantity_10001": _body('{"cart_items":[' + _ITEM.replace(":1,", ":10001,") + "]}"),
    "quantity_sum_10002": _body('{"cart_items":[' + ",".join([_ITEM.replace(":1,", ":5001,")] * 2) + "]}"),
    "identifiers_6": _body('{"identifiers":["a","b","c","d","e","f"]}'),
    "coupon_101_characters": _body('{"coupon_codes":["' + "C" * 101 + '"]}'),
    "referral_code_101_characters": _body('{"referral_code":"' + "R" * 101 + '"}'),
    "event_id_256_characters": _envelope(',"event_id":"' + "e" * 256 + '"'),
    "integration_id_1001_characters": _long_id,
}
"""Refused as `limit_exceeded` under the default limits (session semantics, section 3)."""
