"""Judges what the worker emits: against the published schemas, and against the rules a schema cannot say.

For every test that has an emitted record in its hands, above all the oracle of the broker tests:

    check_enriched(value, headers, key)    check_dead_letter(headers)    check_ledger(value)

Each returns what it read and raises NotAsDeclared (an AssertionError) naming the field. Some 20 to 40
microseconds a record, so a whole topic can be judged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any, Final

from jsonschema_rs import Draft202012Validator

from tests.schemas import documents

Headers = Sequence[tuple[str, bytes]]

_EXACT: Final = Context(prec=100)
_CANONICAL_NUMBER: Final = re.compile(r"(?!-0$)-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")
_CARRIED_OVER: Final = ("traceparent", "tracestate")
"""The producer's own bytes: perhaps no UTF-8, perhaps there twice."""
_DEAD_LETTER_HEADERS: Final = tuple(documents.schema(documents.DEAD_LETTER)["required"])


class NotAsDeclared(AssertionError):
    """An emitted record is not as `schemas/` and its descriptions say."""


def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(documents.closed(documents.schema(name)), validate_formats=True)


_VALIDATORS: Final = {name: _validator(name) for name in documents.ALL if name != documents.UPDATE}


def _validate(name: str, value: Any) -> None:
    validator = _VALIDATORS[name]
    if not validator.is_valid(value):
        errors = validator.iter_errors(value)
        raise NotAsDeclared(f"{name}: " + "; ".join(f"/{'/'.join(map(str, e.instance_path))}: {e}" for e in errors))


def _require(truth: bool, what: str) -> None:
    if not truth:
        raise NotAsDeclared(what)


def _number(text: str) -> Decimal:
    _require(_CANONICAL_NUMBER.fullmatch(text) is not None, f"the number {text} is not written canonically")
    return Decimal(text)


def _integer(text: str) -> int:
    _require(text != "-0", "the number -0 is not written canonically")
    return int(text)


def _constant(text: str) -> None:
    raise NotAsDeclared(f"{text} is not JSON")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    _require(len(members) == len(pairs), f"an object names a member twice: {[name for name, _ in pairs]}")
    return members


_READER: Final = json.JSONDecoder(
    parse_float=_number, parse_int=_integer, parse_constant=_constant, object_pairs_hook=_members
)


def read_json(value: bytes) -> Any:
    """JSON with exact numbers (int or Decimal); refuses repeated members and numbers that are not canonical."""
    return _READER.decode(value.decode("utf-8"))


def check_enriched(value: bytes, headers: Headers, key: bytes | None = None) -> dict[str, Any]:
    """Judges one record of the enriched topic, in either spelling; `key` is compared when given."""
    record: dict[str, Any] = read_json(value)
    camel = "integrationId" in record
    _validate(documents.ENRICHED_CAMEL if camel else documents.ENRICHED, record)
    names = _CAMEL if camel else _SNAKE
    session = record[names["customer_session"]]
    identity, application = record[names["integration_id"]], record[names["application_id"]]
    _require(identity == session[names["integration_id"]], "the two integration ids differ")
    _require(application == session[names["application_id"]], "the two application ids differ")
    _require(key is None or key == identity.encode(), "the record key is not the integration id")
    _check_totals(session, names)

    ours = [name for name, _ in headers if name not in _CARRIED_OVER]
    _require(len(ours) == len(set(ours)), f"a header occurs twice: {ours}")
    text = {name: header.decode(errors="replace" if name in _CARRIED_OVER else "strict") for name, header in headers}
    _validate(documents.ENRICHED_HEADERS, text)
    expected = {
        "ce_id": f"{identity}/{record['revision']}",
        "ce_type": record["type"],
        "ce_source": f"/session-worker/{application}",
        "ce_time": record[names["occurred_at"]],
    }
    for name, wanted in expected.items():
        _require(text[name] == wanted, f"{name} is {text[name]!r} where the value says {wanted!r}")
    return record


_SNAKE: Final = {
    name: name for place in documents.fields(documents.schema(documents.ENRICHED)) for name in [place.path[-1]]
}
_CAMEL: Final = {name: documents.camel(name) for name in _SNAKE}


def _check_totals(session: dict[str, Any], names: dict[str, str]) -> None:
    items, costs = session[names["cart_items"]], session[names["additional_costs"]]
    cart, additional = Decimal(0), Decimal(0)
    for index, item in enumerate(items):
        _require(item["position"] == index, f"position {item['position']} at index {index}")
        cart = _EXACT.add(cart, _EXACT.multiply(Decimal(item["price"]), item["quantity"]))
    for cost in costs.values():
        additional = _EXACT.add(additional, Decimal(cost["price"]))
    expected = {"cart_item_total": cart, "additional_cost_total": additional, "total": _EXACT.add(cart, additional)}
    for name, wanted in expected.items():
        _require(session[names[name]] == wanted, f"{name} is {session[names[name]]}, exactly it is {wanted}")


def check_dead_letter(headers: Headers, original: Headers | None = None) -> dict[str, str]:
    """Judges a dead letter by its headers; `original` are those of the refused record, compared when given.

    Returns the worker's nine headers as text. Value and key are for the caller to compare with the input.
    """
    theirs, ours = headers[: -len(_DEAD_LETTER_HEADERS)], headers[-len(_DEAD_LETTER_HEADERS) :]
    names = tuple(name for name, _ in ours)
    _require(names == _DEAD_LETTER_HEADERS, f"the last headers are {names}")
    _require(original is None or list(theirs) == list(original), f"original headers came out as {list(theirs)}")
    text = {name: header.decode() for name, header in ours}
    _validate(documents.DEAD_LETTER, text)
    return text


def check_ledger(value: bytes) -> dict[str, Any]:
    """Judges one ledger record, its sums included. That ranges join is for the caller, who sees them all."""
    record: dict[str, Any] = read_json(value)
    _validate(documents.LEDGER, record)
    outcomes, reasons = record["outcomes"], record["reasons"]
    _require(sum(outcomes.values()) == record["records"], f"the outcomes do not add up to the records: {record}")
    _require(sum(reasons.values()) == outcomes["rejected"], f"the reasons do not add up to the rejected: {record}")
    span = record["last_offset"] - record["first_offset"] + 1
    _require(record["records"] <= span, f"more records than offsets: {record}")
    return record
