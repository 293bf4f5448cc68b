"""How much of what a synthetic stream holds: the shares of session semantics, section 8, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FULL_SIZE_SESSIONS: Final = 20_000
"""From this many sessions on (about 100,000 events) the hot key and the hot profile have the sizes of section 8."""

HOT_KEY_UPDATES: Final = 5_000
HOT_PROFILE_SESSIONS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Mix:
    """Sizes and shares of one synthetic stream.

    Shares of *sessions* are probabilities per session; shares of *events* are fractions of all events
    sent. The defaults are those of section 8, then a few more so that every way to be refused occurs.
    """

    sessions: int
    hot_key_updates: int = HOT_KEY_UPDATES
    hot_profile_sessions: int = HOT_PROFILE_SESSIONS

    # Per session.
    mean_further_updates: float = 4.0
    median_lines: float = 4.0
    lines_sigma: float = 1.0
    max_lines: int = 1_000
    anonymous: float = 0.25
    bound_later: float = 0.40  # of the anonymous ones
    closed: float = 0.30
    cancelled: float = 0.05
    cancelled_after_close: float = 0.04

    # Of all events, as section 8 gives them.
    duplicates: float = 0.02
    retries: float = 0.01
    late_updates: float = 0.005
    spurious_opens: float = 0.005
    malformed: float = 0.003
    over_limits: float = 0.001

    # Of all events, ours: refusals that section 8 leaves out but real streams hold.
    invalid: float = 0.001
    wrong_applications: float = 0.0005
    reused_event_ids: float = 0.0005
    closed_before_open: float = 0.0005

    concurrent_sessions: int = 500
    """How many sessions are alive at a time; their events interleave."""

    @classmethod
    def of(cls, sessions: int) -> Mix:
        """The mix for a stream of that many sessions; below full size the hot key and profile are smaller too."""
        scale = min(1.0, sessions / FULL_SIZE_SESSIONS)
        return cls(
            sessions=sessions,
            hot_key_updates=round(HOT_KEY_UPDATES * scale),
            hot_profile_sessions=round(HOT_PROFILE_SESSIONS * scale),
        )

    @property
    def ever_closed(self) -> float:
        """Share of sessions that are closed at some time."""
        return self.closed + self.cancelled_after_close

    @property
    def regular_events(self) -> float:
        """Expected number of events that are a session's own updates, before anything is repeated or broken."""
        bound = self.anonymous * self.bound_later
        per_session = 0.0
        for transitions, share in (
            (0, 1.0 - self.ever_closed - self.cancelled),
            (1, self.closed + self.cancelled),
            (2, self.cancelled_after_close),
        ):
            per_session += share * (1.0 - bound) * self._mean_at_least(1 + transitions)
            per_session += share * bound * self._mean_at_least(2 + transitions)
        return self.sessions * per_session + self.hot_key_updates

    @property
    def all_events(self) -> float:
        """Expected number of events of the whole stream."""
        extra = (
            self.duplicates
            + self.retries
            + self.late_updates
            + self.spurious_opens
            + self.malformed
            + self.over_limits
            + self.invalid
            + self.wrong_applications
            + self.reused_event_ids
            + self.closed_before_open
        )
        return self.regular_events / (1.0 - extra)

    def _mean_at_least(self, least: int) -> float:
        """Mean of max(least, 1 + geometric): a session with a transition or a binding needs an update for each."""
        stay = self.mean_further_updates / (1.0 + self.mean_further_updates)
        mean_beyond: float = (1.0 + self.mean_further_updates) * stay**least
        return least + mean_beyond
