"""One event of a traffic source, before it meets Kafka."""

from __future__ import annotations

from typing import NamedTuple


class StreamEvent(NamedTuple):
    """One record to send to the updates topic.

    `kind` says what its producer meant (`updated`, `duplicate`, `malformed:tombstone` …) and is what
    the player counts by. `timestamp_ms` is the source's own time in milliseconds since 1970-01-01 UTC;
    the player may stamp the record with the time of sending instead.
    """

    kind: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()
