"""One partition verified, on a live installation. The steps; the code below carries the same numbers:

1. Ask where the topics end, in this order: the ledger's committed end; the other topics, open transactions
   included; the ledger, open transactions included. Wait until all of these are decided.
2. Read the changelog: the rows and the position as of then.
3. Walk the ledger, folding the input range by range. Ranges below the ledger's first end were committed before
   the other topics were looked at: all they lead to must be there. Those behind it, up to the first one behind
   the ledger's second end, may have been committed just before or just after: what they lead to may be there. (The
   transactions of a partition follow one another, so no later one can show.)
4. Compare the rows, the outputs and the dead letters.
5. Look behind those ends for keys with newer records: compaction may have removed the older ones meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final, NamedTuple

from worker.agents.sessions import SessionsConfig
from worker.engine.batch import SourceRecord
from worker.engine.position import Position
from worker.errors import NotVerifiable
from worker.operate.verify import changelog
from worker.operate.verify.changelog import ChangelogView
from worker.operate.verify.dead_letters import DeadLetterComparison
from worker.operate.verify.findings import Findings
from worker.operate.verify.fold import PartitionModel, Tally
from worker.operate.verify.ledger_walk import LedgerWalk, entry_of
from worker.operate.verify.outputs import OutputComparison
from worker.operate.verify.reading import PartitionLog, Reader

NoteProgress = Callable[[int, int, int], None]
"""Called with the partition, how many input offsets are done, and how many there are."""

RETENTION_REMEDY: Final = (
    "only input that is whole can be folded again: keep it longer (retention.ms of the topic) where you want to "
    "verify; sessions, outputs and dead letters are not affected"
)


class TopicNames(NamedTuple):
    """What a worker reads, then what it writes."""

    updates: str
    answers: str
    enriched: str
    dead_letters: str
    ledger: str
    changelog: str

    @property
    def written(self) -> tuple[str, str, str, str]:
        return self[2:]


class _Bounds(NamedTuple):
    """Offsets of step 1, each that of the next record. "Required" and "allowed" are the ledger's two ends."""

    ledger_begin: int
    ledger_required: int
    ledger_allowed: int
    ledger_end: int
    enriched_end: int
    letters_end: int
    changelog_end: int
    input_begin: int
    input_end: int
    answers_begin: int
    answers_end: int


