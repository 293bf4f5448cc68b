"""The profiles agent: a batch of claims becomes answers, each sent back to the partition its claim came from.

The order of the claims topic decides who was first. Nothing here can refuse a claim or wait for anything, so answers
always flow, whatever the sessions wait for.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from worker.engine.batch import Batch, Effects, OutRecord, RowsView
from worker.errors import UnknownFormat
from worker.session.profile import Profile, claimed
from worker.wire import claim, profile_row
from worker.wire.row import UnreadableRow

_NO_HEADERS: Final[list[tuple[str, bytes]]] = []


class ProfilesConfig(Struct, frozen=True):
    """What of the settings decides about profiles."""

    answers_topic: str = "session-worker-profile-answers"


class ProfilesHandler:
    """The engine's BatchHandler for claims. Holds no state between batches."""

    def __init__(self, config: ProfilesConfig) -> None:
        self._config = config

    def __call__(self, batch: Batch, rows: RowsView) -> Effects:
        """Answers every claim. Raises UnreadableClaim or UnknownFormat for what no worker wrote."""
        profiles: dict[bytes, Profile] = {}
        touched_ms: dict[bytes, int] = {}
        answers: dict[int, list[OutRecord]] = {}
        for record in batch.records:
            made = claim.decode_claim(record.value)
            key = made.profile_id.encode()
            before = profiles.get(key) or _stored(rows, key)
            profile = claimed(before, made.integration_id)
            if profile is not before:
                profiles[key] = profile
                touched_ms[key] = made.timestamp_ms
            answer = claim.Answer(made.integration_id, made.profile_id, made.revision, profile.owner)
            out = OutRecord(made.integration_id.encode(), claim.encode(answer), _NO_HEADERS, made.timestamp_ms)
            answers.setdefault(made.partition, []).append(out)
        return Effects(
            rows={
                key: OutRecord(key, profile_row.encode(profile), _NO_HEADERS, touched_ms[key])
                for key, profile in profiles.items()
            },
            routed={self._config.answers_topic: answers},
        )


def _stored(rows: RowsView, key: bytes) -> Profile | None:
    row = rows.get(key)
    try:
        return None if row is None else profile_row.decode(row)
    except UnreadableRow as problem:
        raise UnknownFormat(
            f"the stored row of a profile cannot be read: {problem}",
            "run the version of the worker that wrote the changelog, or a newer one; if no worker wrote that row, "
            "restore the changelog topic from a backup",
        ) from problem
