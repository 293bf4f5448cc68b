"""Topics as a worker and a real Kafka leave them, made up here: offsets with commit markers. And the comparisons
of `verify` over them, each as one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from worker.agents.sessions import SessionsConfig, SessionsHandler
from worker.engine.batch import Batch, OutRecord
from worker.engine.position import POSITION_KEY, Position, encode_position
from worker.load.generator import play
from worker.load.mix import Mix
from worker.operate.verify import changelog
from worker.operate.verify.changelog import ChangelogView
from worker.operate.verify.dead_letters import DeadLetterComparison
from worker.operate.verify.findings import Findings
from worker.operate.verify.fold import PartitionModel, Tally
from worker.operate.verify.ledger_walk import LedgerWalk
from worker.operate.verify.outputs import OutputComparison

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
    """Input of one partition, of guests alone: nothing waits for an answer. Every third offset is a hole, as of
    markers."""
    events = play(replace(Mix.of(90), anonymous=1.0, bound_later=0.0, hot_profile_sessions=0), seed=3)
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
    topics: dict[str, list[Record]] = {name: [] for name in (*TOPICS, "changelog")}
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
    enriched, dead_letters, ledger_records = (topics[topic] for topic in TOPICS)
    return Written(enriched, dead_letters, ledger_records, topics["changelog"])


TOPICS = (CONFIG.enriched_topic, CONFIG.dead_letters_topic, CONFIG.ledger_topic)


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