class PartitionVerification:
    """Verifies one partition, once; then its fields are the result."""

    def __init__(
        self,
        reader: Reader,
        names: TopicNames,
        config: SessionsConfig,
        partition: int,
        note_progress: NoteProgress,
    ) -> None:
        self._reader, self._names, self._partition = reader, names, partition
        self._note_progress = note_progress
        self._model = PartitionModel(config, names.updates, partition)
        self._folded_timestamp_ms = 0
        self.findings = {topic: Findings() for topic in names.written}
        self.first_offset = 0
        self.next_offset = 0
        self.transactions: list[tuple[int, int]] = []
        """The offsets of input and answers after each."""
        self.written_by: Counter[str] = Counter()

    @property
    def partition(self) -> int:
        return self._partition

    @property
    def outcomes(self) -> Counter[str]:
        return self._model.outcomes

    @property
    def reasons(self) -> Counter[str]:
        return self._model.reasons

    async def run(self) -> None:
        """Raises NotVerifiable when the input does not reach back to where the work began."""
        bounds = await self._bounds()  # Step 1
        view = await self._read_changelog(bounds)  # Step 2
        ends = await self._fold(bounds, view.position)  # Step 3
        await self._compare_rows(view, ends, bounds)  # Steps 4 and 5
        await self._compare_outputs(bounds)
        await self._compare_letters(bounds)
        for findings in self.findings.values():
            findings.settle()

    async def _bounds(self) -> _Bounds:
        reader, names, partition = self._reader, self._names, self._partition
        written = (names.enriched, names.dead_letters, names.changelog)
        required = await reader.decided_end(names.ledger, partition)
        ends = await reader.high_watermarks(partition, *written)
        (allowed,) = await reader.high_watermarks(partition, names.ledger)
        for topic, end in zip(written, ends, strict=True):
            await reader.wait_decided(topic, partition, end)
        # What is decided above has its ledger record below this end.
        (ledger_end,) = await reader.high_watermarks(partition, names.ledger)
        await reader.wait_decided(names.ledger, partition, ledger_end)
        return _Bounds(
            await reader.beginning(names.ledger, partition),
            required,
            allowed,
            ledger_end,
            ends[0],
            ends[1],
            ends[2],
            await reader.beginning(names.updates, partition),
            await reader.decided_end(names.updates, partition),
            await reader.beginning(names.answers, partition),
            await reader.decided_end(names.answers, partition),
        )

    async def _read_changelog(self, bounds: _Bounds) -> ChangelogView:
        view = ChangelogView(self.findings[self._names.changelog])
        async for records in (await self._log(self._names.changelog, bounds.changelog_end)).until():
            for record in records:
                view.take(record)
        return view

    # ------------------------------------------------------------------ the input and the ledger

    async def _fold(self, bounds: _Bounds, position: Position | None) -> dict[Position | None, int]:
        """Folds the input as far as the work has come. Returns where it may stand now, as the position record of
        a transaction says it, each with the timestamp of its last record."""
        names, model = self._names, self._model
        entries, source, answers = self._reader.open_logs(
            self._partition,
            (names.ledger, bounds.ledger_begin, bounds.ledger_end),
            (names.updates, bounds.input_begin, bounds.input_end),
            (names.answers, bounds.answers_begin, bounds.answers_end),
        )
        walk: LedgerWalk | None = None
        ends: dict[Position | None, int] = {None: 0}
        async for record in _relevant(entries, bounds):
            walk = walk or await self._begin(record, bounds, source)
            if record.offset < bounds.ledger_required:
                ends.clear()
            else:
                model.open_window(walk.reached)
            entry = walk.begin(record)
            if entry is not None:
                if entry.answers is not None:
                    await self._take_answers(answers, entry.answers.first_offset, None)
                await self._take(source, entry.first_offset)
                tally = Tally(walk.answers_reached)
                if entry.answers is not None:
                    await self._take_answers(answers, entry.answers.last_offset + 1, tally)
                await self._take(source, entry.last_offset + 1, tally)
                walk.end(record, entry, tally)
                model.outputs.end_transaction()
                self.transactions.append((walk.reached, walk.answers_reached))
            ends[Position(names.updates, walk.reached, walk.answers_reached)] = self._folded_timestamp_ms
        has_ledger = walk is not None or not bounds.ledger_begin
        walk = walk or await self._begin(None, bounds, source)
        if position is not None and position.topic == names.updates and _is_ahead(position, walk, source, answers):
            if has_ledger:
                _tell_skipped(position, walk)
            await self._take_answers(answers, position.feedback_offset, None)
            await self._take(source, position.offset)
            walk.reached, walk.answers_reached = position.offset, position.feedback_offset
            self.transactions.append((walk.reached, walk.answers_reached))
            ends = {position: self._folded_timestamp_ms}
        self.next_offset = walk.reached
        return ends

    async def _begin(self, record: SourceRecord | None, bounds: _Bounds, source: PartitionLog) -> LedgerWalk:
        """The walk, from where the work on this partition began: `record` is the first of the ledger."""
        names, partition, begin = self._names, self._partition, bounds.input_begin
        first = None if record is None else entry_of(record)
        if first is not None and (first.topic, first.partition) != (names.updates, partition):
            first = None
        where = f"{names.updates}[{partition}]"
        start = begin
        if first is not None and first.first_offset < begin:
            raise NotVerifiable(
                f"{where}: the work began at offset {first.first_offset}, and records {first.first_offset} to "
                f"{begin - 1} of the input are no longer there",
                RETENTION_REMEDY,
            )
        if bounds.ledger_begin and (first is None or first.first_offset > begin):
            # The ledger's oldest records were deleted, so it does not tell where the work began.
            if begin:
                raise NotVerifiable(
                    f"{where}: the input begins at offset {begin}, the ledger only later; whether the worker began "
                    "there, or with records that are no longer there, cannot be told",
                    RETENTION_REMEDY,
                )
            start = 0 if first is None else first.first_offset
            await self._take(source, start)
        self.first_offset = begin
        return LedgerWalk(names.updates, partition, start, self.findings[names.ledger], bounds.answers_begin)

    async def _take(self, source: PartitionLog, offset: int, tally: Tally | None = None) -> None:
        """Folds the input up to `offset`."""
        model = self._model
        async for records in source.until(offset):
            for record in records:
                model.take(record, tally)
            self._folded_timestamp_ms = records[-1].timestamp
            self._note_progress(self._partition, records[-1].offset + 1 - source.begin, source.end - source.begin)

    async def _take_answers(self, answers: PartitionLog, offset: int, tally: Tally | None) -> None:
        """Folds the answers up to `offset`."""
        async for records in answers.until(offset):
            for record in records:
                self._model.take_answer(record, tally)
            self._folded_timestamp_ms = records[-1].timestamp

    # ------------------------------------------------------------------ what the worker wrote

    async def _compare_rows(self, view: ChangelogView, ends: dict[Position | None, int], bounds: _Bounds) -> None:
        suspects = [*view.compare(self._model), *view.compare_position(ends)]
        rewritten = await self._rewritten(self._names.changelog, bounds.changelog_end) if suspects else ()
        changelog.report(suspects, rewritten, self.findings[self._names.changelog])

    async def _compare_outputs(self, bounds: _Bounds) -> None:
        topic = self._names.enriched
        comparison = OutputComparison(self._model.outputs, self.findings[topic])
        async for records in (await self._log(topic, bounds.enriched_end)).until():
            for record in records:
                comparison.take(record)
        comparison.finish(await self._rewritten(topic, bounds.enriched_end) if comparison.missing() else ())

    async def _compare_letters(self, bounds: _Bounds) -> None:
        topic, model = self._names.dead_letters, self._model
        comparison = DeadLetterComparison(model.letters, model.letters_required_below, self.findings[topic])
        log = await self._log(topic, bounds.letters_end)
        async for records in log.until():
            for record in records:
                comparison.take(record)
        comparison.finish(head_is_deleted=log.begin > 0)
        self.written_by = comparison.written_by

    async def _rewritten(self, topic: str, end: int) -> Collection[bytes | None]:
        """Keys of records behind `end`."""
        newer = await self._reader.decided_end(topic, self._partition)
        (log,) = self._reader.open_logs(self._partition, (topic, end, max(end, newer)))
        return {record.key async for records in log.until() for record in records}

    async def _log(self, topic: str, end: int) -> PartitionLog:
        begin = await self._reader.beginning(topic, self._partition)
        (log,) = self._reader.open_logs(self._partition, (topic, begin, max(begin, end)))
        return log


def _is_ahead(position: Position, walk: LedgerWalk, source: PartitionLog, answers: PartitionLog) -> bool:
    """Whether a transaction behind the last ledger record is possible, and the position says that there was one."""
    if position.offset > source.end or position.feedback_offset > answers.end:
        return False
    return position.offset > walk.reached or position.feedback_offset > walk.answers_reached


def _tell_skipped(position: Position, walk: LedgerWalk) -> None:
    why = ", though the position record says that they are done"
    if position.offset > walk.reached:
        walk.skip(position.offset, None, why)
    if position.feedback_offset > walk.answers_reached:
        walk.skip_answers(position.feedback_offset, why)


async def _relevant(entries: PartitionLog, bounds: _Bounds) -> AsyncIterator[SourceRecord]:
    """The ledger's records up to the first one behind its second end, that one included."""
    async for records in entries.until():
        for record in records:
            yield record
            if record.offset >= bounds.ledger_allowed:
                return
