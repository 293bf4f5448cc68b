"""How far a local store has come, of which changelog, and whether the changelog can still bring it the rest.

A store that cannot be trusted is thrown away and restored from the beginning: that costs seconds, a wrong row costs
a customer. What makes one unfit is decided here, in one pure function.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple, Self

import msgspec

from worker.engine.batch import RESERVED_KEY_PREFIX

CHECKPOINT_KEY: Final = RESERVED_KEY_PREFIX + b"\x00checkpoint"
_FORMAT: Final = 1

_CLOCK_SLACK_MS: Final = 60_000
"""A wall clock that is set by the network goes back by milliseconds; more is a clock that was wrong."""


class Checkpoint(msgspec.Struct, frozen=True):
    """Written with the rows, in the same write."""

    format: int
    changelog_id: str
    """The broker's own id of the changelog topic: another one after it was deleted and created again."""
    changelog_offset: int
    """The next offset to apply; 0 for an empty store."""
    caught_up_ms: int
    """When the store last held all there was, in milliseconds since the epoch: a wall clock's, because it must
    outlive the machine's restarts, and the only one the engine looks at."""

    @classmethod
    def beginning(cls, changelog_id: str) -> Self:
        """Of an empty store."""
        return cls(_FORMAT, changelog_id, 0, wall_clock_ms())

    def at(self, changelog_offset: int) -> Checkpoint:
        """Further on the way to the changelog's end."""
        return Checkpoint(_FORMAT, self.changelog_id, changelog_offset, self.caught_up_ms)

    def caught_up(self, changelog_offset: int) -> Checkpoint:
        """At the changelog's end."""
        return Checkpoint(_FORMAT, self.changelog_id, changelog_offset, wall_clock_ms())


class ChangelogPartition(NamedTuple):
    """What is there to restore from."""

    topic_id: str
    delete_retention_ms: int
    """How long the broker keeps a tombstone after compaction saw it first."""
    begin: int
    end: int


def unfit(checkpoint: Checkpoint, changelog: ChangelogPartition, now_ms: int) -> str | None:
    """Why a store at this checkpoint must be rebuilt; None when the changelog from there on makes it complete."""
    if checkpoint.changelog_offset == 0:
        return None
    if checkpoint.changelog_id != changelog.topic_id:
        return "the changelog was deleted and created again"
    if checkpoint.changelog_offset > changelog.end:
        return "it is ahead of the changelog"
    if checkpoint.changelog_offset < changelog.begin:
        return "the changelog begins after it"
    # One offset is the commit marker of the last transaction the store has. Where nothing else followed, no
    # tombstone can have come and gone.
    if changelog.end - checkpoint.changelog_offset <= 1:
        return None
    age_ms = now_ms - checkpoint.caught_up_ms
    # Half, because clocks of two machines differ and the broker counts from when it first compacted.
    if not -_CLOCK_SLACK_MS <= age_ms <= changelog.delete_retention_ms // 2:
        return "it was not kept up to date for so long that the changelog may have forgotten deletions"
    return None


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Checkpoint)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    return _encoder.encode(checkpoint)


def decode_checkpoint(value: bytes) -> Checkpoint:
    """Raises ValueError for what this version did not write."""
    try:
        checkpoint = _decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise ValueError(f"its checkpoint cannot be read: {error}") from error
    if checkpoint.format != _FORMAT:
        raise ValueError(f"its checkpoint has format {checkpoint.format}, this version reads format {_FORMAT}")
    return checkpoint
