"""One partition of sessions, played record by record: JSON text in, what the worker says of it out.

Numbers keep their digits both ways: `Number("3.70")` is written as those characters, and what comes out is a
`Number` of the characters in the output. No float is ever involved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tests.partition import LonePartition
from worker.agents.sessions import SessionsConfig
from worker.engine.batch import Effects
from worker.session.model import Limits, Session
from worker.wire import row

TOPIC: Final = "sessions.updates.v1"
PARTITION: Final = 3
ENRICHED: Final = "sessions.enriched.v1"
DEAD_LETTERS: Final = "sessions.updates.v1.dead-letters"
LEDGER: Final = "sessions.ledger.v1"

RECORD_MS: Final = 1_795_342_530_123
RECORD_TIME: Final = "2026-11-22T10:15:30.123000Z"
"""What RECORD_MS is in words."""

SESSION: Final = "order-1"
APPLICATION: Final = 7


class Number(NamedTuple):
    """A JSON number, as the characters it is written with."""

    text: str


class Source(NamedTuple):
    """An input record."""

    offset: int
    value: bytes | None
    key: bytes | None
    timestamp: int = RECORD_MS
    headers: Sequence[tuple[str, bytes]] = ()


class Reply(NamedTuple):
    """What became of one record."""

    outcome: str
    """accepted, unchanged, duplicate or rejected, as the ledger says."""
    record: dict[str, Any]
    """The enriched record's value; empty unless accepted."""
    reason: dict[str, str]
    """The dead letter's own headers, without their prefix; empty unless rejected."""
    ignored_fields: int

    @property
    def entity(self) -> dict[str, Any]:
        """The session in the enriched record."""
        assert self.outcome == "accepted", self
        entity = self.record["customer_session"]
        assert isinstance(entity, dict)
        return entity

    @property
    def verdict(self) -> str:
        """The code of a rejected record, the type of an accepted one, else the outcome."""
        return self.reason.get("code") or self.record.get("type") or self.outcome

    @property
    def totals(self) -> str:
        """Cart / additional / total, as they are written."""
        names = ("cart_item_total", "additional_cost_total", "total")
        return " / ".join(self.entity[name].text for name in names)


class Play:
    """A partition. Each `send` is a batch of its own; what it changed is stored before the next."""

    def __init__(self, limits: Limits | None = None, **config: Any) -> None:
        self._partition = LonePartition(SessionsConfig(limits=limits or Limits(), **config), TOPIC, PARTITION)
        self._offset = 0
        self.rows = self._partition.rows

    def send(self, body: Any = None, **envelope: Any) -> Reply:
        """An update of SESSION by APPLICATION with this body; `envelope` adds members or replaces them, and
        a member that is OMIT is left out."""
        return self.send_value(written(event(body, **envelope)))

    def send_value(self, value: bytes | None, key: bytes | None = None, timestamp: int = RECORD_MS) -> Reply:
        """A record with this very value."""
        source = Source(self._offset, value, key, timestamp)
        self._offset += 1
        return reply(self._partition.take(source.offset, [source]))

    def row(self, integration_id: str = SESSION) -> bytes | None:
        """The stored row of a session, as bytes."""
        return self.rows.get(integration_id.encode())

    def session(self, integration_id: str = SESSION) -> Session:
        """The stored session."""
        return row.decode(self.rows[integration_id.encode()])


class Omit:
    """The type of OMIT."""

    def __repr__(self) -> str:
        return "OMIT"


OMIT: Final = Omit()
"""As a value: the member is not there."""


def event(body: Any = None, **envelope: Any) -> dict[str, Any]:
    """An update event of SESSION by APPLICATION."""
    members = {
        "integration_id": SESSION,
        "application_id": APPLICATION,
        "customer_session": {} if body is None else body,
    }
    return members | envelope


def written(value: Any) -> bytes:
    """JSON text in UTF-8 of a value with Numbers in it."""
    return _text(value).encode()


def _text(value: Any) -> str:
    match value:
        case Number(text):
            return text
        case Mapping():
            members = (f"{json.dumps(name)}:{_text(part)}" for name, part in value.items() if part is not OMIT)
            return f"{{{','.join(members)}}}"
        case list():
            return f"[{','.join(map(_text, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def read(value: bytes | None) -> dict[str, Any]:
    """A JSON object, all numbers in it as Numbers."""
    assert value is not None
    members = json.loads(value, parse_float=Number, parse_int=Number)
    assert isinstance(members, dict)
    return members


def reply(effects: Effects) -> Reply:
    """What the effects of a batch of one say of its record."""
    counted = read(effects.sends[LEDGER][0].value)
    [outcome] = [name for name, count in counted["outcomes"].items() if count != Number("0")]
    records = [read(out.value) for out in effects.sends.get(ENRICHED, [])]
    letters = [out.headers for out in effects.sends.get(DEAD_LETTERS, [])]
    assert len(records) == (outcome == "accepted")
    assert len(letters) == (outcome == "rejected")
    reason = {name.removeprefix("dead_letter."): text.decode() for name, text in letters[0]} if letters else {}
    return Reply(outcome, records[0] if records else {}, reason, int(counted["ignored_fields"].text))


def item(price: str, quantity: int = 1, **members: Any) -> dict[str, Any]:
    """A cart item; the price as it is to be written, with quotes if wanted."""
    return {"name": "Mug", "sku": "MUG-1", "quantity": Number(str(quantity)), "price": Number(price), **members}


def cost(price: str) -> dict[str, Any]:
    """An additional cost."""
    return {"price": Number(price)}
