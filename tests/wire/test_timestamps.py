"""Moments: RFC 3339 in any offset, and Kafka's milliseconds, to UTC in microseconds (session semantics, 3 and 5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.wire.timestamps import from_milliseconds, from_text

# The strategy wants bounds without a zone and adds it.
_FIRST, _LAST = datetime(1, 1, 2), datetime(9999, 12, 30)  # noqa: DTZ001
_OFFSETS = st.integers(-(23 * 60 + 59), 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(_FIRST, _LAST, timezones=_OFFSETS)


def in_our_form(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


@settings(max_examples=300, deadline=None)
@given(MOMENTS)
def test_a_moment_is_the_same_one_in_utc(moment: datetime) -> None:
    assert from_text(moment.isoformat(timespec="microseconds")) == in_our_form(moment)


@settings(max_examples=300, deadline=None)
@given(MOMENTS, st.text("0123456789", min_size=1, max_size=12), st.sampled_from(["Z", "z", "+00:00", "-00:00"]))
def test_digits_beyond_microseconds_are_cut_and_missing_ones_are_zeros(
    moment: datetime, fraction: str, utc: str
) -> None:
    second = moment.replace(tzinfo=None).isoformat(timespec="seconds")
    assert from_text(f"{second}.{fraction}{utc}") == f"{second}.{fraction[:6].ljust(6, '0')}Z"


@settings(max_examples=200, deadline=None)
@given(MOMENTS, MOMENTS)
def test_our_form_sorts_as_text_and_is_its_own_form(one: datetime, other: datetime) -> None:
    first, second = from_text(one.isoformat()), from_text(other.isoformat())
    assert first is not None
    assert second is not None
    assert (first < second) == (one < other)
    assert from_text(first) == first


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T10:15:30.1Z", "2026-11-22T10:15:30.100000Z"),
        ("2026-11-22T10:15:30Z", "2026-11-22T10:15:30.000000Z"),
        ("2026-11-22t10:15:30z", "2026-11-22T10:15:30.000000Z"),
        ("2026-11-22T10:15:30.9999999Z", "2026-11-22T10:15:30.999999Z"),  # cut: rounding would be the next second
        ("2026-12-31T23:59:59.9999999999Z", "2026-12-31T23:59:59.999999Z"),  # … or the next year
        ("2026-12-31T23:59:59.9999999+00:00", "2026-12-31T23:59:59.999999Z"),
        ("2026-11-22T01:15:30+02:00", "2026-11-21T23:15:30.000000Z"),
        ("2026-12-31T23:30:00-05:45", "2027-01-01T05:15:00.000000Z"),
        ("2026-03-01T00:00:00+23:59", "2026-02-28T00:01:00.000000Z"),
        ("2024-03-01T00:00:00+00:01", "2024-02-29T23:59:00.000000Z"),
    ],
)
def test_a_moment_is_written_in_utc_with_six_digits(text: str, moment: str) -> None:
    assert from_text(text) == moment


@pytest.mark.parametrize("day", ["2024-02-29", "2000-02-29", "2026-01-31", "2026-04-30", "2026-12-31"])
@pytest.mark.parametrize("utc", ["Z", "+00:00"])
def test_the_last_day_of_a_month_is_a_day(day: str, utc: str) -> None:
    assert from_text(f"{day}T23:59:59{utc}") == f"{day}T23:59:59.000000Z"


@pytest.mark.parametrize(
    "day",
    ["2026-02-29", "1900-02-29", "2100-02-29", "2026-02-30", "2026-04-31", "2026-11-00", "2026-00-10", "2026-13-01"],
)
@pytest.mark.parametrize("utc", ["Z", "+00:00"])
def test_a_day_that_is_in_no_calendar_is_refused(day: str, utc: str) -> None:
    assert from_text(f"{day}T10:15:30{utc}") is None


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:59:60Z",  # a leap second that was
        "2026-11-22T10:15:60Z",  # and one that was not
        "2017-01-01T00:59:60+01:00",
        "2026-11-22T24:00:00Z",
        "2026-11-22T24:00:00+00:00",
        "2026-11-22T10:60:00Z",
    ],
)
def test_a_time_that_no_clock_of_ours_shows_is_refused(text: str) -> None:
    assert from_text(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026-11-22",
        "2026-11-22T10:15:30",  # without an offset it is no moment
        "2026-11-22 10:15:30Z",
        "2026-11-22T10:15Z",
        "2026-11-22T10:15:30,1Z",
        "2026-11-22T10:15:30.Z",
        "2026-11-22T10:15:30+02",
        "2026-11-22T10:15:30+0200",
        "2026-11-22T10:15:30+24:00",
        "2026-11-22T10:15:30+02:60",
        "2026-11-22T10:15:30 +02:00",
        "2026-11-22T10:15:30Z\n",
        " 2026-11-22T10:15:30Z",
        "20261122T101530Z",
        "2026-W47-7T10:15:30Z",
        "2026-326T10:15:30Z",
        "26-11-22T10:15:30Z",
        "+002026-11-22T10:15:30Z",
        "-2026-11-22T10:15:30Z",
        "2026-11-22T10:15:30Zulu",
        "٢٠٢٦-11-22T10:15:30Z",  # digits, but not of RFC 3339
        "2026-11-22T10:15:30.１Z",
        "1795342530100",
    ],
)
def test_a_text_that_is_not_rfc_3339_is_refused(text: str) -> None:
    assert from_text(text) is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ("0001-01-01T00:00:00-00:01", "0001-01-01T00:01:00.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:59:59.999999+00:01", "9999-12-31T23:58:59.999999Z"),
        ("0001-01-01T00:00:00+00:01", None),
        ("9999-12-31T23:59:59-00:01", None),
        ("0000-12-31T23:59:59Z", None),
        ("0000-12-31T23:59:59-23:59", None),
        ("10000-01-01T00:00:00Z", None),
    ],
)
def test_the_years_1_to_9999_in_utc_are_the_bounds(text: str, moment: str | None) -> None:
    assert from_text(text) == moment


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 253_402_300_799_999))
def test_a_kafka_timestamp_is_that_moment(milliseconds: int) -> None:
    moment = from_milliseconds(milliseconds)
    assert moment == in_our_form(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds))
    assert from_text(moment) == moment


@pytest.mark.parametrize(
    ("milliseconds", "moment"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1, "1970-01-01T00:00:00.001000Z"),
        (1_795_342_530_123, "2026-11-22T10:15:30.123000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999000Z"),
        (253_402_300_800_000, None),
        (2**63 - 1, None),
        (-1, None),  # Kafka's way to say there is none
        (-(2**63), None),
    ],
)
def test_a_kafka_timestamp_beyond_the_years_or_of_no_time_is_none(milliseconds: int, moment: str | None) -> None:
    assert from_milliseconds(milliseconds) == moment
