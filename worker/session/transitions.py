"""The state machine of a session (session semantics, section 5) as a table one can read."""

from __future__ import annotations

from enum import Enum
from typing import Final

from worker.session.model import EventType, State
from worker.session.rejections import Code, Rejected


class Handling(Enum):
    """What a legal request does with the body that came with it."""

    MERGE = "merge"
    """The content is merged into the session."""
    COMPARE = "compare"
    """The session is final in this state: only a body that changes nothing is fine."""
    IGNORE = "ignore"
    """The state moves; the content of the body is not looked at."""


LEGAL: Final[dict[tuple[State, State | None], tuple[State, Handling]]] = {
    ("open", None): ("open", Handling.MERGE),
    ("open", "open"): ("open", Handling.MERGE),
    ("open", "closed"): ("closed", Handling.MERGE),
    ("open", "cancelled"): ("cancelled", Handling.MERGE),
    ("closed", None): ("closed", Handling.COMPARE),
    ("closed", "closed"): ("closed", Handling.COMPARE),
    ("closed", "cancelled"): ("cancelled", Handling.IGNORE),
    ("cancelled", None): ("cancelled", Handling.COMPARE),
    ("cancelled", "cancelled"): ("cancelled", Handling.COMPARE),
}
"""(stored, requested) → (next, what happens to the body). Everything absent is an invalid transition."""

EVENT_TYPES: Final[dict[tuple[State, State], EventType]] = {
    ("open", "open"): "session_updated",
    ("open", "closed"): "session_closed",
    ("open", "cancelled"): "session_cancelled",
    ("closed", "cancelled"): "session_revoked",
}
"""(before, after) → the type of the output record."""

FINAL_CODES: Final[dict[State, Code]] = {"closed": "session_closed", "cancelled": "session_cancelled"}
"""The reason for refusing other content in a state that takes no more changes."""

_STATE: Final = ("customer_session", "state")


def invalid(stored: State, requested: State) -> Rejected:
    """The refusal of a move the table does not have, in the vendor's words."""
    return Rejected("invalid_transition", f'Cannot move session to state "{requested}" from state "{stored}"', _STATE)


def must_start_open(requested: State) -> Rejected:
    """The refusal of a first event that asks for another state than open."""
    return Rejected("must_start_open", f'A new session starts in state "open", not "{requested}"', _STATE)
