"""The changelog of one partition, as compaction would leave it, against the rows its input leads to, and the
position record against the ranges of the ledger."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from worker.agents.sessions import HELD_KEY
from worker.engine.batch import OutRecord, SourceRecord
from worker.engine.position import POSITION_KEY, Position, decode_position
from worker.errors import UnknownFormat
from worker.operate.verify.findings import Findings, Suspect, Told
from worker.operate.verify.fold import PartitionModel

_LAST: Final = 1 << 62
"""Rows are the sum of many records, so they have no place of their own in the input: they are told last."""


class ChangelogView:
    """The latest record of every key. Holds them all in memory, as the worker's memory store does."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.rows: dict[bytes, Told] = {}

    def take(self, record: SourceRecord) -> None:
        """The next record of the topic."""
        self._findings.compared += 1
        if record.key is None:
            text = "a changelog record without a key is no row"
            self._findings.add(Suspect("unexpected", _LAST, text, None, Told.found(record)))
        elif record.value is None:
            self.rows.pop(record.key, None)
        else:
            self.rows[record.key] = Told.found(record)

    @property
    def position(self) -> Position | None:
        """The source offset reached; None when no position record is there that this version can read. Without the
        id of the topic: the ledger, which it is compared with, names topics only."""
        row = self.rows.get(POSITION_KEY)
        try:
            return None if row is None or row.value is None else decode_position(row.value)._replace(topic_id="")
        except UnknownFormat:
            return None

    def compare(self, model: PartitionModel) -> list[Suspect]:
        """Every row that is not what the input leads to. The position record is not among them."""
        suspects = []
        for key, row in self.rows.items():
            if key == POSITION_KEY:
                continue
            acceptable = model.acceptable_rows(key)
            if not any(_is_row(row, one) for one in acceptable):
                suspects.append(_not_the_row(key, row, acceptable[-1]))
        for key in model.rows.keys() - self.rows.keys():
            acceptable = model.acceptable_rows(key)
            if None not in acceptable:
                expected = Told.expected(model.rows[key])
                suspects.append(Suspect("missing", _LAST, f"{kind_of_row(key)} is not there", key, expected=expected))
        return suspects

    def compare_position(self, acceptable: Mapping[Position | None, int]) -> list[Suspect]:
        """The position record against the ends of the ledger's ranges that may be the last, each with the timestamp
        of its last record; None = nothing processed yet, and so no record."""
        row, position = self.rows.get(POSITION_KEY), self.position
        if row is None and None in acceptable:
            return []
        expected = " or ".join("no record" if one is None else _told(one) for one in acceptable)
        if row is None:
            text = f"the position record is not there; expected {expected}"
            return [Suspect("missing", _LAST, text, POSITION_KEY)]
        if position is None:
            text = "the position record cannot be read"
        elif position not in acceptable:
            text = f"the position record says {_told(position)}; expected {expected}"
        elif row.timestamp_ms != acceptable[position] or row.headers:
            text = f"the position record has timestamp {row.timestamp_ms}; expected {acceptable[position]}"
        else:
            return []
        return [Suspect("different", _LAST, text, POSITION_KEY, row)]


def _told(position: Position) -> str:
    return f"{position.topic} {position.offset}, answers {position.feedback_offset}"


def report(suspects: Collection[Suspect], rewritten: Collection[bytes | None], findings: Findings) -> None:
    """Adds the suspects to the findings, but for keys with newer records behind the part that was read: what
    stands in that part may have been compacted away, or be older than it was."""
    for suspect in suspects:
        if suspect.key in rewritten and suspect.kind != "unexpected":
            findings.left_out["rewritten since"] += 1
        else:
            findings.add(suspect)


def kind_of_row(key: bytes) -> str:
    """What the row is, for people."""
    if key == POSITION_KEY:
        return "the position record"
    return "the record of what is held" if key == HELD_KEY else "the stored session"


def _is_row(found: Told, expected: OutRecord | None) -> bool:
    if expected is None:
        return False
    return (
        found.value == expected.value
        and found.timestamp_ms == expected.timestamp_ms
        and list(found.headers) == expected.headers
    )


def _not_the_row(key: bytes, found: Told, expected: OutRecord | None) -> Suspect:
    if expected is None:
        return Suspect("unexpected", _LAST, f"no record of the input leads to {kind_of_row(key)}", key, found)
    text = f"{kind_of_row(key)} is not what the input leads to"
    return Suspect("different", _LAST, text, key, found, Told.expected(expected))
