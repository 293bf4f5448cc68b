"""The comparisons of `verify` on topics made up here, with the offsets a real Kafka would give: markers, compaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.agents.sessions import SessionsConfig, SessionsHandler
from worker.engine.batch import Batch, OutRecord
from worker.engine.position import POSITION_KEY, Position, encode_position
from worker.load.generator import generate
from worker.operate.verify import changelog
from worker.operate.verify.changelog import ChangelogView
from worker.operate.verify.dead_letters import DeadLetterComparison
from worker.operate.verify.describe import differing_fields, outline, shown_key
from worker.operate.verify.findings import KEPT, Findings, Suspect, Told
from worker.operate.verify.fold import PartitionModel, Tally
from worker.operate.verify.ledger_walk import LedgerWalk, entry_of
from worker.operate.verify.outputs import OutputComparison, claimed_revision

TOPIC, PARTITION = "updates", 2
CONFIG = SessionsConfig()
BATCH = 7


class Record(NamedTuple):
    """As it lies in a topic."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@cache
def source() -> tuple[Record, ...]:
    """Input of one partition. Every third offset is a hole, as of markers."""
    events = generate(sessions=60, seed=3)
    return tuple(
        Record(number + number // 2, 1_700_000_000_000 + number, event.key, event.value, tuple(event.headers))
        for number, event in enumerate(events)
    )


class Written(NamedTuple):
    """What a worker writes about `source`, in transactions of BATCH records."""

    enriched: list[Record]
    letters: list[Record]
    ledger: list[Record]
    changelog: list[Record]


@cache
def written() -> Written:
    handler = SessionsHandler(CONFIG)
    rows: dict[bytes, bytes] = {}
    topics: dict[str, list[Record]] = {name: [] for name in (*_TOPICS, "changelog")}
    next_offsets = dict.fromkeys(topics, 0)
    reached = 0
    for start in range(0, len(source()), BATCH):
        records = source()[start : start + BATCH]
        effects = handler(Batch(TOPIC, PARTITION, reached, records), rows)
        rows |= {key: row.value for key, row in effects.rows.items() if row.value is not None}
        reached = records[-1].offset + 1
        position = OutRecord(POSITION_KEY, encode_position(Position(TOPIC, reached)), [], records[-1].timestamp)
        for topic, sent in (effects.sends | {"changelog": [*effects.rows.values(), position]}).items():
            for out in sent:
                record = Record(next_offsets[topic], out.timestamp_ms, out.key, out.value, tuple(out.headers))
                topics[topic].append(record)
                next_offsets[topic] += 1
            next_offsets[topic] += 1  # the commit marker
    enriched, dead_letters, ledger_records = (topics[topic] for topic in _TOPICS)
    return Written(enriched, dead_letters, ledger_records, topics["changelog"])


_TOPICS = (CONFIG.enriched_topic, CONFIG.dead_letters_topic, CONFIG.ledger_topic)


@cache
def model(window_from: int | None = None) -> PartitionModel:
    """The input folded; from that index on in a window. Transactions end as in `written`."""
    folded = PartitionModel(CONFIG, TOPIC, PARTITION)
    for number, record in enumerate(source()):
        if number == window_from:
            folded.open_window(record.offset)
        folded.take(record, None)
        if number % BATCH == BATCH - 1:
            folded.outputs.end_transaction()
    folded.outputs.end_transaction()
    return folded


def outputs(
    found: Iterable[Record], expected: PartitionModel | None = None, rewritten: Sequence[bytes] = ()
) -> Findings:
    findings = Findings()
    comparison = OutputComparison((expected or model()).outputs, findings)
    for record in found:
        comparison.take(record)
    comparison.finish(rewritten)
    findings.settle()
    return findings


def letters(found: Iterable[Record], *, head_is_deleted: bool = False, window_from: int | None = None) -> Findings:
    findings, expected = Findings(), model(window_from)
    comparison = DeadLetterComparison(dict(expected.letters), expected.letters_required_below, findings)
    for record in found:
        comparison.take(record)
    comparison.finish(head_is_deleted=head_is_deleted)
    return findings


def rows(found: Iterable[Record], expected: PartitionModel | None = None, rewritten: Sequence[bytes] = ()) -> Findings:
    findings, folded = Findings(), expected or model()
    view = ChangelogView(findings)
    for record in found:
        view.take(record)
    changelog.report(view.compare(folded), rewritten, findings)
    return findings


def ledger(found: Iterable[Record]) -> tuple[Findings, int]:
    """The findings, and where the walk ended."""
    findings, folded, taken = Findings(), PartitionModel(CONFIG, TOPIC, PARTITION), 0
    walk = LedgerWalk(TOPIC, PARTITION, 0, findings)
    for record in found:
        if (entry := walk.begin(record)) is None:
            continue
        tally = Tally()
        while taken < len(source()) and source()[taken].offset <= entry.last_offset:
            inside = source()[taken].offset >= entry.first_offset
            folded.take(source()[taken], tally if inside else None)
            taken += 1
        walk.end(record, entry, tally)
    return findings, walk.reached


def closed_up(records: Sequence[Record], lost: int) -> list[Record]:
    """As if the worker had never written that one: all that follows has smaller offsets."""
    return [*records[:lost], *(record._replace(offset=record.offset - 1) for record in records[lost + 1 :])]


# ---------------------------------------------------------------------- outputs


def test_what_a_worker_writes_agrees_whatever_its_batches_were() -> None:
    assert outputs(written().enriched).differences == 0
    assert letters(written().letters).differences == 0
    assert rows(written().changelog).differences == 0
    findings, reached = ledger(written().ledger)
    assert findings.differences == 0
    assert reached == source()[-1].offset + 1


@given(st.data())
def test_compaction_may_remove_any_revision_but_the_latest(data: st.DataObject) -> None:
    latest = {record.key: record.offset for record in written().enriched}
    removable = [record.offset for record in written().enriched if latest[record.key] != record.offset]
    removed = data.draw(st.sets(st.sampled_from(removable)))
    findings = outputs(record for record in written().enriched if record.offset not in removed)
    assert findings.differences == 0, findings.suspects
    assert findings.left_out["compacted"] == len(removed)


@given(st.integers(0, len(written().enriched) - 1))
def test_any_output_that_was_never_written_is_missing_and_is_named(lost: int) -> None:
    """The offsets have no room for it, so compaction is no excuse."""
    findings = outputs(closed_up(written().enriched, lost))
    assert findings.differences == 1
    (suspect,) = findings.suspects
    assert (suspect.kind, suspect.recall) == ("missing", lost)


def test_the_latest_revision_must_be_there_unless_a_newer_one_stands_behind_the_part_that_was_read() -> None:
    *found, gone = written().enriched
    assert gone.key is not None
    assert [suspect.kind for suspect in outputs(found).suspects] == ["missing"]
    excused = outputs(found, rewritten=[gone.key])
    assert (excused.differences, excused.left_out["rewritten since"]) == (0, 1)


@settings(max_examples=40)
@given(st.integers(1, len(source())), st.data())
def test_outputs_of_the_window_may_be_there_or_not(window_from: int, data: st.DataObject) -> None:
    expected = model(window_from)
    required = sum(revision for _, revision in expected.outputs.required())
    there = data.draw(st.integers(required, len(written().enriched)))
    assert outputs(written().enriched[:there], expected).differences == 0
    if required:
        assert outputs(written().enriched[: required - 1], expected).differences == 1


@given(st.integers(0, len(written().enriched) - 1), st.sampled_from(["value", "headers", "timestamp"]))
def test_a_changed_output_differs_and_is_the_only_one(at: int, field: str) -> None:
    record = written().enriched[at]
    assert record.value is not None
    changes = {
        "value": record.value.replace(b"session", b"Session", 1),
        "headers": (*record.headers, ("x", b"")),
        "timestamp": record.timestamp + 1,
    }
    found = list(written().enriched)
    found[at] = record._replace(**{field: changes[field]})  # type: ignore[arg-type]
    findings = outputs(found)
    assert [(one.kind, one.recall) for one in findings.suspects] == [("different", at)]


def test_outputs_in_another_order_are_found_across_keys() -> None:
    found = list(written().enriched)
    first = next(at for at, record in enumerate(found) if record.key != found[at + 1].key)
    found[first], found[first + 1] = (
        found[first + 1]._replace(offset=found[first].offset),
        found[first]._replace(offset=found[first + 1].offset),
    )
    assert [one.kind for one in outputs(found).suspects] == ["out of order"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda record: record._replace(key=None), "no accepted update"),
        (lambda record: record._replace(key=b"nobody"), "no accepted update"),
        (lambda record: record._replace(headers=(("ce_id", b"x/99"),)), "it is revision 99"),
        (lambda record: record._replace(headers=(), value=b"{}"), "names no revision"),
        (lambda record: record, "stands behind revision"),
    ],
)
def test_an_output_too_many_is_unexpected(change: Callable[[Record], Record], says: str) -> None:
    last = written().enriched[-1]
    findings = outputs([*written().enriched, change(last._replace(offset=last.offset + 5))])
    (suspect,) = findings.suspects
    assert suspect.kind == "unexpected"
    assert says in suspect.text


