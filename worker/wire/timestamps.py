"""Moments as the wire writes them: RFC 3339, in UTC, microseconds (session semantics, section 3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from worker.session.model import Timestamp

_UTC: Final = re.compile(
    r"[12][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?Z"
).fullmatch
"""What most producers write, on a day that every month has: nothing to check, and at most zeros to add."""

_RFC_3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}):([0-5][0-9])(?:\.([0-9]+))?([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch

_LENGTH: Final = len("2026-11-22T10:15:30.100000Z")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTES_KNOWN: Final = 4096
"""Events that arrive together tell of the same minutes: a few thousand cover every offset on earth for an hour."""


def from_text(text: str) -> Timestamp | None:
    """The moment a producer wrote, in our form. None when it is not RFC 3339 with an offset, no day of the
    calendar, a leap second (:60), or outside the years 1 to 9999 in UTC.

    Digits beyond microseconds are cut, not rounded: a moment never moves into the future.
    """
    if _UTC(text) is not None:
        if len(text) == _LENGTH:
            return text
        return f"{text[:-1]:0<26}Z" if "." in text else f"{text[:-1]}.000000Z"
    match = _RFC_3339(text)
    if match is None:
        return None
    minute, second, fraction, offset = match.groups()
    start = _utc_minute(minute, offset)
    return None if start is None else f"{start}:{second}.{(fraction or '')[:6]:0<6}Z"


@lru_cache(maxsize=_MINUTES_KNOWN)
def _utc_minute(minute: str, offset: str) -> str | None:
    """A minute of local time in UTC: `2026-11-22T11:15`, `+01:00` → `2026-11-22T10:15`."""
    try:
        moment = datetime.fromisoformat(minute.upper())
        if len(offset) > 1:
            ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6]))
            moment = moment - ahead if offset[0] == "+" else moment + ahead
    except (ValueError, OverflowError):
        return None
    return moment.isoformat(timespec="minutes")


def from_milliseconds(milliseconds: int) -> Timestamp | None:
    """The moment of a Kafka timestamp. None when it has none (negative) or lies beyond the year 9999."""
    if milliseconds < 0:
        return None
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
