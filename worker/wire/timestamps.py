"""Moments as the wire writes them: RFC 3339, in UTC, microseconds (session semantics, section 3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from worker.session.model import Timestamp

_CANONICAL: Final = re.compile(
    r"[12][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
).fullmatch
"""The form we write, of a day that every month has: nothing to change and nothing to check."""

_RFC_3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?(?:([Zz])|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
).fullmatch

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def from_text(text: str) -> Timestamp | None:
    """The moment a producer wrote, in our form. None when it is not RFC 3339 with an offset, no day of the
    calendar, a leap second (:60), or outside the years 1 to 9999 in UTC.

    Digits beyond microseconds are cut, not rounded: a moment never moves into the future.
    """
    if _CANONICAL(text) is not None:
        return text
    match = _RFC_3339(text)
    if match is None:
        return None
    day, time, fraction, _, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}")
        if sign is not None:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            moment = moment - offset if sign == "+" else moment + offset
    except (ValueError, OverflowError):
        return None
    return f"{moment.isoformat()}.{(fraction or '')[:6]:0<6}Z"


def from_milliseconds(milliseconds: int) -> Timestamp | None:
    """The moment of a Kafka timestamp. None when it has none (negative) or lies beyond the year 9999."""
    if milliseconds < 0:
        return None
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
