"""The UCI Online Retail data set as session updates (D. Chen et al., 2012; UCI dataset 352, CC BY 4.0).

How an invoice becomes a session's events:

- The invoice number is the integration id, the customer the profile ("" for a guest), the country decides
  the application, the invoice's date (read as UTC) is `occurred_at`.
- The lines of a sale, in file order, are replayed as a growing cart: one update per so many lines, each
  with the whole cart so far; then `{state: closed}`.
- Lines of postage, fees and the like (COST_CODES) are additional costs named by their code, their price
  being quantity × unit price; repeats of a code add up.
- An invoice whose number begins with C is a cancellation. When all its lines reverse lines of one earlier
  sale of the same customer, that sale gets `{state: cancelled}`; else a session nobody knows gets it.
- Dirt (quantities of zero or less, empty descriptions) is sent as it is.

Kinds of events: `cart`, `cart_with_dirt`, `closed`, `cancelled`, `cancelled_unknown`.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from worker.errors import SettingsError
from worker.load.event import StreamEvent

COST_CODES: Final = frozenset({"POST", "DOT", "C2", "BANK CHARGES", "AMAZONFEE", "CRUK", "M"})
LINES_PER_UPDATE: Final = 5

COUNTRIES: Final = (
    "Australia", "Austria", "Bahrain", "Belgium", "Brazil", "Canada", "Channel Islands", "Cyprus", "Czech Republic",
    "Denmark", "EIRE", "European Community", "Finland", "France", "Germany", "Greece", "Hong Kong", "Iceland",
    "Israel", "Italy", "Japan", "Lebanon", "Lithuania", "Malta", "Netherlands", "Norway", "Poland", "Portugal", "RSA",
    "Saudi Arabia", "Singapore", "Spain", "Sweden", "Switzerland", "USA", "United Arab Emirates", "United Kingdom",
    "Unspecified",
)  # fmt: skip
"""All countries of the data set; a country's application id is its place here, from 1."""

_COLUMNS: Final = frozenset(
    ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
)
_JSON_NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


class Line(NamedTuple):
    """One line of an invoice, texts as the file has them (but the customer: `17850`, not `17850.0`)."""

    invoice: str
    stock_code: str
    description: str
    quantity: str
    date: str
    unit_price: str
    customer: str
    country: str

    @property
    def is_dirt(self) -> bool:
        return not self.description or not self.quantity.isdecimal() or int(self.quantity) == 0


@dataclass(slots=True)
class _Sale:
    """An earlier sale as cancellations see it: the lines not reversed yet, by (code, price, quantity)."""

    invoice: str
    lines: Counter[tuple[str, str, str]] = field(default_factory=Counter)


def application_id(country: str) -> int:
    """The application of a country; one that the data set does not name gets a stable number above 1,000."""
    if country in COUNTRIES:
        return COUNTRIES.index(country) + 1
    return 1_001 + zlib.crc32(country.encode()) % 1_000_000


def country_of(application: int) -> str | None:
    """The country of an application id; None when it is not one of the data set's."""
    return COUNTRIES[application - 1] if 1 <= application <= len(COUNTRIES) else None


def replay(files: Sequence[Path], *, lines_per_update: int = LINES_PER_UPDATE) -> Iterator[StreamEvent]:
    """The events of those files in order of their dates, read as they are needed; a directory stands for its CSV files.

    Record times are the invoices' dates. Raises SettingsError when a file cannot be read or lacks a column.
    """
    sales: dict[str, list[_Sale]] = {}
    for invoice, group in groupby(_lines(_by_date(files)), key=lambda line: line.invoice):
        lines = list(group)
        if invoice.startswith("C"):
            yield _cancellation(lines, sales)
            continue
        yield from _sale(lines, lines_per_update)
        if lines[0].customer:
            remembered = Counter((line.stock_code, line.unit_price, line.quantity) for line in lines)
            sales.setdefault(lines[0].customer, []).append(_Sale(invoice, remembered))


