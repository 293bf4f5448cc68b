"""A profile: which session owns its claim, and which sessions are bound to it (session semantics, section 6)."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

SESSIONS_KEPT: Final = 100
"""How many of a profile's sessions are remembered, the latest ones: a profile may have any number."""


class Profile(Struct, frozen=True, array_like=True, gc=False):
    """A profile as stored. The order of the fields is the format of its row: append only, and raise its version."""

    owner: str
    """integration_id of the first session ever bound to it. Never changes."""
    sessions: list[str]
    """integration_ids of the sessions bound to it, in the order of their claims, the latest SESSIONS_KEPT."""
    is_cut: bool = False
    """Whether earlier sessions were left out of `sessions`."""


def claimed(profile: Profile | None, integration_id: str) -> Profile:
    """The profile after a session was bound to it. The same claim again changes nothing."""
    if profile is None:
        return Profile(integration_id, [integration_id])
    if integration_id in profile.sessions:
        return profile
    sessions = [*profile.sessions, integration_id]
    return Profile(profile.owner, sessions[-SESSIONS_KEPT:], profile.is_cut or len(sessions) > SESSIONS_KEPT)
