"""The producers of the synthetic stream: who spells, numbers and completes its updates how."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import orjson


class Completeness(Enum):
    """What of the session a producer puts into each update."""

    FULL = "the whole body every time, state included"
    CHANGED = "the changed fields only"
    NULLS = "the changed fields, and null for the others"


@dataclass(frozen=True, slots=True)
class Spelling:
    """The field names of one producer on the wire."""

    event_id: str
    integration_id: str
    application_id: str
    occurred_at: str
    customer_session: str
    profile_id: str
    coupon_codes: str
    referral_code: str
    cart_items: str
    additional_costs: str


SNAKE: Final = Spelling(
    event_id="event_id",
    integration_id="integration_id",
    application_id="application_id",
    occurred_at="occurred_at",
    customer_session="customer_session",
    profile_id="profile_id",
    coupon_codes="coupon_codes",
    referral_code="referral_code",
    cart_items="cart_items",
    additional_costs="additional_costs",
)
CAMEL: Final = Spelling(
    event_id="eventId",
    integration_id="integrationId",
    application_id="applicationId",
    occurred_at="occurredAt",
    customer_session="customerSession",
    profile_id="profileId",
    coupon_codes="couponCodes",
    referral_code="referralCode",
    cart_items="cartItems",
    additional_costs="additionalCosts",
)
MIXED: Final = Spelling(
    event_id="event_id",
    integration_id="integrationId",
    application_id="application_id",
    occurred_at="occurredAt",
    customer_session="customer_session",
    profile_id="profileId",
    coupon_codes="coupon_codes",
    referral_code="referralCode",
    cart_items="cart_items",
    additional_costs="additionalCosts",
)


@dataclass(frozen=True, slots=True)
class Producer:
    """One kind of client. `share` is of all sessions; with no `utc_offset_minutes` it sends no occurred_at."""

    name: str
    application_id: int
    share: float
    completeness: Completeness
    spelling: Spelling
    sends_event_id: bool = True
    sends_sequence: bool = False
    utc_offset_minutes: int | None = 0
    traced: bool = False
    quotes_prices: bool = False
    echoes_server_fields: bool = False


PRODUCERS: Final = (
    Producer("web shop", 1, 0.33, Completeness.FULL, SNAKE),
    Producer("mobile app", 2, 0.27, Completeness.CHANGED, CAMEL, sends_sequence=True, traced=True),
    Producer("till", 3, 0.20, Completeness.FULL, CAMEL, utc_offset_minutes=120),
    Producer("marketplace", 4, 0.14, Completeness.CHANGED, SNAKE, sends_event_id=False, sends_sequence=True),
    # The untidy minority: everything it does is accepted, and takes the decoder's slow path.
    Producer(
        "back office",
        5,
        0.04,
        Completeness.NULLS,
        SNAKE,
        sends_event_id=False,
        utc_offset_minutes=None,
        quotes_prices=True,
        echoes_server_fields=True,
    ),
    Producer("partner feed", 6, 0.02, Completeness.FULL, MIXED, utc_offset_minutes=-330),
)

WITH_EVENT_ID_SHARE: Final = sum(producer.share for producer in PRODUCERS if producer.sends_event_id)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields around the body of one update; None = not sent."""

    event_id: str | None
    integration_id: str
    application_id: int | None
    occurred_at: str | None
    sequence: int | None


def encode(spelling: Spelling, envelope: Envelope, body: dict[str, Any]) -> bytes:
    """The value bytes of one update. `body` is spelled already and may hold orjson Fragments."""
    document: dict[str, Any] = {}
    if envelope.event_id is not None:
        document[spelling.event_id] = envelope.event_id
    document[spelling.integration_id] = envelope.integration_id
    if envelope.application_id is not None:
        document[spelling.application_id] = envelope.application_id
    if envelope.occurred_at is not None:
        document[spelling.occurred_at] = envelope.occurred_at
    if envelope.sequence is not None:
        document["sequence"] = envelope.sequence
    document[spelling.customer_session] = body
    # Copied: a bytes object as orjson returns it keeps its 4 KB write buffer, and streams are held by the thousand.
    return bytes(memoryview(orjson.dumps(document)))
