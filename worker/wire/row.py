"""A stored session ↔ the bytes of its row, in the store and in the changelog.

MessagePack: [version, [the fields of Session in their order]]. The parts of a session that are JSON text stay
that, so a row is read and written without looking into carts.
"""

from __future__ import annotations

from typing import Final

import msgspec

from worker.session.model import Session

VERSION: Final = 1

_PREFIX: Final = bytes([0x92, VERSION])
"""An array of two, the first of them the version."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[int, Session]).decode


class UnreadableRow(ValueError):
    """A stored row is damaged, or of a version this worker does not know: state that another worker version
    wrote, or a changelog that something else wrote to."""


def encode(session: Session) -> bytes:
    """The row of a session. Equal sessions give equal bytes."""
    return _encode((VERSION, session))


def decode(row: bytes) -> Session:
    """The session of a row. Raises UnreadableRow for another version, or bytes no worker wrote."""
    if not row.startswith(_PREFIX):
        raise UnreadableRow(f"a row of version {VERSION} begins with {_PREFIX.hex(' ')}, this one {row[:4].hex(' ')}")
    try:
        return _decode(row)[1]
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise UnreadableRow(f"this row of version {VERSION} is damaged: {problem}") from problem
