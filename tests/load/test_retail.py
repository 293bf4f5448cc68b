"""Invoices of the UCI Online Retail data set as session updates: the rules of the data set's page, case by case."""

from __future__ import annotations

import csv
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from worker.errors import SettingsError
from worker.load.event import StreamEvent
from worker.load.retail import COST_CODES, COUNTRIES, application_id, country_of, replay

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
REAL_FILES = Path(__file__).parents[3] / "shared" / "data" / "uci-online-retail"


class ExactItem(msgspec.Struct):
    quantity: int
    price: Decimal


class ExactBody(msgspec.Struct):
    """The parts of an update with its numbers as exact decimals."""

    cart_items: list[ExactItem]
    additional_costs: dict[str, dict[str, Decimal]]


class ExactUpdate(msgspec.Struct):
    customer_session: ExactBody


def csv_file(directory: Path, *lines: str, name: str = "day.csv") -> Path:
    file = directory / name
    file.write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
    return file


def body(event: StreamEvent) -> dict[str, Any]:
    found: dict[str, Any] = document(event)["customer_session"]
    return found


def document(event: StreamEvent) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(event.value or b"")
    return decoded


def exact(event: StreamEvent) -> ExactBody:
    return msgspec.json.decode(event.value or b"", type=ExactUpdate).customer_session


def line(invoice: str, code: str, quantity: int | str = 1, price: str = "2.55", customer: str = "17850.0") -> str:
    return f"{invoice},{code},SOMETHING {code},{quantity},2010-12-01 08:26:00,{price},{customer},United Kingdom"


def test_a_sale_is_replayed_as_a_growing_cart_then_closed(tmp_path: Path) -> None:
    file = csv_file(tmp_path, *[line("536365", f"SKU{number}") for number in range(12)])
    events = list(replay([file]))
    assert [event.kind for event in events] == ["cart", "cart", "cart", "closed"]
    carts = [[item["sku"] for item in body(event)["cart_items"]] for event in events[:3]]
    assert carts == [[f"SKU{number}" for number in range(size)] for size in (5, 10, 12)]
    assert body(events[3]) == {"state": "closed"}


def test_one_update_per_line_when_asked(tmp_path: Path) -> None:
    file = csv_file(tmp_path, *[line("536365", f"SKU{number}") for number in range(3)])
    assert [len(body(e)["cart_items"]) for e in list(replay([file], lines_per_update=1))[:3]] == [1, 2, 3]


def test_an_update_names_the_invoice_the_customer_the_country_and_the_date(tmp_path: Path) -> None:
    event = next(replay([csv_file(tmp_path, line("536365", "85123A", 6))]))
    assert event.key == b"536365"
    assert event.timestamp_ms == 1_291_191_960_000
    assert document(event) == {
        "event_id": "536365/1",
        "integration_id": "536365",
        "application_id": application_id("United Kingdom"),
        "occurred_at": "2010-12-01T08:26:00Z",
        "customer_session": {
            "profile_id": "17850",
            "cart_items": [{"name": "SOMETHING 85123A", "sku": "85123A", "quantity": 6, "price": 2.55}],
            "additional_costs": {},
        },
    }


def test_a_guest_has_an_empty_profile(tmp_path: Path) -> None:
    event = next(replay([csv_file(tmp_path, line("536365", "A", customer=""))]))
    assert body(event)["profile_id"] == ""


def test_prices_keep_the_digits_of_the_file(tmp_path: Path) -> None:
    event = next(replay([csv_file(tmp_path, line("536365", "A", 1, "2.550"), line("536365", "B", 1, "0.001"))]))
    assert b'"price":2.550}' in (event.value or b"")
    assert b'"price":0.001}' in (event.value or b"")


def test_fees_are_additional_costs_of_quantity_times_price_and_repeats_add_up(tmp_path: Path) -> None:
    codes = ("POST", "DOT", "C2", "BANK CHARGES", "AMAZONFEE", "CRUK", "M")
    lines = [line("1", code, 3, "0.10") for code in codes] + [line("1", "M", 1, "0.05"), line("1", "m", 1, "9")]
    last_cart = list(replay([csv_file(tmp_path, *lines)]))[-2]
    assert {name: cost["price"] for name, cost in exact(last_cart).additional_costs.items()} == {
        **{code: Decimal("0.3") for code in codes},
        "M": Decimal("0.35"),
    }
    assert [item["sku"] for item in body(last_cart)["cart_items"]] == ["m"]


def test_a_cancellation_of_lines_of_one_earlier_sale_cancels_that_sale(tmp_path: Path) -> None:
    file = csv_file(
        tmp_path,
        *(line("1", code, 6) for code in ("A", "B", "C")),
        *(line("2", code, 6) for code in ("D", "E")),
        *(line("C3", code, -6) for code in ("A", "C")),
    )
    cancelled = list(replay([file]))[-1]
    assert (cancelled.kind, cancelled.key, body(cancelled)) == ("cancelled", b"1", {"state": "cancelled"})


