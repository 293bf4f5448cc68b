"""Nothing a producer can put into a record makes the handler raise, loses the record, or spoils a session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.partition import LonePartition
from tests.schemas.updates import updates, written
from tests.wire.damage import damaged
from worker.agents.sessions import HELD_KEY, BatchSummary, SessionsConfig, SessionsHandler
from worker.engine.batch import Batch
from worker.session.rejections import CODES
from worker.wire import row

CONFIG: Final = SessionsConfig()
POSITION_KEY: Final = b"\xff\x00position"
"""A row of the engine's own, in no format of ours."""
FIRST: Final = b'{"integration_id":"order-1","application_id":7,"customer_session":{"profile_id":"P"}}'


class Source(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, Any]]


VALUES: Final = st.none() | st.binary(max_size=40) | damaged() | updates(faults=2).map(written)
KEYS: Final = st.sampled_from([None, b"order-1", b"order-2", b"", POSITION_KEY, HELD_KEY, b"\xff", b"\x00"])
TIMESTAMPS: Final = st.sampled_from([1_795_342_530_100, 0, -1, -(2**63), 2**63 - 1, 253_402_300_800_000])
HEADERS: Final = st.lists(
    st.tuples(
        st.sampled_from(["traceparent", "tracestate", "ce_id", "content-type", "dead_letter.code", "", "é"]),
        st.binary(max_size=5) | st.none(),
    ),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TIMESTAMPS, KEYS, VALUES, HEADERS), min_size=1, max_size=12))
def test_every_record_has_one_outcome_and_no_row_is_spoilt(records: list[Any]) -> None:
    partition = LonePartition(CONFIG, "updates", 0)
    partition.rows[POSITION_KEY] = b"the engine's"
    for offset, record in enumerate([(0, b"order-1", FIRST, ()), *records]):
        source = Source(offset, *record)
        effects = partition.take(offset, [source])
        assert isinstance(effects.summary, BatchSummary)
        outcomes = effects.summary.outcomes
        assert sum(getattr(outcomes, name) for name in outcomes.__struct_fields__) == 1
        for letter in effects.sends.get(CONFIG.dead_letters_topic, []):
            assert (letter.key, letter.value, letter.timestamp_ms) == (source.key, source.value, source.timestamp)
            assert letter.headers[: len(source.headers)] == list(source.headers)
            ours = {name: text.decode() for name, text in letter.headers[len(source.headers) :]}
            assert ours["dead_letter.code"] in CODES
        for out in effects.sends.get(CONFIG.enriched_topic, []):
            event = json.loads(out.value or b"")
            assert out.key == event["integration_id"].encode()
            assert all(type(name) is str and type(text) is bytes for name, text in out.headers)
        for key, changed in effects.rows.items():
            assert key != POSITION_KEY
            assert changed.value is not None
    for key, stored in partition.rows.items():
        if not key.startswith(b"\xff"):
            assert row.decode(stored).integration_id.encode() == key


@pytest.mark.parametrize("key", [POSITION_KEY, HELD_KEY, b"\xff", b"\xfforder-1"])
def test_a_key_that_is_no_id_never_reaches_a_row_that_is_no_session(key: bytes) -> None:
    rows = {POSITION_KEY: b"the engine's", HELD_KEY: b"0", b"\xfforder-1": b"?", b"\xff": b"?"}
    before = dict(rows)
    for value in (None, FIRST, b"{}", written({"integration_id": "\\udcff", "customer_session": {}})):
        effects = SessionsHandler(CONFIG)(Batch("updates", 0, 0, [Source(0, 0, key, value, ())]), rows)
        (letter,) = effects.sends[CONFIG.dead_letters_topic]
        assert dict(letter.headers)["dead_letter.state"] == b""
        assert effects.rows == {}
    assert rows == before


def test_profiles_may_have_any_name() -> None:
    partition = LonePartition(CONFIG, "updates", 0)
    for number, name in enumerate(["", "\x00", "claim/", "ÿ", "a" * 1000, "😀"]):
        value = written({"integration_id": f"o{number}", "application_id": 1, "customer_session": {"profile_id": name}})
        effects = partition.take(number, [Source(number, 0, None, value, ())])
        assert len(effects.sends[CONFIG.enriched_topic]) == 1
        assert (name.encode() in partition.profiles) == (name != "")
