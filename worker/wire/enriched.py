"""An accepted change → the enriched session record: JSON value and CloudEvents headers (session semantics,
section 2). The same change gives the same bytes, always.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, get_args

import msgspec
from msgspec import Raw, Struct

from worker.session.model import EventType, Session, Timestamp, Update
from worker.wire.spelling import OutputCase, in_camel_case

Headers = list[tuple[str, bytes]]

TRACE_HEADERS: Final = frozenset({"traceparent", "tracestate"})
"""W3C trace context of the input record, carried over as it came."""


class _Entity(Struct, frozen=True, gc=False):
    """The 15 fields, in the order of session semantics, section 3."""

    integration_id: str
    created: str
    application_id: int
    profile_id: str
    coupon_codes: list[str]
    referral_code: str
    state: str
    cart_items: Raw
    additional_costs: Raw
    identifiers: list[str]
    attributes: Raw
    first_session: bool
    cart_item_total: Raw
    additional_cost_total: Raw
    total: Raw


class _Envelope(Struct, frozen=True, gc=False):
    type: EventType
    revision: int
    event_id: str | None
    integration_id: str
    application_id: int
    occurred_at: str
    customer_session: _Entity


_CamelEntity: Final = in_camel_case(_Entity)
_CamelEnvelope: Final = in_camel_case(_Envelope, {_Entity: _CamelEntity})

_encode: Final = msgspec.json.Encoder().encode

OWN_HEADERS: Final = 6
"""How many headers a record has that carries no trace context."""

_SPECVERSION: Final = ("ce_specversion", b"1.0")
_TYPES: Final = {event_type: ("ce_type", event_type.encode()) for event_type in get_args(EventType)}
_CONTENT_TYPE: Final = ("content-type", b"application/json")


def encode(event_type: EventType, session: Session, update: Update, case: OutputCase = "snake") -> bytes:
    """The value. `session` is as it is after the update; `update` names the event that caused it."""
    entity, envelope = (_Entity, _Envelope) if case == "snake" else (_CamelEntity, _CamelEnvelope)
    content = session.content
    return _encode(
        envelope(
            event_type,
            session.revision,
            update.event_id,
            session.integration_id,
            session.application_id,
            update.occurred_at,
            entity(
                session.integration_id,
                session.created,
                session.application_id,
                content.profile_id,
                content.coupon_codes,
                content.referral_code,
                session.state,
                Raw(content.cart_items),
                Raw(content.additional_costs),
                content.identifiers,
                Raw(content.attributes),
                session.first_session,
                Raw(session.cart_item_total),
                Raw(session.additional_cost_total),
                Raw(session.total),
            ),
        )
    )


_AFTER_FIRST_SESSION_BYTES: Final = 256
"""At most so far from the end of a value stands what it says of first_session: three totals follow."""


def with_first_session(value: bytes, *, first_session: bool) -> bytes:
    """The value, saying this of first_session."""
    tail = max(len(value) - _AFTER_FIRST_SESSION_BYTES, 0)
    # Only numbers follow, so the last occurrence is never a caller's text. The setting may have been another then.
    at, name = max((value.rfind(name, tail), name) for name in _FIRST_SESSION_NAMES)
    assert at >= 0, "every enriched value says whether its session is the first"
    at += len(name)
    said = value[at : at + 4] == b"true"
    if said is first_session:
        return value
    return value[:at] + (b"true" if first_session else b"false") + value[at + (4 if said else 5) :]


_FIRST_SESSION_NAMES: Final = (b'"first_session":', b'"firstSession":')


def headers(event_type: EventType, session: Session, update: Update, received: Sequence[tuple[str, bytes]]) -> Headers:
    """CloudEvents in Kafka's binary mode, then the trace context among the `received` headers."""
    built = headers_of_revision(event_type, session, session.revision, update.occurred_at)
    if received:
        # A Kafka header may have a null value, whatever the client's types say; it carries no trace.
        built += [header for header in received if header[0] in TRACE_HEADERS and header[1] is not None]
    return built


def headers_of_revision(event_type: EventType, session: Session, revision: int, occurred_at: Timestamp) -> Headers:
    """Those of our own, the first OWN_HEADERS, for any revision of the session."""
    return [
        _SPECVERSION,
        ("ce_id", f"{session.integration_id}/{revision}".encode()),
        _TYPES[event_type],
        _source(session.application_id),
        ("ce_time", occurred_at.encode()),
        _CONTENT_TYPE,
    ]


@lru_cache(maxsize=1024)
def _source(application_id: int) -> tuple[str, bytes]:
    """The header that names the application; there are few of them, so thousands of records share one."""
    return ("ce_source", b"/session-worker/%d" % application_id)
