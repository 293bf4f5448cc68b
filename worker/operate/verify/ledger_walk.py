"""The ledger of one partition: ranges of input offsets that join without gap, with their counts.

The walk goes record by record, and the fold of the input follows it: `begin` a record, fold the input through
its range, `end` it with the counts.
"""

from __future__ import annotations

from typing import Final

import msgspec

from worker.engine.batch import SourceRecord
from worker.operate.verify.findings import Findings, Kind, Suspect, Told
from worker.operate.verify.fold import Tally
from worker.wire import ledger

_decode: Final = msgspec.json.Decoder(ledger.Entry).decode


def entry_of(record: SourceRecord) -> ledger.Entry | None:
    """What a ledger record says; None when it cannot be read."""
    try:
        entry = _decode(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return entry if 0 <= entry.first_offset <= entry.last_offset + 1 < 1 << 63 else None


class LedgerWalk:
    """`reached` is the source offset after the last range so far, `answers_reached` that of the answers."""

    def __init__(
        self, source_topic: str, partition: int, start: int, findings: Findings, answers_start: int = 0
    ) -> None:
        self._source = (source_topic, partition)
        self._findings = findings
        self._whole = False
        self.reached = start
        self.answers_reached = answers_start

    def begin(self, record: SourceRecord) -> ledger.Entry | None:
        """The next ledger record. None when it tells nothing about this partition's input."""
        self._findings.compared += 1
        entry = entry_of(record)
        text = None
        if entry is None:
            text = "it is no ledger record"
        elif (entry.topic, entry.partition) != self._source:
            text = f"it is about {entry.topic}[{entry.partition}]"
        if entry is None or text is not None:
            self._add("unexpected", record, text or "", self.reached)
            return None
        self._whole = entry.first_offset == self.reached
        if entry.first_offset > self.reached:
            self.skip(entry.first_offset, record)
            self._whole = True
        elif not self._whole:
            text = f"its range {_range(entry)} overlaps: the one before ends at {self.reached - 1}"
            self._add("unexpected", record, text, entry.first_offset)
        if entry.answers is not None and entry.answers.first_offset > self.answers_reached:
            self.skip_answers(entry.answers.first_offset)
        elif entry.answers is not None and entry.answers.first_offset < self.answers_reached and self._whole:
            text = (
                f"its range of answers overlaps: it begins at {entry.answers.first_offset}, "
                f"the one before ends at {self.answers_reached - 1}"
            )
            self._add("unexpected", record, text, entry.first_offset)
            self._whole = False
        return entry

    def skip_answers(self, offset: int, why: str = "") -> None:
        """The answers up to `offset` stand in no range."""
        text = f"no range holds answers {self.answers_reached} to {offset - 1}{why}"
        self._findings.add(Suspect("missing", self.reached, text, None, source_offset=self.reached))
        self.answers_reached = offset

    def skip(self, offset: int, record: SourceRecord | None, why: str = "") -> None:
        """The input up to `offset` stands in no range. `record` is the ledger record behind the gap, if any."""
        text = f"no range holds input offsets {self.reached} to {offset - 1}{why}"
        suspect = Suspect("missing", self.reached, text, None, source_offset=self.reached)
        if record is not None:
            suspect = suspect._replace(text=f"{text}; the next begins at {offset}", found=Told.found(record))
        self._findings.add(suspect)
        self.reached = offset

    def end(self, record: SourceRecord, entry: ledger.Entry, tally: Tally) -> None:
        """The input is folded through the entry's range, and these are its counts."""
        reached, self.reached = self.reached, max(self.reached, entry.last_offset + 1)
        if entry.answers is not None:
            self.answers_reached = max(self.answers_reached, entry.answers.last_offset + 1)
        if not self._whole:
            return
        is_empty = entry.last_offset < entry.first_offset
        if not is_empty and tally.last_offset != entry.last_offset:
            self._add("different", record, f"its range {_range(entry)} does not end at a record of the input", reached)
            return
        expected = tally.entry(*self._source, entry.first_offset, entry.last_offset)
        found = Told.found(record)
        right = Told(None, ledger.encode(expected), (), found.timestamp_ms)  # the broker's, when it was written
        if found._replace(offset=None) != right:
            text = f"what it says of input offsets {_range(entry)} is not what they lead to"
            suspect = Suspect("different", reached, text, None, found, right, source_offset=entry.first_offset)
            self._findings.add(suspect)

    def _add(self, kind: Kind, record: SourceRecord, text: str, place: int) -> None:
        suspect = Suspect(kind, place, text, record.key, Told.found(record), source_offset=place)
        self._findings.add(suspect)


def _range(entry: ledger.Entry) -> str:
    return f"{entry.first_offset} to {entry.last_offset}"
