"""The vendor's Python SDK reads `customerSession` of our camelCase output into its own model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final

import pytest
from talon_one import ApiClient, CustomerSessionV2

from tests.partition import LonePartition
from tests.wire.story import Source, tell
from worker.agents.sessions import SessionsConfig
from worker.load.generator import generate

NOT_YET_IN_2020: Final = {
    "id": 1,  # a key inside the vendor's database
    "updated": "2026-11-22T10:15:30.123456Z",  # a reading of the vendor's clock; we have none to read
}
"""What the model of SDK 9 demands and the entity we follow (SDK 2.2.0, October 2020) does not have."""

SCALARS: Final = ("integration_id", "application_id", "profile_id", "referral_code", "state", "first_session")
ITEM_NUMBERS: Final = ("price", "weight", "height", "width", "length", "position")


def entity(value: bytes | None) -> dict[str, Any]:
    """`customerSession` of an enriched record, numbers exact."""
    session: dict[str, Any] = json.loads(value or b"", parse_float=Decimal)["customerSession"]
    return session


def read_by_the_sdk(value: bytes | None) -> CustomerSessionV2:
    """`customerSession` of an enriched record as the SDK reads an answer of the vendor's API."""
    session = json.loads(value or b"")["customerSession"] | NOT_YET_IN_2020
    return ApiClient().deserialize(SimpleNamespace(data=json.dumps(session)), "CustomerSessionV2")


def generated() -> Iterator[bytes]:
    """Enriched records of the synthetic stream."""
    config = SessionsConfig(output_case="camel")
    events = [event for event in generate(sessions=60, seed=3) if event.value is not None]
    records = [
        Source(offset, event.timestamp_ms, event.key, event.value, event.headers) for offset, event in enumerate(events)
    ]
    for record in LonePartition(config, "updates", 0).take(0, records).sends[config.enriched_topic]:
        assert record.value is not None
        yield record.value


def assert_same(theirs: CustomerSessionV2, ours: dict[str, Any]) -> None:
    """The SDK's numbers are doubles: equal are those of the same text."""
    assert [getattr(theirs, name) for name in SCALARS] == [ours[camel(name)] for name in SCALARS]
    assert theirs.created == datetime.fromisoformat(ours["created"])
    assert (theirs.coupon_codes, theirs.identifiers) == (ours["couponCodes"], ours["identifiers"])
    assert theirs.attributes == doubles(ours["attributes"])
    for name in ("cart_item_total", "additional_cost_total", "total"):
        assert getattr(theirs, name) == float(ours[camel(name)])
    costs = {name: cost.price for name, cost in theirs.additional_costs.items()}
    assert costs == {name: float(cost["price"]) for name, cost in ours["additionalCosts"].items()}
    assert len(theirs.cart_items) == len(ours["cartItems"])
    for item, our_item in zip(theirs.cart_items, ours["cartItems"], strict=True):
        assert (item.name, item.sku, item.quantity) == (our_item["name"], our_item["sku"], our_item["quantity"])
        assert (item.category, item.attributes) == (our_item.get("category"), doubles(our_item.get("attributes")))
        for name in ITEM_NUMBERS:
            assert getattr(item, name) == (float(our_item[name]) if name in our_item else None)


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def doubles(value: Any) -> Any:
    """The value as a reader without decimals has it."""
    return json.loads(json.dumps(value, default=float))


@pytest.mark.parametrize("number", range(len(tell("camel").enriched)))
def test_the_sdk_reads_every_kind_of_record(number: int) -> None:
    value = tell("camel").enriched[number].value
    assert_same(read_by_the_sdk(value), entity(value))


def test_the_sdk_reads_what_a_shop_produces() -> None:
    states = set()
    for value in generated():
        session = read_by_the_sdk(value)
        assert_same(session, entity(value))
        states.add(session.state)
    assert states == {"open", "closed", "cancelled"}


def test_the_sdk_reads_the_values_a_person_expects() -> None:
    session = read_by_the_sdk(tell("camel").enriched[0].value)
    assert (session.integration_id, session.application_id, session.state) == ("order-1", 7, "open")
    assert (session.cart_item_total, session.additional_cost_total, session.total) == (13.9, 8.5, 22.4)
    assert [(item.sku, item.quantity, item.price, item.position) for item in session.cart_items] == [
        ("MUG-1", 2, 3.7, 0),
        ("MUG-1", 1, 6.5, 1),
    ]
    assert session.created.isoformat() == "2026-11-22T10:15:30.123456+00:00"


@pytest.mark.parametrize("missing", NOT_YET_IN_2020)
def test_no_field_is_added_that_the_sdk_does_not_demand(missing: str) -> None:
    session = json.loads(tell("camel").enriched[0].value or b"")["customerSession"] | NOT_YET_IN_2020
    del session[missing]
    with pytest.raises(ValueError, match=f"`{missing}`"):
        ApiClient().deserialize(SimpleNamespace(data=json.dumps(session)), "CustomerSessionV2")
