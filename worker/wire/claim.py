"""Claims on profiles and the answers to them: two internal topics between the sessions and the profiles stage.

Both are JSON. A claim's key is the profile_id, so that all claims of a profile are in one partition, whose order
decides. An answer's key is the integration_id; it goes to the partition the claim came from.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

import msgspec
from msgspec import Struct


class Claim(Struct, frozen=True, gc=False):
    """The update that made `revision` of a session bound it to a profile."""

    profile_id: str
    integration_id: str
    revision: int
    partition: int
    """Where the session is, and the answer goes."""
    timestamp_ms: int
    """Of that update's record; the claim's own is when it was written."""


class Answer(Struct, frozen=True, gc=False):
    """Who owns the profile that a claim was made on."""

    integration_id: str
    profile_id: str
    revision: int
    owner: str

    @property
    def first_session(self) -> bool:
        """Whether the session that asked owns the profile's claim."""
        return self.owner == self.integration_id


class UnreadableClaim(ValueError):
    """A record of the claims or answers topic that no worker of this version wrote."""


_encode: Final = msgspec.json.Encoder().encode
_decode_claim: Final = msgspec.json.Decoder(Claim).decode
_decode_answer: Final = msgspec.json.Decoder(Answer).decode


def partition_of(profile_id: str, partitions: int) -> int:
    """The claims partition of a profile: CRC-32 of its UTF-8, modulo the number of partitions."""
    return crc32(profile_id.encode()) % partitions


def encode(record: Claim | Answer) -> bytes:
    """The value, JSON."""
    return _encode(record)


def decode_claim(value: bytes | None) -> Claim:
    """Raises UnreadableClaim."""
    try:
        return _decode_claim(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise UnreadableClaim(f"not a claim: {problem}") from problem


def decode_answer(value: bytes | None) -> Answer:
    """Raises UnreadableClaim."""
    try:
        return _decode_answer(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise UnreadableClaim(f"not an answer: {problem}") from problem
