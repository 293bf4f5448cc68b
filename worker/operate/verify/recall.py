"""The input folded once more, for the few records that a comparison has only digests of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from worker.agents.sessions import SessionsConfig
from worker.engine.batch import Effects, SourceRecord
from worker.operate.verify.findings import Told
from worker.operate.verify.fold import Fold
from worker.operate.verify.reading import PartitionLog


class Recalled(NamedTuple):
    """An expected record, and the input record it comes from."""

    told: Told
    source_offset: int


class Recalls(NamedTuple):
    """Outputs by ordinal, dead letters by source offset."""

    outputs: dict[int, Recalled]
    letters: dict[int, Recalled]


async def recall(
    source: PartitionLog,
    answers: PartitionLog,
    transactions: Iterable[tuple[int, int]],
    fold: Fold,
    config: SessionsConfig,
    outputs: Iterable[int],
    letters: Iterable[int],
) -> Recalls:
    """The outputs of these ordinals and the dead letters of these source offsets, as they must be.

    `transactions` says how far input and answers were read after each: in that order they are folded again.
    """
    wanted_outputs, wanted_letters = set(outputs), set(letters)
    recalls = Recalls({}, {})
    ordinal = 0
    async for record, effects in _folded(source, answers, transactions, fold):
        for output in effects.sends.get(config.enriched_topic, ()):
            if ordinal in wanted_outputs:
                wanted_outputs.discard(ordinal)
                recalls.outputs[ordinal] = Recalled(Told.expected(output), record.offset)
            ordinal += 1
        for letter in effects.sends.get(config.dead_letters_topic, ()):
            if record.offset in wanted_letters:
                wanted_letters.discard(record.offset)
                recalls.letters[record.offset] = Recalled(Told.expected(letter), record.offset)
        if not wanted_outputs and not wanted_letters:
            break
        fold.apply(effects)
    return recalls


async def _folded(
    source: PartitionLog, answers: PartitionLog, transactions: Iterable[tuple[int, int]], fold: Fold
) -> AsyncIterator[tuple[SourceRecord, Effects]]:
    """Every record and what it leads to; the caller applies that before it asks for the next."""
    for source_end, answers_end in transactions:
        async for records in answers.until(answers_end):
            for record in records:
                yield record, fold.step_of_answer(record)
        async for records in source.until(source_end):
            for record in records:
                yield record, fold.step(record)
