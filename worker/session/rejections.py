"""Why an update is refused (session semantics, section 5): a closed set of codes, a message, a place."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

Code: TypeAlias = Literal[
    "malformed",
    "schema_invalid",
    "limit_exceeded",
    "application_mismatch",
    "must_start_open",
    "invalid_transition",
    "session_closed",
    "session_cancelled",
    "event_id_conflict",
    "stale",
]
CODES: Final[tuple[Code, ...]] = get_args(Code)

Path: TypeAlias = tuple[str | int, ...]
"""Members and indexes from the event's root to the value at fault. Names of our fields are written in
snake_case whatever the producer wrote; whoever shows a path to a producer spells it their way."""


class Rejected(Struct, frozen=True, gc=False):
    """The update changes nothing: no state, no output, no claim, and its event_id is not remembered."""

    code: Code
    message: str
    """A sentence for the person who wrote the producer. It never quotes input of unbounded length."""
    path: Path = ()
    """() = the event as a whole."""


def last_name(path: Path) -> str:
    """What a message calls the value at `path`: its own name, or that of the list it is in."""
    name = next((part for part in reversed(path) if isinstance(part, str)), "the event")
    return name if len(name) <= 100 else f"{name[:100]}…"