def test_thousands_of_differences_are_counted_and_the_first_in_the_order_of_the_input_kept() -> None:
    findings = Findings()
    for place in reversed(range(1_000)):
        findings.add(Suspect("missing", place, "", None))
    findings.settle()
    assert findings.differences == 1_000
    assert [suspect.place for suspect in findings.suspects] == list(range(KEPT))


@pytest.mark.parametrize(
    ("headers", "value", "revision"),
    [
        ((("ce_id", b"a/b/12"),), None, 12),
        ((("ce_id", b"a/x"),), b'{"revision":3}', 3),
        ((), b'{"revision":3,"more":[]}', 3),
        ((), b'{"revision":"3"}', None),
        ((("ce_id", b"a/" + b"9" * 40),), b"\xff", None),
    ],
)
def test_a_record_says_its_revision_by_header_or_value(
    headers: tuple[tuple[str, bytes], ...], value: bytes | None, revision: int | None
) -> None:
    assert claimed_revision(headers, value) == revision


# ---------------------------------------------------------------------- dead letters


def test_letters_of_another_version_of_the_worker_agree() -> None:
    """After an upgrade the old letters are still right."""
    old = [
        record._replace(headers=(*record.headers[:-1], (record.headers[-1][0], b"0.0.1")))
        for record in written().letters
    ]
    assert letters(old).differences == 0
    without = [old[0]._replace(headers=old[0].headers[:-1]), *old[1:]]
    assert [one.kind for one in letters(without).suspects] == ["different"]


