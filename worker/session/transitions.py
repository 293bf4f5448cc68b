"""The state machine of a session (session semantics, section 5) as a table one can read."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from worker.session.model import EventType, State
from worker.session.rejections import Code, Rejected

Handling: TypeAlias = Literal["merge", "compare", "ignore"]
"""What a legal request does with the body that came with it.

merge: its content becomes the session's.
compare: the session is final in this state, only a body that changes nothing is fine.
ignore: the state moves, and nobody looks at the content of the body.
"""

LEGAL: Final[dict[tuple[State, State | None], tuple[State, Handling]]] = {
    ("open", None): ("open", "merge"),
    ("open", "open"): ("open", "merge"),
    ("open", "closed"): ("closed", "merge"),
    ("open", "cancelled"): ("cancelled", "merge"),
    ("closed", None): ("closed", "compare"),
    ("closed", "closed"): ("closed", "compare"),
    ("closed", "cancelled"): ("cancelled", "ignore"),
    ("cancelled", None): ("cancelled", "compare"),
    ("cancelled", "cancelled"): ("cancelled", "compare"),
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
