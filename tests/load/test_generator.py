"""The synthetic stream: the same for a seed, in order, and with the shares of session semantics, section 8."""

from __future__ import annotations

import hashlib
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice
from typing import Any

import orjson
import pytest

from worker.load.event import StreamEvent
from worker.load.generator import HOT_PROFILE, START_MS, generate, play
from worker.load.mix import Mix
from worker.load.poison import INVALID, MALFORMED, OVER_LIMITS
from worker.load.producers import PRODUCERS

MIX = Mix.of(20_000)
OWN_UPDATES = ("created", "updated", "bound", "closed", "cancelled", "cancelled_after_close")


@pytest.fixture(scope="module")
def stream() -> list[StreamEvent]:
    """A full-size stream, about 113,000 events."""
    return list(play(MIX, seed=1))


@pytest.fixture(scope="module")
def shares(stream: list[StreamEvent]) -> dict[str, float]:
    """The share of each kind in all events; broken records by the name of their table."""
    kinds = Counter(event.kind.partition(":")[0] for event in stream)
    return {kind: number / len(stream) for kind, number in kinds.items()}


def digest(events: Iterable[StreamEvent]) -> str:
    return hashlib.sha256(repr(list(events)).encode()).hexdigest()


def by_session(stream: Iterable[StreamEvent]) -> dict[bytes | None, list[StreamEvent]]:
    sessions = defaultdict(list)
    for event in stream:
        sessions[event.key].append(event)
    return sessions


def body(event: StreamEvent) -> dict[str, Any]:
    document = orjson.loads(event.value or b"")
    found: dict[str, Any] = document.get("customer_session") or document.get("customerSession") or {}
    return found


def field(fields: dict[str, Any], snake: str, camel: str) -> Any:
    return fields.get(snake, fields.get(camel))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert digest(generate(300, seed=7)) == digest(generate(300, seed=7))
    assert digest(generate(300, seed=7)) != digest(generate(300, seed=8))


def test_an_endless_stream_begins_like_a_full_size_one_and_goes_on_with_other_sessions(
    stream: list[StreamEvent],
) -> None:
    endless = generate(None, seed=1)
    assert digest(islice(endless, len(stream))) == digest(stream)
    later = list(islice(endless, 2_000))
    assert later[0].timestamp_ms == stream[-1].timestamp_ms + 1
    assert not {event.key for event in later if event.kind in OWN_UPDATES} & {event.key for event in stream}


def test_record_times_rise_by_a_millisecond(stream: list[StreamEvent]) -> None:
    assert [event.timestamp_ms for event in stream] == list(range(START_MS, START_MS + len(stream)))


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("duplicate", 0.02),
        ("retry", 0.01),
        ("late_update", 0.005),
        ("spurious_open", 0.005),
        ("malformed", 0.003),
        ("over_limits", 0.001),
        ("invalid", 0.001),
        ("wrong_application", 0.0005),
        ("reused_event_id", 0.0005),
        ("closed_before_open", 0.0005),
    ],
)
def test_events_go_wrong_in_the_stated_shares(
    shares: dict[str, float], stream: list[StreamEvent], kind: str, share: float
) -> None:
    # Five standard deviations of a count that is about Poisson.
    tolerance = 5 * (share / len(stream)) ** 0.5
    assert shares[kind] == pytest.approx(share, abs=tolerance)


def test_sessions_end_in_the_stated_shares(stream: list[StreamEvent]) -> None:
    kinds = Counter(event.kind for event in stream)
    assert kinds["created"] == MIX.sessions + 1
    assert kinds["cancelled"] / MIX.sessions == pytest.approx(0.05, abs=0.005)
    assert kinds["cancelled_after_close"] / MIX.sessions == pytest.approx(0.04, abs=0.005)
    assert (kinds["closed"] - kinds["cancelled_after_close"]) / MIX.sessions == pytest.approx(0.30, abs=0.015)


def test_a_session_has_one_update_and_on_average_four_more(stream: list[StreamEvent]) -> None:
    hot = b"order-1-hot"
    own = [
        sum(event.kind in OWN_UPDATES for event in events) for key, events in by_session(stream).items() if key != hot
    ]
    lengths = [length for length in own if length]
    assert len(lengths) == MIX.sessions
    # A session with a binding and transitions has an update for each, so the mean is a little above 5.
    assert statistics.mean(lengths) == pytest.approx(5.1, abs=0.15)
    # Geometric: each update is followed by another with probability 0.8.
    assert sum(length > 10 for length in lengths) / len(lengths) == pytest.approx(0.8**10, abs=0.01)


