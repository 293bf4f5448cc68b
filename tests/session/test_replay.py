"""The same input gives the same bytes, however it is cut into batches and however often it is played.

This is what makes reprocessing safe (session semantics, section 2): after a failed transaction the same records
come again, in batches of other sizes, perhaps to another process.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.partition import LonePartition
from tests.session.events import LIMITS, PROFILES, SESSIONS, rewritten, updates
from tests.session.play import DEAD_LETTERS, ENRICHED, LEDGER, PARTITION, RECORD_MS, TOPIC, Source, event, read, written
from worker.agents.sessions import SessionsConfig
from worker.engine.batch import OutRecord
from worker.load.generator import generate

HEADERS: Final = [
    (),
    (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("shop", b"\xff")),
    (("tracestate", b"a=1"), ("shop", b"")),
]


class Result(NamedTuple):
    """All that is left of an input."""

    sends: dict[str, list[OutRecord]]
    rows: dict[bytes, OutRecord]


def played(records: Sequence[Source], sizes: Sequence[int], config: SessionsConfig) -> Result:
    """Plays the records in batches of these sizes, each batch upon the rows of those before."""
    partition = LonePartition(config, TOPIC, PARTITION)
    result = Result({ENRICHED: [], DEAD_LETTERS: [], LEDGER: []}, {})
    reached = 0
    for start, end in pairwise(accumulate(sizes, initial=0)):
        effects = partition.take(reached, records[start:end])
        for topic, sent in effects.sends.items():
            result.sends[topic] += sent
        for key, changed in effects.rows.items():
            assert changed.key == key
            result.rows[key] = changed
        reached = records[end - 1].offset + 1
    return result


KINDS: Final = ["plain update"] * 4 + ["any update", "any update", "bind", "bind", "retry", "no update"]


@st.composite
def inputs(draw: st.DrawFn) -> list[Source]:
    """Records of one partition: updates, retries of earlier ones, and some that are no updates at all."""
    records: list[Source] = []
    offset = 0
    for _ in range(draw(st.integers(2, 16))):
        offset += draw(st.sampled_from([1, 1, 1, 3]))  # transaction markers and compaction leave holes
        timestamp = RECORD_MS + draw(st.integers(0, 9))
        headers = draw(st.sampled_from(HEADERS))
        match draw(st.sampled_from(KINDS)):
            case "retry" if records:
                value, key = draw(st.sampled_from([(record.value, record.key) for record in records]))
            case "no update":
                value, key = (
                    draw(st.sampled_from([None, b"", b"{", b"\xff"])),
                    draw(st.sampled_from([None, b"order-1"])),
                )
            case "bind":
                session, profile_id = draw(st.sampled_from(SESSIONS)), draw(st.sampled_from(PROFILES))
                value = written(event({"profile_id": profile_id}, integration_id=session))
                key = session.encode()
            case kind:
                sent = draw(updates(may_be_faulty=kind == "any update"))
                if kind == "plain update":  # in the way of nothing, so that sessions get somewhere
                    sent = rewritten(sent, application_id=7, sequence=None)
                value, key = sent.value, draw(st.sampled_from([None, sent.session.encode(), sent.session.encode()]))
        records.append(Source(offset, value, key, timestamp, headers))
    return records


@st.composite
def cut(draw: st.DrawFn, total: int) -> list[int]:
    """Sizes of batches that add up to the total."""
    ends = sorted(draw(st.sets(st.integers(1, total), max_size=total)) | {total})
    return [end - start for start, end in pairwise([0, *ends])]


CONFIGS: Final = st.sampled_from(
    [
        SessionsConfig(limits=LIMITS),
        SessionsConfig(limits=LIMITS, output_case="camel", max_record_bytes=1500),
    ]
)
"""1,500 bytes: some of the sessions grow too large, in the middle of a batch."""

PROPERTY: Final = settings(
    deadline=None, max_examples=60, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)


def session_by_session(result: Result) -> list[OutRecord]:
    return sorted(result.sends[ENRICHED], key=lambda record: record.key or b"")


@PROPERTY
@given(records=inputs(), config=CONFIGS, data=st.data())
def test_any_split_into_batches_gives_what_batches_of_one_give(
    records: list[Source], config: SessionsConfig, data: st.DataObject
) -> None:
    one_by_one = played(records, [1] * len(records), config)
    in_batches = played(records, data.draw(cut(len(records))), config)
    assert in_batches.rows == one_by_one.rows
    assert in_batches.sends[DEAD_LETTERS] == one_by_one.sends[DEAD_LETTERS]
    # Across sessions the order of outputs depends on when answers come.
    assert session_by_session(in_batches) == session_by_session(one_by_one)
    assert counted(in_batches) == counted(one_by_one)


@PROPERTY
@given(records=inputs(), config=CONFIGS, data=st.data())
def test_the_same_input_gives_the_same_bytes_again(
    records: list[Source], config: SessionsConfig, data: st.DataObject
) -> None:
    sizes = data.draw(cut(len(records)))
    assert played(records, sizes, config) == played(records, sizes, config)


@PROPERTY
@given(records=inputs(), config=CONFIGS, data=st.data())
def test_the_ledger_accounts_for_every_record_and_every_offset(
    records: list[Source], config: SessionsConfig, data: st.DataObject
) -> None:
    sizes = data.draw(cut(len(records)))
    result = played(records, sizes, config)
    entries = [read(record.value) for record in result.sends[LEDGER]]
    assert sum(number(entry["enriched"]) for entry in entries) == len(result.sends[ENRICHED])
    of_answers = [entry for entry in entries if "answers" in entry]
    assert all(number(entry["first_offset"]) == number(entry["last_offset"]) + 1 for entry in of_answers)
    entries = [entry for entry in entries if "answers" not in entry]
    ranges = [(number(entry["first_offset"]), number(entry["last_offset"])) for entry in entries]
    ends = [records[end - 1].offset for end in accumulate(sizes)]
    assert ranges == list(zip([0, *(end + 1 for end in ends)], ends, strict=False))
    assert [number(entry["records"]) for entry in entries] == sizes
    totals = counted(result)
    assert sum(totals[name] for name in ("accepted", "unchanged", "duplicate", "rejected")) == len(records)
    assert totals["accepted"] == len(result.sends[ENRICHED])
    assert totals["rejected"] == len(result.sends[DEAD_LETTERS])
    codes = Counter(dict(letter.headers)["dead_letter.code"].decode() for letter in result.sends[DEAD_LETTERS])
    assert {name: count for name, count in totals.items() if name in codes} == codes


@PROPERTY
@given(records=inputs(), config=CONFIGS)
def test_outputs_keep_order_and_key_and_dead_letters_are_the_records_as_they_came(
    records: list[Source], config: SessionsConfig
) -> None:
    result = played(records, [len(records)], config)
    by_offset = {record.offset: record for record in records}
    offsets = []
    for letter in result.sends[DEAD_LETTERS]:
        headers = letter.headers[-9:]
        offsets.append(int(dict(headers)["dead_letter.offset"]))
        source = by_offset[offsets[-1]]
        assert (letter.key, letter.value, letter.timestamp_ms) == (source.key, source.value, source.timestamp)
        assert letter.headers[:-9] == list(source.headers)
    assert offsets == sorted(offsets)
    for record in result.sends[ENRICHED]:
        value = read(record.value)
        integration_id = value.get("integration_id") or value["integrationId"]
        assert record.key == integration_id.encode()
        assert dict(record.headers)["ce_id"] == f"{integration_id}/{value['revision'].text}".encode()


def test_a_batch_of_many_updates_knows_what_its_earlier_ones_did() -> None:
    bodies = [("S1", {"profile_id": "P"}), ("S2", {"profile_id": "P"}), ("S1", {"state": "closed"})]
    values = [written(event(body, integration_id=session)) for session, body in bodies]
    records = [Source(offset, value, None) for offset, value in enumerate(values)]
    first, last, second = [read(sent.value) for sent in session_by_session(played(records, [3], SessionsConfig()))]
    assert first["customer_session"]["first_session"] is True
    assert second["customer_session"]["first_session"] is False, "the claim was made earlier in the batch"
    assert (last["type"], last["revision"].text) == ("session_closed", "2")


def number(value: Any) -> int:
    return int(value.text)


def counted(result: Result) -> Counter[str]:
    """The ledger's outcomes, reasons and ignored fields, over all batches."""
    totals: Counter[str] = Counter()
    for entry in (read(record.value) for record in result.sends[LEDGER]):
        for counts in (entry["outcomes"], entry["reasons"], {"ignored_fields": entry["ignored_fields"]}):
            totals.update({name: number(count) for name, count in counts.items()})
    return totals


# --- Another process --------------------------------------------------------------------------------------------


def digest_of_a_stream() -> str:
    """Of everything that a synthetic stream leads to."""
    stream = list(generate(sessions=150, seed=3))
    records = [
        Source(offset, sent.value, sent.key, sent.timestamp_ms, sent.headers) for offset, sent in enumerate(stream)
    ]
    result = played(records, [100] * (len(records) // 100), SessionsConfig())
    assert len(result.sends[ENRICHED]) > 300
    assert len(result.sends[DEAD_LETTERS]) > 10
    return hashlib.sha256(repr((result.sends, sorted(result.rows.items()))).encode()).hexdigest()


def test_another_process_with_another_hash_seed_gives_the_same_bytes() -> None:
    command = "from tests.session.test_replay import digest_of_a_stream as digest; print(digest())"
    digests = {
        subprocess.run(
            [sys.executable, "-c", command],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }
    assert digests == {f"{digest_of_a_stream()}\n"}