def _sale(lines: Sequence[Line], lines_per_update: int) -> Iterator[StreamEvent]:
    """A growing cart, then closed. Each update repeats the whole cart and all costs so far."""
    number = 0
    items: list[orjson.Fragment] = []
    for start in range(0, len(lines), lines_per_update):
        number += 1
        so_far = lines[: start + lines_per_update]
        items += [_item(line) for line in so_far[start:] if line.stock_code not in COST_CODES]
        body = {"profile_id": so_far[0].customer, "cart_items": items, "additional_costs": _costs(so_far)}
        kind = "cart_with_dirt" if any(line.is_dirt for line in so_far) else "cart"
        yield _event(kind, so_far[0].invoice, number, so_far[-1], body)
    yield _event("closed", lines[0].invoice, number + 1, lines[-1], {"state": "closed"})


def _cancellation(lines: Sequence[Line], sales: dict[str, list[_Sale]]) -> StreamEvent:
    """Cancels the customer's latest sale that has all the lines reversed here, and takes them off it.

    A reversed line has the same code and unit price, and the opposite quantity. A sale whose lines
    are reversed by several cancellations is cancelled by each of them.
    """
    wanted = Counter((line.stock_code, line.unit_price, line.quantity.removeprefix("-")) for line in lines)
    if all(line.quantity.startswith("-") for line in lines):
        for sale in reversed(sales.get(lines[0].customer, [])):
            if wanted <= sale.lines:
                sale.lines -= wanted
                # Numbered by its own invoice: a sale may be cancelled more than once.
                return _event("cancelled", sale.invoice, lines[0].invoice, lines[0], {"state": "cancelled"})
    return _event("cancelled_unknown", lines[0].invoice, 1, lines[0], {"state": "cancelled"})


def _event(kind: str, integration_id: str, number: int | str, line: Line, body: dict[str, Any]) -> StreamEvent:
    date = datetime.strptime(line.date, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    document = {
        "event_id": f"{integration_id}/{number}",
        "integration_id": integration_id,
        "application_id": application_id(line.country),
        "occurred_at": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "customer_session": body,
    }
    value = bytes(memoryview(orjson.dumps(document)))
    return StreamEvent(kind, integration_id.encode(), value, int(date.timestamp()) * 1_000)


def _item(line: Line) -> orjson.Fragment:
    """A cart item as JSON text, made once however many carts repeat it."""
    item = {
        "name": line.description,
        "sku": line.stock_code,
        "quantity": _number(line.quantity),
        "price": _number(line.unit_price),
    }
    return orjson.Fragment(orjson.dumps(item))


def _costs(lines: Iterable[Line]) -> dict[str, Any]:
    prices: dict[str, Decimal] = {}
    for line in lines:
        if line.stock_code in COST_CODES:
            price = Decimal(line.quantity) * Decimal(line.unit_price)
            prices[line.stock_code] = prices.get(line.stock_code, Decimal(0)) + price
    return {code: {"price": _number(format(price, "f"))} for code, price in prices.items()}


def _number(text: str) -> orjson.Fragment | str:
    """The digits as they stand in the file; what is no JSON number goes out as a string, for the worker to judge."""
    return orjson.Fragment(text) if _JSON_NUMBER.fullmatch(text) else text


def _by_date(files: Sequence[Path]) -> list[Path]:
    """The CSV files in order of their first line's date; files with no line last."""

    def first_date(file: Path) -> str:
        line = next(_lines([file]), None)
        return line.date if line else "9999"

    named = [file for path in files for file in (path.glob("*.csv") if path.is_dir() else [path])]
    return sorted(named, key=lambda file: (first_date(file), file.name))


def _lines(files: Iterable[Path]) -> Iterator[Line]:
    for file in files:
        try:
            with file.open(newline="", encoding="utf-8") as text:
                rows = csv.DictReader(text)
                if missing := _COLUMNS - set(rows.fieldnames or ()):
                    raise SettingsError(
                        f"{file} is not a UCI Online Retail file: it has no column {', '.join(sorted(missing))}.",
                        f"give CSV files with the columns {', '.join(sorted(_COLUMNS))}.",
                    )
                for row in rows:
                    yield _line(row)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file} cannot be read: {error}.", "give readable CSV files in UTF-8.") from error


def _line(row: dict[str, str]) -> Line:
    return Line(
        invoice=row["InvoiceNo"],
        stock_code=row["StockCode"],
        description=row["Description"],
        quantity=row["Quantity"],
        date=row["InvoiceDate"],
        unit_price=row["UnitPrice"],
        customer=row["CustomerID"].removesuffix(".0"),
        country=row["Country"],
    )
