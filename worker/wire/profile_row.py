"""A profile ↔ the bytes of its row in the profiles table: MessagePack, [version, [the fields of Profile]]."""

from __future__ import annotations

from typing import Final

import msgspec

from worker.session.profile import Profile
from worker.wire.row import UnreadableRow

VERSION: Final = 1
_PREFIX: Final = bytes([0x92, VERSION])

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[int, Profile]).decode


def encode(profile: Profile) -> bytes:
    """The row of a profile. Equal profiles give equal bytes."""
    return _encode((VERSION, profile))


def decode(row: bytes) -> Profile:
    """The profile of a row. Raises UnreadableRow for another version, or bytes no worker wrote."""
    if not row.startswith(_PREFIX):
        raise UnreadableRow(
            f"a profile's row of version {VERSION} begins with {_PREFIX.hex(' ')}, this one with {row[:4].hex(' ')}"
        )
    try:
        return _decode(row)[1]
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise UnreadableRow(f"this profile's row of version {VERSION} is damaged: {problem}") from problem
