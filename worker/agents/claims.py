"""TEMPORARY: which session owns a profile's claim, as far as one partition can tell.

session semantics, section 6, wants one claim per profile across all partitions. Until the claims have a stage of
their own, partitioned by profile, each partition keeps the claims made by its own sessions, as rows beside them:
two sessions of one profile on different partitions are then both first. This module, and the two lines in
`worker.agents.sessions` that use it, are all there is of it.
"""

from __future__ import annotations

from typing import Final

from worker.engine.batch import RESERVED_KEY_PREFIX, OutRecord, RowsView

CLAIM_KEY_PREFIX: Final = RESERVED_KEY_PREFIX + b"\x01claim/"
"""Then the profile_id in UTF-8. The row's value is the owner's integration_id in UTF-8."""


class PartitionClaims:
    """The claims of one partition: the committed ones, and those a batch makes."""

    def __init__(self, rows: RowsView) -> None:
        self._rows = rows
        self._made: dict[bytes, OutRecord] = {}

    def owner_of(self, profile_id: str) -> str | None:
        """The integration_id that owns the claim, None when nobody does yet."""
        key = CLAIM_KEY_PREFIX + profile_id.encode()
        made = self._made.get(key)
        owner = self._rows.get(key) if made is None else made.value
        return None if owner is None else owner.decode()

    def make(self, profile_id: str, integration_id: str, timestamp_ms: int) -> None:
        """Writes the claim down, once: callers ask `owner_of` before."""
        key = CLAIM_KEY_PREFIX + profile_id.encode()
        self._made[key] = OutRecord(key, integration_id.encode(), [], timestamp_ms)

    def made(self) -> dict[bytes, OutRecord]:
        """The rows of the claims this batch made."""
        return self._made