def test_letters_that_retention_deleted_are_not_missing_but_one_in_the_middle_is() -> None:
    found = written().letters
    findings = letters(found[3:], head_is_deleted=True)
    assert (findings.differences, findings.left_out["deleted by retention"]) == (0, 3)
    assert letters(found[3:]).differences == 3
    assert letters([*found[3:5], *found[6:]], head_is_deleted=True).differences == 1


def test_letters_of_the_window_may_be_there_or_not() -> None:
    last = written().letters[-1]
    offset = int(dict(last.headers)["dead_letter.offset"])
    window_from = next(number for number, record in enumerate(source()) if record.offset == offset)
    assert letters(written().letters, window_from=window_from).differences == 0
    assert letters(written().letters[:-1], window_from=window_from).differences == 0
    assert letters(written().letters[:-1], window_from=window_from + 1).differences == 1


def test_letters_out_of_order_twice_or_about_nothing_are_found() -> None:
    found = written().letters
    assert [one.kind for one in letters([found[1], found[0], *found[2:]]).suspects] == ["out of order"]
    assert [one.text for one in letters([*found, found[0]]).suspects] == ["it is there twice"]
    nameless = found[0]._replace(headers=())
    assert [one.text for one in letters([*found, nameless]).suspects] == ["it names no source offset"]


