"""A stored session ↔ the bytes of its row, in the store and in the changelog.

MessagePack: [version, [the fields of Session in their order]], and a third part, [the fields of Pending], while
outputs of the session wait for the answer to first_session. The parts of a session that are JSON text stay
that, so a row is read and written without looking into carts.
"""

from __future__ import annotations

from typing import Final

import msgspec

from worker.session.model import Session
from worker.session.pending import Pending

VERSION: Final = 1

_PREFIX: Final = bytes([0x92, VERSION])
"""An array of two, the first of them the version."""
_WAITING_PREFIX: Final = bytes([0x93, VERSION])
"""An array of three."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[int, Session]).decode
_decode_waiting: Final = msgspec.msgpack.Decoder(tuple[int, Session, Pending]).decode


class UnreadableRow(ValueError):
    """A stored row is damaged, or of a version this worker does not know: state that another worker version
    wrote, or a changelog that something else wrote to."""


def encode(session: Session, pending: Pending | None = None) -> bytes:
    """The row of a session. Equal sessions give equal bytes."""
    return _encode((VERSION, session) if pending is None else (VERSION, session, pending))


def decode(row: bytes) -> Session:
    """The session of a row. Raises UnreadableRow for another version, or bytes no worker wrote."""
    return decode_with_pending(row)[0]


def decode_with_pending(row: bytes) -> tuple[Session, Pending | None]:
    """The session of a row, and what waits in it. Raises UnreadableRow as `decode` does."""
    try:
        if row.startswith(_PREFIX):
            return _decode(row)[1], None
        if row.startswith(_WAITING_PREFIX):
            _, session, pending = _decode_waiting(row)
            return session, pending
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise UnreadableRow(f"this row of version {VERSION} is damaged: {problem}") from problem
    prefixes = f"{_PREFIX.hex(' ')} or {_WAITING_PREFIX.hex(' ')}"
    raise UnreadableRow(f"a row of version {VERSION} begins with {prefixes}, this one with {row[:4].hex(' ')}")