def test_the_final_carts_have_lognormal_sizes_around_four_lines(stream: list[StreamEvent]) -> None:
    largest: dict[bytes | None, int] = Counter()
    for event in stream:
        if event.kind in OWN_UPDATES:
            cart = field(body(event), "cart_items", "cartItems") or []
            largest[event.key] = max(largest[event.key], len(cart))
    sizes = sorted(largest.values())
    assert statistics.median(sizes) == 4
    # One standard deviation of the logarithm is a factor of e.
    assert sizes[len(sizes) * 841 // 1000] == pytest.approx(4 * 2.718, abs=1)
    assert 60 < sizes[-1] <= MIX.max_lines


def test_a_quarter_starts_anonymous_and_two_fifths_of_those_are_bound_later(stream: list[StreamEvent]) -> None:
    sessions = by_session(stream)
    anonymous = [
        events
        for events in sessions.values()
        for first in [event for event in events if event.kind == "created"]
        if not field(body(first), "profile_id", "profileId")
    ]
    assert len(anonymous) / MIX.sessions == pytest.approx(0.25, abs=0.015)
    bound = [event for events in anonymous for event in events if event.kind == "bound"]
    assert len(bound) / len(anonymous) == pytest.approx(0.40, abs=0.03)
    assert len(bound) == sum(event.kind == "bound" for event in stream)
    assert all(field(body(event), "profile_id", "profileId") for event in bound)


def test_the_hot_key_has_5000_updates_and_the_hot_profile_2000_sessions(stream: list[StreamEvent]) -> None:
    sessions = by_session(stream)
    assert sum(event.kind in OWN_UPDATES for event in sessions[b"order-1-hot"]) == 5_000
    hot = {
        event.key
        for event in stream
        if event.kind == "created" and field(body(event), "profile_id", "profileId") == HOT_PROFILE
    }
    assert len(hot) == pytest.approx(2_000, abs=200)
    places = [place for place, event in enumerate(stream) if event.key == b"order-1-hot"]
    assert places[len(places) // 2] == pytest.approx(len(stream) / 2, rel=0.1), "the hot key is spread over the stream"


def test_a_small_stream_has_a_smaller_hot_key() -> None:
    kinds = Counter(event.kind for event in generate(400, seed=1) if event.key == b"order-1-hot")
    assert sum(kinds[kind] for kind in OWN_UPDATES) == 100


def test_a_session_is_created_before_it_is_changed_and_closed_before_late_updates(stream: list[StreamEvent]) -> None:
    for events in by_session(stream).values():
        own = [event.kind for event in events if event.kind in OWN_UPDATES or event.kind == "late_update"]
        if not own:
            continue
        assert own[0] == "created"
        assert own.count("created") == 1
        if "late_update" in own:
            assert own.index("closed") < own.index("late_update")
        if "cancelled_after_close" in own:
            assert own.index("closed") < own.index("cancelled_after_close")


def test_sessions_interleave(stream: list[StreamEvent]) -> None:
    window = [event.key for event in stream[50_000:50_500]]
    assert len(set(window)) > 200


def test_a_duplicate_repeats_the_bytes_of_an_earlier_event_with_an_event_id(stream: list[StreamEvent]) -> None:
    for events in by_session(stream).values():
        for place, event in enumerate(events):
            if event.kind == "duplicate":
                before = [earlier.value for earlier in events[:place]]
                assert event.value in before
                assert field(orjson.loads(event.value or b""), "event_id", "eventId")


def test_every_kind_of_broken_record_occurs(stream: list[StreamEvent]) -> None:
    sent = {event.kind for event in stream}
    for table, entries in (("malformed", MALFORMED), ("invalid", INVALID), ("over_limits", OVER_LIMITS)):
        assert {f"{table}:{name}" for name in entries} <= sent


def test_every_producer_spells_and_numbers_in_its_own_way(stream: list[StreamEvent]) -> None:
    created = [orjson.loads(event.value or b"") for event in stream if event.kind == "created"]
    by_application = defaultdict(list)
    for document in created:
        by_application[field(document, "application_id", "applicationId")].append(document)
    assert set(by_application) == {producer.application_id for producer in PRODUCERS}
    for producer in PRODUCERS:
        documents = by_application[producer.application_id]
        assert len(documents) / len(created) == pytest.approx(producer.share, abs=0.015)
        for document in documents:
            assert (producer.spelling.event_id in document) == producer.sends_event_id
            assert ("sequence" in document) == producer.sends_sequence
            assert (producer.spelling.occurred_at in document) == (producer.utc_offset_minutes is not None)
            assert producer.spelling.customer_session in document


def test_prices_are_exact_digits_with_their_trailing_zeros_and_some_are_quoted(stream: list[StreamEvent]) -> None:
    valid = b"".join(event.value or b"" for event in stream[:10_000] if event.kind in OWN_UPDATES)
    prices = re.findall(rb'"price":([^,}]+)', valid)
    assert all(re.fullmatch(rb'"?(0|[1-9]\d*)(\.\d{1,4})?"?', price) for price in prices)
    assert any(price.endswith(b".50") for price in prices)
    assert any(price.startswith(b'"') for price in prices)
    assert any(len(price.partition(b".")[2]) == 4 for price in prices)


def test_values_are_a_few_hundred_bytes(stream: list[StreamEvent]) -> None:
    assert 400 < statistics.mean(len(event.value or b"") for event in stream) < 900