# ---------------------------------------------------------------------- changelog and position


@settings(max_examples=40)
@given(st.integers(0, len(source()) - 1), st.integers(0, 60))
def test_rows_of_any_moment_of_the_window_agree(window_from: int, transactions_behind: int) -> None:
    """A snapshot of the changelog holds the rows as of the end of some transaction of the window."""
    positions = [at for at, record in enumerate(written().changelog) if record.key == POSITION_KEY]
    ends = [at for number, at in enumerate(positions) if (number + 1) * BATCH >= window_from]
    end = ends[min(transactions_behind, len(ends) - 1)]
    assert rows(written().changelog[: end + 1], model(window_from)).differences == 0


def test_rows_from_before_the_window_differ_unless_rewritten_since() -> None:
    positions = [at for at, record in enumerate(written().changelog) if record.key == POSITION_KEY]
    early = written().changelog[: positions[-3] + 1]
    found = rows(early)
    assert found.differences > 0
    assert {one.kind for one in found.suspects} <= {"different", "missing"}
    keys = [suspect.key for suspect in found.suspects if suspect.key is not None]
    excused = rows(early, rewritten=keys)
    assert (excused.differences, excused.left_out["rewritten since"]) == (0, len(keys))


def test_compaction_of_the_changelog_changes_nothing() -> None:
    latest = {record.key: record for record in written().changelog}
    assert rows(latest.values()).differences == 0


def test_a_row_without_key_a_deleted_row_and_an_unknown_reserved_key_are_found() -> None:
    row = next(record for record in written().changelog if record.key is not None and record.key < b"\xff")
    extra = [row._replace(key=None), row._replace(value=None), row._replace(key=b"\xff\x07new")]
    found = rows([*{record.key: record for record in written().changelog}.values(), *extra])
    assert sorted(one.kind for one in found.suspects) == ["missing", "unexpected", "unexpected"]


@pytest.mark.parametrize(
    ("value", "timestamp", "says"),
    [
        (encode_position(Position(TOPIC, 30)), 5, None),
        (encode_position(Position(TOPIC, 40)), 6, None),
        (encode_position(Position(TOPIC, 35)), 5, "says updates 35; expected updates 30 or updates 40"),
        (encode_position(Position("other", 30)), 5, "says other 30"),
        (encode_position(Position(TOPIC, 30)), 6, "has timestamp 6; expected 5"),
        (b"?", 5, "cannot be read"),
        (None, 5, "is not there"),
    ],
)
def test_the_position_must_be_the_end_of_a_range_that_may_be_the_last(
    value: bytes | None, timestamp: int, says: str | None
) -> None:
    view = ChangelogView(Findings())
    view.take(Record(0, timestamp, POSITION_KEY, value, ()))
    told = view.compare_position({Position(TOPIC, 30): 5, Position(TOPIC, 40): 6})
    assert [says in one.text for one in told] == ([True] if says else []) if says else told == []


def test_no_position_is_expected_where_nothing_was_processed() -> None:
    view = ChangelogView(Findings())
    assert view.compare_position({None: 0}) == []
    assert view.compare_position({None: 0, Position(TOPIC, 3): 1}) == []
    view.take(Record(0, 1, POSITION_KEY, encode_position(Position(TOPIC, 3)), ()))
    assert "expected no record" in view.compare_position({None: 0})[0].text
    assert view.compare_position({None: 0, Position(TOPIC, 3): 1}) == []


# ---------------------------------------------------------------------- ledger


