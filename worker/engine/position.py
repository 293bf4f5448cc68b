"""The position record: how far source and feedback were read, kept with the rows that led to.

Every transaction writes one, under a reserved key, to the changelog. So restoring the state restores the
position, and neither an expired or reset group offset nor a coordinator that moves (aiokafka reads a
failed OffsetFetch as "no offset committed") can make a worker process anything twice.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from worker.engine.batch import RESERVED_KEY_PREFIX
from worker.errors import UnknownFormat

POSITION_KEY: Final = RESERVED_KEY_PREFIX + b"\x00position"


class Position(NamedTuple):
    """The next offsets to read of a source partition, and of the feedback partition of the same number."""

    topic: str
    offset: int
    feedback_offset: int = 0
    """0 for a stage without feedback."""
    topic_id: str = ""
    """The broker's own id of the source topic, as metadata.py asks for it. Empty in records
    of versions that did not write it."""


class _Stored(msgspec.Struct, frozen=True):
    format: int
    topic: str
    offset: int
    feedback_offset: int
    topic_id: str = ""


_FORMAT: Final = 1
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Stored)


def encode_position(position: Position) -> bytes:
    return _encoder.encode(_Stored(_FORMAT, *position))


def decode_position(value: bytes) -> Position:
    """Raises UnknownFormat for a record this version cannot read."""
    try:
        stored = _decoder.decode(value)
    except msgspec.DecodeError as error:
        raise UnknownFormat(
            f"a position record of the changelog cannot be read: {error}",
            "check that no other program writes to the changelog topic; restore the topic from a backup",
        ) from error
    if stored.format != _FORMAT:
        raise UnknownFormat(
            f"a position record has format {stored.format}, this version reads format {_FORMAT}",
            "run the version of the worker that wrote this state, or a newer one",
        )
    return Position(stored.topic, stored.offset, stored.feedback_offset, stored.topic_id)
