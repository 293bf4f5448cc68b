"""What one transaction did, as a record of the ledger topic: ranges of offsets join without gap, so the sum of
all records is the count of all input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from worker.session.rejections import Code

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Outcomes(Struct, frozen=True, gc=False):
    """Events by outcome; every input record is in exactly one."""

    accepted: int
    unchanged: int
    duplicate: int
    rejected: int


class Answers(Struct, frozen=True, gc=False):
    """The answers to first_session that a transaction took, of the answers partition of the same number."""

    first_offset: int
    last_offset: int
    records: int


class Entry(Struct, frozen=True, gc=False, omit_defaults=True):
    """A ledger record's value. Offsets from `first_offset` to `last_offset`, both included, are done; some may
    hold no record (transaction markers, compaction), so `records` can be less than the range. A transaction of
    answers alone has an empty range: its `last_offset` is one less than its `first_offset`."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    records: int
    outcomes: Outcomes
    reasons: Mapping[Code, int]
    """Rejected events by code, only codes that occurred."""
    ignored_fields: int
    """Members of events that are unknown, or the worker's to set."""
    enriched: int
    """Enriched records written: with those of earlier updates whose answer came, without those that wait for one."""
    answers: Answers | None = None
    """Not there when the transaction took none."""


def encode(entry: Entry) -> bytes:
    """The value, JSON."""
    return _encode(entry)
