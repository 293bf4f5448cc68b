"""Outputs that wait for the answer to first_session (session semantics, section 6).

An update that binds a session to a profile makes a claim, and the profile's own partition answers whether this
session owns it. Until then the session's outputs are kept in its row, in order; other sessions go on. A session may
bind again while it waits: each output then waits for the binding it was made under.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from msgspec import Struct

from worker.session.model import EventType, Timestamp


class Binding(Struct, frozen=True, array_like=True, gc=False):
    """One update that bound the session to a profile."""

    revision: int
    """Of that update: what tells a session's bindings apart."""
    first_session: bool | None
    """None: not answered yet."""


class HeldOutput(Struct, frozen=True, array_like=True, gc=False):
    """An enriched record of which all is known but first_session."""

    revision: int
    value: bytes
    """Complete but for what it says of first_session, which may be wrong."""
    event_type: EventType
    occurred_at: Timestamp
    carried_over: list[tuple[str, bytes]]
    """Headers of the update that travel along."""
    timestamp_ms: int

    @property
    def cost_bytes(self) -> int:
        """What holding it costs, roughly."""
        carried_over = sum(len(name) + len(text) for name, text in self.carried_over) if self.carried_over else 0
        return len(self.value) + carried_over + _HELD_OVERHEAD_BYTES


_HELD_OVERHEAD_BYTES: Final = 128


class Pending(Struct, array_like=True, gc=False):
    """What a session waits for, and what waits in it. Stored in the session's row, see wire.row.

    Changes in place: a batch reads it once and writes it once, however many updates of the session it has.
    """

    touched_ms: int
    """Timestamp of the last update that changed the row. An answer may come at any time, so its own must not show."""
    held_bytes: int
    """What all held outputs cost together."""
    bindings: list[Binding]
    """Those that held outputs depend on, oldest first; the last one also decides the session's first_session."""
    held: list[HeldOutput]

    def hold(self, output: HeldOutput, *, binds: bool) -> None:
        """One more output, at the end; `binds` when its update made a new binding."""
        if binds:
            self.bindings.append(Binding(output.revision, None))
        self.held.append(output)
        self.held_bytes += output.cost_bytes
        self.touched_ms = output.timestamp_ms

    def answer(self, revision: int, *, first_session: bool) -> None:
        """The answer to the binding that `revision` made. Raises UnexpectedAnswer when none waits for it."""
        try:
            at = self.bindings.index(Binding(revision, None))
        except ValueError:
            raise UnexpectedAnswer(f"no binding of revision {revision} waits for an answer") from None
        self.bindings[at] = Binding(revision, first_session)

    @property
    def first_session(self) -> bool | None:
        """The last binding's answer; None while there is none."""
        return self.bindings[-1].first_session

    def release(self) -> list[tuple[HeldOutput, bool]]:
        """Takes out the outputs that wait no more, with their first_session. When none is left in `held`, nothing
        waits any more."""
        revisions = [binding.revision for binding in self.bindings]
        ready: list[tuple[HeldOutput, bool]] = []
        for output in self.held:
            first_session = self.bindings[bisect_right(revisions, output.revision) - 1].first_session
            if first_session is None:
                break
            ready.append((output, first_session))
            self.held_bytes -= output.cost_bytes
        del self.held[: len(ready)]
        if self.held:
            del self.bindings[: bisect_right(revisions, self.held[0].revision) - 1]
        return ready


class UnexpectedAnswer(ValueError):
    """An answer that no binding waits for. Exactly once, there is none: something else wrote to the answers."""
