"""The input folded once more, for the few records that a comparison has only digests of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from worker.agents.sessions import SessionsConfig
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
    source: PartitionLog, fold: Fold, config: SessionsConfig, outputs: Iterable[int], letters: Iterable[int]
) -> Recalls:
    """The outputs of these ordinals and the dead letters of these source offsets, as they must be."""
    wanted_outputs, wanted_letters = set(outputs), set(letters)
    recalls = Recalls({}, {})
    ordinal = 0
    async for records in source.until():
        for record in records:
            if not wanted_outputs and not wanted_letters:
                return recalls
            effects = fold.step(record)
            for output in effects.sends.get(config.enriched_topic, ()):
                if ordinal in wanted_outputs:
                    wanted_outputs.discard(ordinal)
                    recalls.outputs[ordinal] = Recalled(Told.expected(output), record.offset)
                ordinal += 1
            if record.offset in wanted_letters:
                wanted_letters.discard(record.offset)
                for letter in effects.sends.get(config.dead_letters_topic, ()):
                    recalls.letters[record.offset] = Recalled(Told.expected(letter), record.offset)
            fold.apply(effects)
    return recalls
