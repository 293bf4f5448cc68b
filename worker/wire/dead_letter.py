"""The headers that tell why a record was refused (session semantics, section 5). The record itself goes to the
dead-letter topic as it came: key, value bytes, timestamp and headers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from worker.session.rejections import Rejected
from worker.wire import pointer

PREFIX: Final = "dead_letter."


def headers(
    rejected: Rejected,
    received: Sequence[tuple[str, bytes]],
    *,
    value: bytes | None,
    state: str,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    worker_version: str,
) -> list[tuple[str, bytes]]:
    """The `received` headers, then ours, all text in UTF-8. `state` is the stored session's, "" for none."""
    reason = {
        "code": rejected.code,
        "message": rejected.message,
        "pointer": pointer.spelled(rejected.path, value),
        "state": state,
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "timestamp": str(timestamp_ms),
        "worker_version": worker_version,
    }
    return [*received, *((PREFIX + name, text.encode()) for name, text in reason.items())]
