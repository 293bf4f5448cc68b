"""A month of real invoices through the worker, and their totals from the CSV files by other means."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.broker.pipeline import Pipeline
from tests.logs import ordered, read_topic
from worker.load.retail import replay

FILES = sorted((Path(__file__).parents[3] / "shared" / "data" / "uci-online-retail").glob("2010-12-*.csv"))


def _sales() -> dict[str, list[dict[str, str]]]:
    """Lines by invoice, cancellations left out."""
    sales: dict[str, list[dict[str, str]]] = defaultdict(list)
    for file in FILES:
        with file.open(newline="", encoding="utf-8") as text:
            for line in csv.DictReader(text):
                if not line["InvoiceNo"].startswith("C"):
                    sales[line["InvoiceNo"]].append(line)
    return sales


def _is_sound(lines: list[dict[str, str]]) -> bool:
    """Whether the worker must take the whole invoice: no dirt in it, and within the limits."""
    quantities = [int(line["Quantity"]) for line in lines]
    return (
        min(quantities) > 0
        and sum(quantities) <= 10_000
        and len(lines) <= 1_000
        and all(line["Description"] for line in lines)
        and all(Decimal(line["UnitPrice"]) >= 0 for line in lines)
    )


def _judge_first_sessions(final: dict[str, dict[str, Any]]) -> None:
    """Of each customer exactly one invoice is first, of guests every one: customers as the CSV has them."""
    customers: dict[str, str] = {}
    for file in FILES:
        with file.open(newline="", encoding="utf-8") as text:
            for line in csv.DictReader(text):
                customers[line["InvoiceNo"]] = line["CustomerID"].removesuffix(".0")
    firsts: dict[str, list[bool]] = defaultdict(list)
    for invoice, session in final.items():
        firsts[customers[invoice]].append(session["first_session"])
    guests = firsts.pop("")
    assert all(guests)
    assert len(guests) > 50
    assert len(firsts) > 800
    wrong = {customer: firsts_of for customer, firsts_of in firsts.items() if sum(firsts_of) != 1}
    assert not wrong, "customers with no first session, or more than one"


@pytest.mark.skipif(not FILES, reason="the UCI Online Retail files are not on this machine")
def test_december_2010_totals_are_those_of_the_invoices(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    sent = pipeline.send(replay(FILES))
    worker = pipeline.worker()
    pipeline.wait_drained()
    worker.stop()
    verdict = pipeline.verdict(worker).require_clean()
    assert verdict.events == sent

    final: dict[str, dict[str, Any]] = {}
    for record in ordered(read_topic(pipeline.bootstrap, pipeline.names.enriched)):
        event = json.loads(record.value or b"", parse_float=Decimal)
        final[event["integration_id"]] = event["customer_session"]

    sales = _sales()
    sound = {invoice: lines for invoice, lines in sales.items() if _is_sound(lines)}
    totals = {
        invoice: sum((Decimal(line["UnitPrice"]) * int(line["Quantity"]) for line in lines), Decimal(0))
        for invoice, lines in sound.items()
    }
    assert len(sound) > 1_500, f"of {len(sales)} invoices only {len(sound)} are sound"
    wrong = {
        invoice: (final[invoice]["total"] if invoice in final else None, total)
        for invoice, total in totals.items()
        if invoice not in final or final[invoice]["total"] != total
    }
    assert not wrong, f"total by the worker, total by the CSV: {wrong}"
    assert {final[invoice]["state"] for invoice in sound} <= {"closed", "cancelled"}
    assert sum(totals.values()) > 800_000

    _judge_first_sessions(final)

    # What is not sound is not lost either: something of it was refused, and stands in the dead letters.
    letters = ordered(read_topic(pipeline.bootstrap, pipeline.names.dead_letters))
    refused = {(letter.key or b"").decode() for letter in letters}
    assert sales.keys() - sound.keys() <= refused
    print(verdict, f"{len(sound)} of {len(sales)} sales sound, sum of totals {sum(totals.values())}", sep="\n")
