"""What omitted, null, empty and present mean, for every field (session semantics, section 3, second table)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.session.play import OMIT, Number, Play, cost, item

MUG: Final = item("10", position=Number("0"))
"""An item in the input that is the same in the output."""

ITEM_FIELDS: Final[dict[str, Any]] = {
    "name": "Mug",
    "sku": "MUG-1",
    "quantity": Number("2"),
    "price": Number("9.5"),
    "category": "",
    "weight": Number("0.3"),
    "height": Number("10"),
    "width": Number("8"),
    "length": Number("-8"),
    "attributes": {"a": None, "b": [Number("1")]},
    "adjustment": {"z": {"nested": None}, "y": "any"},
}
"""Every field of an item."""

KEPT: Final = object()
"""Expected: as stored."""

TABLE: Final[list[tuple[str, Any, Any, Any]]] = [
    # field, stored, sent, expected
    ("coupon_codes", ["A"], OMIT, KEPT),
    ("coupon_codes", ["A"], None, KEPT),
    ("coupon_codes", ["A"], [], []),
    ("coupon_codes", ["A"], ["b", "", "B", "b"], ["b", "B", "b"]),
    ("coupon_codes", ["A"], [""], []),
    ("identifiers", ["x"], OMIT, KEPT),
    ("identifiers", ["x"], None, KEPT),
    ("identifiers", ["x"], [], []),
    ("identifiers", ["x"], ["z", "", "z"], ["z", "", "z"]),
    ("cart_items", [MUG], OMIT, KEPT),
    ("cart_items", [MUG], None, KEPT),
    ("cart_items", [MUG], [], []),
    ("cart_items", [MUG], [item("1", sku="B")], [item("1", sku="B", position=Number("0"))]),
    ("cart_items", [MUG], [item("2"), item("2")], [item("2", position=Number(at)) for at in "01"]),
    ("cart_items", [MUG], [ITEM_FIELDS], [ITEM_FIELDS | {"position": Number("0")}]),
    ("additional_costs", {"a": cost("1")}, OMIT, KEPT),
    ("additional_costs", {"a": cost("1")}, None, KEPT),
    ("additional_costs", {"a": cost("1")}, {}, {}),
    ("additional_costs", {"a": cost("1")}, {"b": cost("2")}, {"b": cost("2")}),
    ("referral_code", "FRIEND", OMIT, KEPT),
    ("referral_code", "FRIEND", None, KEPT),
    ("referral_code", "FRIEND", "", ""),
    ("referral_code", "FRIEND", "OTHER", "OTHER"),
    ("attributes", {"a": "1", "b": {"c": "d"}}, OMIT, KEPT),
    ("attributes", {"a": "1", "b": {"c": "d"}}, None, KEPT),
    ("attributes", {"a": "1", "b": {"c": "d"}}, {}, KEPT),
    ("attributes", {"a": "1", "b": {"c": "d"}}, {"e": [None]}, {"a": "1", "b": {"c": "d"}, "e": [None]}),
    ("attributes", {"a": "1", "b": {"c": "d"}}, {"b": {"x": None}}, {"a": "1", "b": {"x": None}}),
    ("attributes", {"a": "1", "b": {"c": "d"}}, {"a": None}, {"b": {"c": "d"}}),
    ("attributes", {"a": "1"}, {"a": None, "unknown": None}, {}),
    ("attributes", {"a": "1"}, {"a": "null"}, {"a": "null"}),
    ("profile_id", "P", OMIT, KEPT),
    ("profile_id", "P", None, KEPT),
    ("profile_id", "P", "", KEPT),
    ("profile_id", "P", "Q", "Q"),
    ("profile_id", "", "Q", "Q"),
]


@pytest.mark.parametrize(("field", "stored", "sent", "expected"), TABLE)
def test_each_way_to_send_a_field_means_what_the_table_says(field: str, stored: Any, sent: Any, expected: Any) -> None:
    play = Play()
    before = play.send({field: stored}).entity
    assert before[field] == stored
    # Another field changes with it, so that the update is accepted and shows the session whatever the cell.
    another = "identifiers" if field == "referral_code" else "referral_code"
    after = play.send({field: sent, another: ["witness"] if another == "identifiers" else "witness"}).entity
    assert after[field] == (stored if expected is KEPT else expected)
    untouched = [name for name in before if name not in (field, another) and "total" not in name]
    assert [name for name in untouched if after[name] != before[name]] == []


@pytest.mark.parametrize(("field", "stored", "sent", "expected"), [row for row in TABLE if row[3] is KEPT])
def test_what_keeps_a_field_changes_nothing_alone(field: str, stored: Any, sent: Any, expected: Any) -> None:
    play = Play()
    play.send({field: stored})
    before = play.row()
    assert play.send({field: sent}).outcome == "unchanged"
    assert play.row() == before


@pytest.mark.parametrize("empty", [{}, dict.fromkeys((row[0] for row in TABLE), None)], ids=["omitted", "null"])
def test_a_session_begins_with_all_15_fields_whatever_is_left_out(empty: dict[str, Any]) -> None:
    zero = Number("0")
    created = Play().send(empty, occurred_at="2026-11-22T10:15:30Z")
    assert list(created.entity.items()) == [
        ("integration_id", "order-1"),
        ("created", "2026-11-22T10:15:30.000000Z"),
        ("application_id", Number("7")),
        ("profile_id", ""),
        ("coupon_codes", []),
        ("referral_code", ""),
        ("state", "open"),
        ("cart_items", []),
        ("additional_costs", {}),
        ("identifiers", []),
        ("attributes", {}),
        ("first_session", True),
        ("cart_item_total", zero),
        ("additional_cost_total", zero),
        ("total", zero),
    ]


def test_attributes_set_to_null_by_the_first_update_are_not_stored() -> None:
    created = Play().send({"attributes": {"a": None, "b": {"c": None}}})
    assert created.entity["attributes"] == {"b": {"c": None}}


def test_the_order_of_items_is_content_and_that_of_names_is_not() -> None:
    play = Play()
    one, other = item("1", sku="1"), item("2", sku="2")
    play.send({"cart_items": [one, other], "attributes": {"a": "1", "b": "2"}})
    again = {"cart_items": [dict(reversed(one.items())), other], "attributes": {"b": "2", "a": "1"}}
    assert play.send(again).outcome == "unchanged"
    assert play.send({"cart_items": [other, one]}).verdict == "session_updated"
