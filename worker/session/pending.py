"""Outputs that wait for the answer to first_session (session semantics, section 6).

An update that binds a session to a profile makes a claim, and the profile's own partition answers whether this
session owns it. Until then the session's outputs are kept in its row, in order; other sessions go on. A session may
bind again while it waits: each output then waits for the binding it was made under.
"""

from __future__ import annotations

from bisect import bisect_right

from msgspec import Struct
from msgspec.structs import replace


class Binding(Struct, frozen=True, array_like=True, gc=False):
    """One update that bound the session to a profile."""

    revision: int
    """Of that update: what tells a session's bindings apart."""
    first_session: bool | None
    """None: not answered yet."""


class HeldOutput(Struct, frozen=True, array_like=True, gc=False):
    """An enriched record that lacks nothing but the value of first_session."""

    revision: int
    before: bytes
    """Its value up to where first_session's value belongs."""
    after: bytes
    headers: list[tuple[str, bytes]]
    timestamp_ms: int

    def value(self, *, first_session: bool) -> bytes:
        """The complete value."""
        return self.before + (b"true" if first_session else b"false") + self.after

    @property
    def cost_bytes(self) -> int:
        """What holding it costs, roughly."""
        headers = sum(len(name) + len(text) for name, text in self.headers)
        return len(self.before) + len(self.after) + headers + _HELD_OVERHEAD_BYTES


_HELD_OVERHEAD_BYTES = 64


class Pending(Struct, frozen=True, array_like=True, gc=False):
    """What a session waits for, and what waits in it. Stored in the session's row, see wire.row."""

    touched_ms: int
    """Timestamp of the last update that changed the row. An answer may come at any time, so its own must not show."""
    bindings: list[Binding]
    """Those that held outputs depend on, oldest first; the last one also decides the session's first_session."""
    held: list[HeldOutput]

    @property
    def held_bytes(self) -> int:
        """What all held outputs cost together."""
        return sum(output.cost_bytes for output in self.held)

    def hold(self, output: HeldOutput, touched_ms: int, *, binds: bool) -> Pending:
        """With one more output, at the end; `binds` when its update made a new binding."""
        bindings = [*self.bindings, Binding(output.revision, None)] if binds else self.bindings
        return Pending(touched_ms, bindings, [*self.held, output])

    def touch(self, touched_ms: int) -> Pending:
        """After an update that changed the row and made no output."""
        return replace(self, touched_ms=touched_ms)

    def answer(self, revision: int, *, first_session: bool) -> Pending:
        """With the answer to the binding that `revision` made. Raises UnexpectedAnswer when none waits for it."""
        bindings = [
            Binding(revision, first_session) if binding == Binding(revision, None) else binding
            for binding in self.bindings
        ]
        if bindings == self.bindings:
            raise UnexpectedAnswer(f"no binding of revision {revision} waits for an answer")
        return replace(self, bindings=bindings)

    @property
    def first_session(self) -> bool | None:
        """The last binding's answer; None while there is none."""
        return self.bindings[-1].first_session

    def release(self) -> tuple[list[tuple[HeldOutput, bool]], Pending | None]:
        """The outputs that wait no more, with their first_session; and what still waits, None when nothing does."""
        revisions = [binding.revision for binding in self.bindings]
        ready: list[tuple[HeldOutput, bool]] = []
        for output in self.held:
            first_session = self.bindings[bisect_right(revisions, output.revision) - 1].first_session
            if first_session is None:
                break
            ready.append((output, first_session))
        held = self.held[len(ready) :]
        if not held:
            return ready, None
        needed = bisect_right(revisions, held[0].revision) - 1
        return ready, Pending(self.touched_ms, self.bindings[needed:], held)


class UnexpectedAnswer(ValueError):
    """An answer that no binding waits for. Exactly once, there is none: something else wrote to the answers."""
