"""Every kind of damage that `verify` must find, done to the records of one partition of one topic."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from tests.logs import Record
from worker.engine.position import POSITION_KEY


class Damage(NamedTuple):
    """What is done to the records of one partition of one topic, and how verify must tell it."""

    topic: str
    """Which of the five, by the field of TopicNames."""
    do: Callable[[list[Record]], tuple[list[Record], Record]]
    """Gives the damaged records, and the one that verify must name."""
    kind: str
    says: str
    names_offset: bool = True
    """Whether the record is still there, so that it has an offset."""
    differences: Callable[[Record], int] = lambda _culprit: 1
    """How many there are then."""


def _changed(record: Record, old: bytes, new: bytes) -> Record:
    assert record.value is not None
    assert old in record.value
    return record._replace(value=record.value.replace(old, new, 1))


def _middle(records: list[Record]) -> int:
    return len(records) // 2


def _change_middle(old: bytes, new: bytes) -> Callable[[list[Record]], tuple[list[Record], Record]]:
    def do(records: list[Record]) -> tuple[list[Record], Record]:
        at = _middle(records)
        changed = _changed(records[at], old, new)
        return [*records[:at], changed, *records[at + 1 :]], changed

    return do


def _drop_middle(records: list[Record]) -> tuple[list[Record], Record]:
    at = _middle(records)
    return [*records[:at], *records[at + 1 :]], records[at]


def _drop_last(records: list[Record]) -> tuple[list[Record], Record]:
    return records[:-1], records[-1]


def _drop_ledger_record(records: list[Record]) -> tuple[list[Record], Record]:
    """One near the middle whose gaps are all seen at the next record: without answers, or with some before others. (The
    first record has none: an answer follows a claim.)"""
    takes_answers = [b'"answers"' in (record.value or b"") for record in records]
    at = next(at for at in range(_middle(records), -1, -1) if not takes_answers[at] or takes_answers[at + 1])
    return [*records[:at], *records[at + 1 :]], records[at]


def _gaps(entry: Record) -> int:
    """How many gaps the ledger has without this record: one in the input, one in the answers, or both."""
    told = json.loads(entry.value or b"")
    return int(told["records"] > 0) + int("answers" in told)


def _repeat_middle_at_the_end(records: list[Record]) -> tuple[list[Record], Record]:
    again = records[_middle(records)]
    return [*records, again], again


def _add_foreign(records: list[Record]) -> tuple[list[Record], Record]:
    foreign = records[-1]._replace(key=b"nobody")
    return [*records, foreign], foreign


def _change_header(records: list[Record]) -> tuple[list[Record], Record]:
    at = _middle(records)
    headers = tuple((name, b"stale" if name == "dead_letter.code" else text) for name, text in records[at].headers)
    changed = records[at]._replace(headers=headers)
    return [*records[:at], changed, *records[at + 1 :]], changed


def _later_timestamp(records: list[Record]) -> tuple[list[Record], Record]:
    at = _middle(records)
    changed = records[at]._replace(timestamp=records[at].timestamp + 1)
    return [*records[:at], changed, *records[at + 1 :]], changed


def _last_row(records: list[Record]) -> int:
    """The latest record of some session, so that compaction would leave it."""
    return max(i for i, record in enumerate(records) if not (record.key or b"").startswith(b"\xff"))


def _change_row(records: list[Record]) -> tuple[list[Record], Record]:
    at = _last_row(records)
    changed = _changed(records[at], b"order-", b"Order-")
    return [*records[:at], changed, *records[at + 1 :]], changed


def _drop_row(records: list[Record]) -> tuple[list[Record], Record]:
    gone = records[_last_row(records)]
    return [record for record in records if record.key != gone.key], gone


def _move_position(records: list[Record]) -> tuple[list[Record], Record]:
    at = max(i for i, record in enumerate(records) if record.key == POSITION_KEY)
    held = json.loads(records[at].value or b"")
    changed = records[at]._replace(value=json.dumps(held | {"offset": held["offset"] - 1}).encode())
    return [*records[:at], changed, *records[at + 1 :]], changed


DAMAGES = {
    "a changed byte in an output": Damage(
        "enriched", _change_middle(b'"first_session":', b'"first_Session":'), "different", "not what the input leads to"
    ),
    "an output with another timestamp": Damage("enriched", _later_timestamp, "different", "not what the input"),
    "the latest output of a session missing": Damage("enriched", _drop_last, "missing", "keeps the latest", False),
    "an older output missing": Damage("enriched", _drop_middle, "missing", "is not there", False),
    "an output there twice": Damage("enriched", _repeat_middle_at_the_end, "unexpected", "stands behind revision"),
    "an output of no session": Damage("enriched", _add_foreign, "unexpected", "no accepted update"),
    "a wrong count in the ledger": Damage(
        "ledger", _change_middle(b'"records":', b'"records":1'), "different", "not what they lead to"
    ),
    "a ledger record missing": Damage("ledger", _drop_ledger_record, "missing", "no range holds", False, _gaps),
    "the last ledger record missing": Damage("ledger", _drop_last, "missing", "no range holds", False, _gaps),
    "a ledger record there twice": Damage("ledger", _repeat_middle_at_the_end, "unexpected", "overlaps"),
    "a dead letter missing": Damage("dead_letters", _drop_middle, "missing", "not there", False),
    "a dead letter there twice": Damage("dead_letters", _repeat_middle_at_the_end, "unexpected", "twice"),
    "a dead letter with another reason": Damage("dead_letters", _change_header, "different", "not the rejected"),
    "a changed row": Damage("changelog", _change_row, "different", "the stored session is not"),
    "a row missing": Damage("changelog", _drop_row, "missing", "the stored session is not there", False),
    "a row of no session": Damage("changelog", _add_foreign, "unexpected", "no record of the input"),
    "another position": Damage("changelog", _move_position, "different", "the position record says"),
}