def test_a_missing_a_repeated_and_a_foreign_ledger_record_are_one_difference_each() -> None:
    found = written().ledger
    gap, _ = ledger([*found[:4], *found[5:]])
    skipped = entry_of(found[4])
    assert skipped is not None
    (suspect,) = gap.suspects
    assert suspect.kind == "missing"
    assert f"no range holds input offsets {skipped.first_offset} to {skipped.last_offset}" in suspect.text
    again, reached = ledger([*found[:4], found[3], *found[4:]])
    assert [(one.kind, "overlaps" in one.text) for one in again.suspects] == [("unexpected", True)]
    assert reached == source()[-1].offset + 1
    foreign = found[3]._replace(value=(found[3].value or b"").replace(b'"updates"', b'"uploads"'))
    assert [one.kind for one in ledger([*found, foreign])[0].suspects] == ["unexpected"]
    assert [one.text for one in ledger([*found, found[3]._replace(value=b"[]")])[0].suspects] == [
        "it is no ledger record"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record._replace(value=(record.value or b"").replace(b'"accepted":', b'"accepted":1')),
        lambda record: record._replace(value=(record.value or b"").replace(b'"reasons":{}', b'"reasons":{"stale":1}')),
        lambda record: record._replace(timestamp=record.timestamp - 1),
        lambda record: record._replace(key=b""),
        lambda record: record._replace(headers=(("x", b""),)),
    ],
)
def test_a_ledger_record_must_be_the_models_byte_for_byte(change: Callable[[Record], Record]) -> None:
    found = list(written().ledger)
    at = next(number for number, record in enumerate(found) if b'"reasons":{}' in (record.value or b""))
    found[at] = change(found[at])
    findings, _ = ledger(found)
    assert [(one.kind, one.found and one.found.offset) for one in findings.suspects] == [
        ("different", found[at].offset)
    ]


# ---------------------------------------------------------------------- how it is told


def _told(value: bytes | None, **changes: object) -> Told:
    return Told(b"k", value, (("a", b"1"), ("b", b"2")), 5)._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expected", "found", "names"),
    [
        (_told(b'{"a":1,"b":[1,2]}'), _told(b'{"a":1,"b":[1,3]}'), ["value /b/1"]),
        (_told(b'{"a":1}'), _told(b'{"b":1}'), ["value /a", "value /b"]),
        (_told(b'{"a":30}'), _told(b'{"a":30.0}'), ["value /a"]),
        (_told(b'{"a":30}'), _told(b'{"a":"30"}'), ["value /a"]),
        (_told(b'{"a":1}'), _told(b'{"a": 1}'), ["value: spelling or order of its members"]),
        (_told(b"{}"), _told(b"\xff"), ["value"]),
        (_told(b"{}"), _told(None), ["value: there is none"]),
        (_told(b"{}"), _told(b"{}", headers=(("a", b"1"), ("b", b"3"))), ["header b"]),
        (_told(b"{}"), _told(b"{}", headers=(("b", b"2"), ("a", b"1"))), ["order of headers"]),
        (_told(b"{}"), _told(b"{}", key=b"l", timestamp_ms=6), ["key", "timestamp"]),
    ],
)
def test_differences_are_told_by_name(expected: Told, found: Told, names: list[str]) -> None:
    assert differing_fields(expected, found) == names


def test_a_stored_row_is_told_by_the_fields_of_a_session() -> None:
    of_key = [record for record in written().changelog if record.key == written().enriched[-1].key]
    names = differing_fields(Told.found(of_key[-1]), Told.found(of_key[-2]))
    assert "value /revision" in names
    assert all(name.startswith("value /") or name == "timestamp" for name in names)


def test_payload_is_shown_only_on_request() -> None:
    told = Told(b"k", b'{"name":"mug"}', (("trace", b"secret"),), 5)
    quiet, loud = outline(told, show_payload=False), outline(told, show_payload=True)
    assert "mug" not in quiet
    assert "secret" not in quiet
    assert "14 bytes" in quiet
    assert '{"name":"mug"}' in loud
    assert "trace='secret'" in loud


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (None, None),
        (b"order-1", "'order-1'"),
        (b"\xfe\n", "'\\\\xfe\\n'"),
        (POSITION_KEY, "the position record"),
        (b"\xff\x01claim/p-1", "the claim of profile 'p-1'"),
    ],
)
def test_keys_are_shown_as_text(key: bytes | None, shown: str | None) -> None:
    assert shown_key(key) == shown