@pytest.mark.parametrize(
    ("why", "reversal"),
    [
        ("another quantity", [line("C3", "A", -5)]),
        ("another price", [line("C3", "A", -6, "2.50")]),
        ("lines of two sales", [line("C3", "A", -6), line("C3", "D", -6)]),
        ("more lines than were sold", [line("C3", "A", -6), line("C3", "A", -6)]),
        ("another customer", [line("C3", "A", -6, customer="13047.0")]),
        ("a guest", [line("C3", "A", -6, customer="")]),
        ("a discount", [line("C3", "D", -1, "27.50")]),
    ],
)
def test_any_other_cancellation_is_of_a_session_nobody_knows(tmp_path: Path, why: str, reversal: list[str]) -> None:
    sales = [line("1", "A", 6), line("1", "B", 6), line("2", "D", 6), line("9", "A", 6, customer="")]
    cancelled = list(replay([csv_file(tmp_path, *sales, *reversal)]))[-1]
    assert (cancelled.kind, cancelled.key) == ("cancelled_unknown", b"C3"), why
    assert document(cancelled)["application_id"] == application_id("United Kingdom")
    assert body(cancelled) == {"state": "cancelled"}


def test_the_latest_of_several_equal_sales_is_cancelled_and_each_only_as_often_as_sold(tmp_path: Path) -> None:
    sales = [line("1", "A", 6), line("2", "A", 6)]
    reversals = [line("C3", "A", -6), line("C4", "A", -6), line("C5", "A", -6)]
    events = list(replay([csv_file(tmp_path, *sales, *reversals)]))
    assert [event.key for event in events[-3:]] == [b"2", b"1", b"C5"]


def test_dirt_is_sent_as_it_is(tmp_path: Path) -> None:
    dirty = [
        line("1", "A", -10, "0.0", customer=""),
        line("2", "B", 0),
        "3,C,,56,2010-12-01 11:52:00,0.0,,United Kingdom",
    ]
    events = list(replay([csv_file(tmp_path, *dirty)]))
    assert [event.kind for event in events] == ["cart_with_dirt", "closed"] * 3
    assert [body(event)["cart_items"][0]["quantity"] for event in events[::2]] == [-10, 0, 56]
    assert body(events[4])["cart_items"][0]["name"] == ""


def test_files_are_replayed_in_order_of_their_dates(tmp_path: Path) -> None:
    later = csv_file(tmp_path, line("2", "A").replace("2010-12-01", "2010-12-02"), name="a.csv")
    earlier = csv_file(tmp_path, line("1", "A"), name="b.csv")
    assert [event.key for event in replay([later, earlier]) if event.kind == "cart"] == [b"1", b"2"]
    assert list(replay([tmp_path])) == list(replay([later, earlier]))


def test_every_country_has_an_application_of_its_own() -> None:
    assert len({application_id(country) for country in COUNTRIES}) == len(COUNTRIES) == 38
    assert [country_of(application_id(country)) for country in COUNTRIES] == list(COUNTRIES)
    assert application_id("Atlantis") > 1_000
    assert country_of(application_id("Atlantis")) is None


def test_a_file_that_is_not_of_this_data_set_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(SettingsError, match=r"other\.csv.*InvoiceNo"):
        list(replay([other]))
    with pytest.raises(SettingsError, match=r"missing\.csv"):
        list(replay([tmp_path / "missing.csv"]))


@pytest.fixture(scope="module")
def december() -> list[StreamEvent]:
    """All events of the real files, when they are there."""
    files = sorted(REAL_FILES.glob("*.csv"))
    if not files:
        pytest.skip(f"the UCI Online Retail files are not at {REAL_FILES}")
    return list(replay(files))


def test_invoice_536370_is_vector_t8(december: list[StreamEvent]) -> None:
    cart = exact([event for event in december if event.key == b"536370" and event.kind == "cart"][-1])
    assert len(cart.cart_items) == 19
    assert sum((item.price * item.quantity for item in cart.cart_items), Decimal(0)) == Decimal("801.86")
    assert cart.additional_costs == {"POST": {"price": Decimal(54)}}


def test_december_2010_has_every_invoice_once(december: list[StreamEvent]) -> None:
    kinds = Counter(event.kind for event in december)
    assert kinds["closed"] == 1_699
    assert kinds["cancelled"] + kinds["cancelled_unknown"] == 326
    assert kinds["cancelled"] == 42
    # One update per five lines of a sale.
    assert kinds["cart"] + kinds["cart_with_dirt"] == 9_158


def test_the_last_carts_of_december_2010_hold_every_line_of_its_sales(december: list[StreamEvent]) -> None:
    last = {event.key: exact(event) for event in december if event.kind.startswith("cart")}
    rows = [row for file in REAL_FILES.glob("*.csv") for row in csv.DictReader(file.open(newline="", encoding="utf-8"))]
    sales = [row for row in rows if not row["InvoiceNo"].startswith("C")]
    items = sum(len(cart.cart_items) for cart in last.values())
    assert items == sum(row["StockCode"] not in COST_CODES for row in sales)
    value = sum((item.price * item.quantity for cart in last.values() for item in cart.cart_items), Decimal(0))
    costs = sum((cost["price"] for cart in last.values() for cost in cart.additional_costs.values()), Decimal(0))
    assert value + costs == sum((Decimal(row["UnitPrice"]) * int(row["Quantity"]) for row in sales), Decimal(0))


def test_the_order_of_the_files_named_does_not_matter(december: list[StreamEvent]) -> None:
    assert list(replay(sorted(REAL_FILES.glob("*.csv"), reverse=True))) == december
