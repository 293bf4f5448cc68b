"""The rules over one partition's input, a record at a time, and what they say each topic must hold.

Batches of one on purpose: the worker's rows and records do not depend on how it cut its batches, and a fold that
cuts them differently would show it if they did.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from worker.agents.sessions import BatchSummary, SessionsConfig, SessionsHandler
from worker.engine.batch import Batch, Effects, OutRecord, SourceRecord
from worker.operate.verify.dead_letters import letter_digest
from worker.operate.verify.findings import digest
from worker.operate.verify.outputs import ExpectedOutputs
from worker.wire import ledger

_NOTHING: Final[list[OutRecord]] = []


class Fold:
    """The rows of one partition, as input and answers so far made them. Holds them all in memory."""

    def __init__(self, config: SessionsConfig, topic: str, partition: int) -> None:
        self._handler = SessionsHandler(config)
        self._topic, self._partition = topic, partition
        self.rows: dict[bytes, OutRecord] = {}

    def get(self, key: bytes, /) -> bytes | None:
        """The handler's view of the rows."""
        row = self.rows.get(key)
        return None if row is None else row.value

    def step(self, record: SourceRecord) -> Effects:
        """What the record leads to, its rows still as they were before: `apply` moves on."""
        return self._handler(Batch(self._topic, self._partition, record.offset, (record,)), self)

    def step_of_answer(self, answer: SourceRecord) -> Effects:
        """The same for an answer to first_session."""
        return self._handler(Batch(self._topic, self._partition, 0, (), answer.offset, (answer,)), self)

    def apply(self, effects: Effects) -> None:
        """The rows as they are after the record."""
        for key, row in effects.rows.items():
            if row.value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row


class Tally:
    """The counts of a range of input and of answers, for its ledger record."""

    def __init__(self, answers_start: int = 0) -> None:
        self._answers_start = answers_start
        self._records = 0
        self._outcomes = [0, 0, 0, 0]
        self._reasons: Counter[str] = Counter()
        self._ignored_fields = 0
        self.enriched = 0
        """Enriched records of updates and of answers."""
        self.answers: ledger.Answers | None = None
        self.last_offset: int | None = None

    def take(self, record: SourceRecord, summary: BatchSummary) -> None:
        outcomes = summary.outcomes
        counts = (outcomes.accepted, outcomes.unchanged, outcomes.duplicate, outcomes.rejected)
        self._outcomes = [so_far + more for so_far, more in zip(self._outcomes, counts, strict=True)]
        self._records += summary.records
        self._reasons.update(summary.reasons)
        self._ignored_fields += summary.ignored_fields
        self.last_offset = record.offset

    def take_answer(self, answer: SourceRecord) -> None:
        records = 0 if self.answers is None else self.answers.records
        self.answers = ledger.Answers(self._answers_start, answer.offset, records + 1)

    def entry(self, topic: str, partition: int, first_offset: int, last_offset: int) -> ledger.Entry:
        """The ledger record of the range."""
        reasons = dict(self._reasons)
        outcomes = ledger.Outcomes(*self._outcomes)
        return ledger.Entry(
            topic,
            partition,
            first_offset,
            last_offset,
            self._records,
            outcomes,
            reasons,  # type: ignore[arg-type]  # codes, which Counter.update forgets
            self._ignored_fields,
            self.enriched,
            self.answers,
        )


class PartitionModel:
    """What the topics must hold for one partition.

    Rows are kept whole; outputs and dead letters as digests, 16 bytes an output and about 150 a dead letter. From
    `open_window` on, effects may be there or not: a live worker may have committed them after the topics were looked
    at, or before.
    """

    def __init__(self, config: SessionsConfig, topic: str, partition: int) -> None:
        self._config = config
        self._fold = Fold(config, topic, partition)
        self._is_window_open = False
        self.outputs = ExpectedOutputs()
        self.letters: dict[int, bytes] = {}
        """Source offset → digest, of every rejected record; in order."""
        self.letters_required_below: int | None = None
        """Dead letters from this source offset on may be there or not; None = all must."""
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.rows_in_window: dict[bytes, list[OutRecord | None]] = {}
        """For keys the window touched: the row before it, and after each touch; None = no row."""

    @property
    def rows(self) -> dict[bytes, OutRecord]:
        return self._fold.rows

    def open_window(self, source_offset: int) -> None:
        """From this source offset on, what the input leads to may be in the topics, but need not."""
        if not self._is_window_open:
            self._is_window_open = True
            self.letters_required_below = source_offset

    def take(self, record: SourceRecord, tally: Tally | None) -> None:
        """The next record of the input; its counts also go to `tally`."""
        effects = self._fold.step(record)
        summary = effects.summary
        assert isinstance(summary, BatchSummary)
        self._count(summary)
        if tally is not None:
            tally.take(record, summary)
        for letter in effects.sends.get(self._config.dead_letters_topic, _NOTHING):
            self.letters[record.offset] = letter_digest(letter.key, letter.value, letter.headers, letter.timestamp_ms)
        self._take(effects, tally)

    def take_answer(self, answer: SourceRecord, tally: Tally | None) -> None:
        """The next answer to first_session."""
        if tally is not None:
            tally.take_answer(answer)
        self._take(self._fold.step_of_answer(answer), tally)

    def _take(self, effects: Effects, tally: Tally | None) -> None:
        outputs = effects.sends.get(self._config.enriched_topic, _NOTHING)
        if tally is not None:
            tally.enriched += len(outputs)
        for output in outputs:
            assert output.key is not None
            whole = digest(output.key, output.value, output.headers, output.timestamp_ms)
            self.outputs.add(output.key, whole, is_required=not self._is_window_open)
        if self._is_window_open:
            for key, row in effects.rows.items():
                after = None if row.value is None else row
                self.rows_in_window.setdefault(key, [self.rows.get(key)]).append(after)
        self._fold.apply(effects)

    def acceptable_rows(self, key: bytes) -> list[OutRecord | None]:
        """What may stand in the changelog for this key; None = no row."""
        return self.rows_in_window.get(key) or [self.rows.get(key)]

    def _count(self, summary: BatchSummary) -> None:
        outcomes = summary.outcomes
        if outcomes.accepted:
            self.outcomes["accepted"] += 1
        elif outcomes.unchanged:
            self.outcomes["unchanged"] += 1
        elif outcomes.duplicate:
            self.outcomes["duplicate"] += 1
        else:
            self.outcomes["rejected"] += 1
            self.reasons.update(summary.reasons)
