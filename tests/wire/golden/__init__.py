"""Bytes on the wire, pinned: what the story of `tests.wire.story` came to when somebody last looked at it.

The files here change only when a person says so. After a deliberate change of the wire run

    python -m tests.wire.golden

and read the difference before committing it: consumers of the topics will see the same one, and a worker
that cannot read the rows of the last release cannot be upgraded to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.wire.story import tell
from worker.engine.batch import RESERVED_KEY_PREFIX, OutRecord

DIRECTORY: Final = Path(__file__).parent


def _records(records: list[OutRecord]) -> bytes:
    return b"\n".join(map(_record, records))


def _record(record: OutRecord) -> bytes:
    """A record for eyes and diffs: key, timestamp, headers in order, an empty line, the value as it is.

    Texts that are not UTF-8 are escaped; no value the worker writes has a line break.
    """
    lines = [f"key: {_text(record.key)}", f"timestamp: {record.timestamp_ms}"]
    lines += [f"{name}: {_text(text)}" for name, text in record.headers]
    return "\n".join([*lines, "", _text(record.value), ""]).encode()


def _text(value: bytes | None) -> str:
    return "(null)" if value is None else value.decode(errors="backslashreplace")


def _rows(rows: dict[bytes, bytes]) -> bytes:
    """Each session's row in hexadecimal, 32 bytes a line. The engine's own rows and claims are not wire format."""
    blocks = []
    for key, row in rows.items():
        if not key.startswith(RESERVED_KEY_PREFIX):
            lines = [row[start : start + 32].hex() for start in range(0, len(row), 32)]
            blocks.append("\n".join([f"key: {key.decode()}", *lines, ""]))
    return "\n".join(blocks).encode()


def row_in(pinned: bytes, key: str) -> bytes:
    """A row out of the file of rows."""
    [block] = [block for block in pinned.decode().split("\n\n") if block.startswith(f"key: {key}\n")]
    return bytes.fromhex("".join(block.splitlines()[1:]))


FILES: Final[dict[str, Callable[[], bytes]]] = {
    "enriched.snake.txt": lambda: _records(tell("snake").enriched),
    "enriched.camel.txt": lambda: _records(tell("camel").enriched),
    "dead_letters.txt": lambda: _records(tell().dead_letters),
    "ledger.txt": lambda: _records(tell().ledger),
    "rows.txt": lambda: _rows(tell().rows),
}
"""What belongs in each file."""
