"""The bytes of a stored session: read back as they were written, or refused by name."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.story import tell
from worker.session.model import Content, Session
from worker.wire import row

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
NUMBERS = st.sampled_from(["0", "30", "119.99", "-3.5", "0.00000000000000000001", "9" * 33])
JSON = st.sampled_from([b"[]", b"{}", b'[{"price":3.7}]', '{"É":null}'.encode(), b"x" * 70_000])
SESSIONS = st.builds(
    Session,
    integration_id=NAMES,
    created=st.just("2026-11-22T10:15:30.100000Z"),
    application_id=st.integers(-(2**63), 2**63 - 1),
    state=st.sampled_from(["open", "closed", "cancelled"]),
    content=st.builds(
        Content,
        profile_id=TEXTS,
        coupon_codes=st.lists(TEXTS, max_size=3),
        referral_code=TEXTS,
        cart_items=JSON,
        additional_costs=JSON,
        identifiers=st.lists(TEXTS, max_size=3),
        attributes=JSON,
    ),
    first_session=st.booleans(),
    cart_item_total=NUMBERS,
    additional_cost_total=NUMBERS,
    total=NUMBERS,
    revision=st.integers(1, 2**63 - 1),
    sequence=st.none() | st.integers(0, 2**63 - 1),
    recent_events=st.dictionaries(NAMES, st.binary(min_size=8, max_size=8), max_size=4),
)
ROW = tell().rows[b"order-1"]


@settings(max_examples=200, deadline=None)
@given(SESSIONS)
def test_a_session_is_read_back_as_it_was_written(session: Session) -> None:
    again = row.decode(row.encode(session))
    assert again == session
    # The oldest remembered event is the first to be forgotten, so their order is part of the session.
    assert list(again.recent_events) == list(session.recent_events)


@settings(max_examples=100, deadline=None)
@given(SESSIONS)
def test_equal_sessions_give_equal_bytes(session: Session) -> None:
    # Built anew from plain values, so that nothing is the same object.
    twin = msgspec.convert(msgspec.to_builtins(session), Session)
    assert twin == session
    assert row.encode(twin) == row.encode(session)


@settings(max_examples=100, deadline=None)
@given(SESSIONS, SESSIONS)
def test_other_sessions_give_other_bytes(one: Session, other: Session) -> None:
    assert (row.encode(one) == row.encode(other)) == (one == other)


@pytest.mark.parametrize("version", [0, 2, 127])
def test_a_row_of_another_version_is_refused_and_both_versions_are_named(version: int) -> None:
    other = bytes([0x92, version]) + ROW[2:]
    expected = rf"version 1 begins with 92 01 or 93 01, this one with 92 {version:02x}"
    with pytest.raises(row.UnreadableRow, match=expected):
        row.decode(other)


@pytest.mark.parametrize("stored", [b"", b"\x92", b"{}", b'{"version":1}', b"\xc0", b"\x01", b"\x92\xcd\x00\x01\x90"])
def test_bytes_no_worker_wrote_are_refused(stored: bytes) -> None:
    with pytest.raises(row.UnreadableRow):
        row.decode(stored)


def test_a_row_that_is_cut_anywhere_is_refused() -> None:
    for length in range(len(ROW)):
        with pytest.raises(row.UnreadableRow):
            row.decode(ROW[:length])


@pytest.mark.parametrize("more", [b"\x00", b"\xc0", ROW])
def test_a_row_with_something_behind_it_is_refused(more: bytes) -> None:
    with pytest.raises(row.UnreadableRow, match="damaged"):
        row.decode(ROW + more)


def test_a_row_with_a_field_less_or_of_another_type_is_refused() -> None:
    version, fields = msgspec.msgpack.decode(ROW)
    for index in range(len(fields)):
        with pytest.raises(row.UnreadableRow, match="damaged"):
            row.decode(msgspec.msgpack.encode([version, fields[:index]]))
        # No field of a session is a float.
        with pytest.raises(row.UnreadableRow, match="damaged"):
            row.decode(msgspec.msgpack.encode([version, [*fields[:index], 0.5, *fields[index + 1 :]]]))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_damage_is_refused_or_still_a_session_and_never_anything_else(data: st.DataObject) -> None:
    stored = bytearray(ROW)
    for _ in range(data.draw(st.integers(1, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    try:
        session = row.decode(bytes(stored))
    except row.UnreadableRow:
        return
    assert isinstance(session, Session)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_are_refused(noise: bytes) -> None:
    for stored in (noise, ROW[:2] + noise):
        with pytest.raises(row.UnreadableRow):
            row.decode(stored)
