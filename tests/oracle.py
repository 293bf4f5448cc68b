"""The oracle: one judge for every test that lets a worker meet a broker.

It folds the input once more, one record at a time, with the pure rules (`tests/model.py`) and holds what
the worker left behind against that, rule by rule:

S1  each input offset below K is in exactly one ledger range; ranges are contiguous; counts are the model's; the ranges
    of answers to first_session join likewise, up to the group's offset
S2  the changelog, compacted, is the model's rows plus one position record per partition; so are local stores
S3  the output is, key by key, the model's, byte for byte, headers and timestamps included, in order, revisions 1..n
S4  no illegal transition in the output (judged by the table here, not by the worker's rules)
S5  the dead letters are exactly the rejected records, untouched, with the right reason and source
S6  totals equal an exact Decimal sum over the record's own items and costs
S7  nothing committed is left to read (lag 0)
S8  no unhandled exception in the workers' logs
S10 claims, answers and profiles are what the sessions' bindings lead to (tests/claims.py); their order in the claim
    log is the truth that first_session in the model comes from

Outputs that wait for an answer count as there when they lie in a session's row, and as lag (S7).

`judge` is pure: it takes logs, whoever read them. `Verdict.require_clean` raises with the first differing
record. (S9, what a restarted worker serves, needs its HTTP interface and is judged there.)
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any, NamedTuple, Protocol, TypeVar

from tests.claims import Claim, judge_answers_taken, judge_claims, owners_in
from tests.logs import Logs, Record
from tests.verdict import Verdict, Written, difference, shown

HELD_KEY = b"\xff\x01held-bytes"
"""Reserved row key under which a partition counts what waits in its sessions; there while something does."""

POSITION_KEY = b"\xff\x00position"
"""Reserved changelog key under which every transaction stores the next offsets of source and answers."""


_AnyRecord = TypeVar("_AnyRecord", Written, Record)


class Step(NamedTuple):
    """What one input record must lead to."""

    outcome: str
    code: str | None = None
    output: Written | None = None
    dead_letter: Written | None = None
    ignored_fields: int = 0
    claim: Claim | None = None


class Fold(Protocol):
    """The model of one partition. `rows` is its state after the steps so far: key → (value, timestamp)."""

    @property
    def rows(self) -> Mapping[bytes, tuple[bytes, int]]: ...
    def step(self, record: Record) -> Step: ...


class Rules(Protocol):
    """All the judge knows of the worker: the model, and the formats only the worker can read."""

    def fold(self, topic: str, partition: int, owners: Mapping[str, str]) -> Fold:
        """`owners`: profile_id → integration_id of the session that owns its claim."""

    def position(self, value: bytes) -> tuple[int, int]:
        """The next offsets a position record holds: of the source, and of the answers."""

    def settle(self, row_value: bytes, first_session: bool) -> tuple[bytes, list[tuple[int, Written, Written]]]:
        """A session's row as if nothing in it waited, and had this value of first_session; and what waits in it:
        (revision, output with true, output with false)."""

    def first_session(self, row_value: bytes) -> bool:
        """Of a session's row."""

    def profile_row(self, owner: str, sessions: Sequence[str], is_cut: bool) -> bytes:
        """The row of a profile with this owner and these sessions."""

    def check_schema(self, kind: str, record: Record) -> str | None:
        """What `record` of `kind` (enriched, dead_letter, ledger) breaks in its schema, if anything."""


def judge(logs: Logs, rules: Rules) -> Verdict:
    """Hold everything in `logs` against the model. Pure: no broker, no clock."""
    verdict = Verdict()
    everything = (logs.input, logs.output, logs.dead_letters, logs.changelog, logs.ledger, logs.committed)
    owners = owners_in(logs.claims)
    claims: list[tuple[int, Claim]] = []
    for partition in sorted(set().union(*everything)):
        judged = _Partition(logs, rules, partition, verdict, owners)
        judged.judge()
        claims += [(partition, step.claim) for step in judged.steps if step.claim is not None]
    judge_claims(logs, claims, rules.profile_row, rules.position, verdict)
    for text in logs.worker_logs:
        _judge_worker_log(text, verdict)
    return verdict


class _Partition:
    """The judgement of one partition, rule by rule."""

    def __init__(self, logs: Logs, rules: Rules, partition: int, verdict: Verdict, owners: Mapping[str, str]) -> None:
        self.logs, self.rules, self.partition, self.verdict = logs, rules, partition, verdict
        self.start = logs.starts.get(partition, 0)
        self.reached = logs.committed.get(partition, self.start)
        records = [record for record in logs.input.get(partition, ()) if record.offset >= self.start]
        self.done = [record for record in records if record.offset < self.reached]
        self.waiting = records[len(self.done) :]
        self.enriched = 0
        self.held: dict[tuple[bytes, int], tuple[Written, Written]] = {}
        self.fold = rules.fold(logs.input_topic, partition, owners)
        self.steps = [self.fold.step(record) for record in self.done]

    def fault(self, rule: str, text: str) -> None:
        self.verdict.fault(rule, self.partition, text)

    def judge(self) -> None:
        verdict = self.verdict
        verdict.events += len(self.done)
        verdict.outcomes.update(step.outcome for step in self.steps)
        verdict.reasons.update(step.code for step in self.steps if step.code is not None)
        verdict.lag += len(self.waiting)
        if self.waiting:
            offsets = f"{self.waiting[0].offset} to {self.waiting[-1].offset}"
            self.fault("S7", f"lag {len(self.waiting)}: offsets {offsets} are not processed")
        self._judge_ledger(self.logs.ledger.get(self.partition, ()))
        self._judge_changelog(self.logs.changelog.get(self.partition, ()))
        for stores in self.logs.stores:
            if self.partition in stores:
                self._judge_store(stores[self.partition])
        output = self.logs.output.get(self.partition, ())
        verdict.outputs += len(output)
        expected = [step.output for step in self.steps if step.output is not None]
        found = [*output, *self._held_as_expected(expected)]
        self._compare("S3", "output", _key_by_key(expected), _key_by_key(found), _session_revision)
        self._judge_sequences(found)
        letters = self.logs.dead_letters.get(self.partition, ())
        verdict.dead_letters += len(letters)
        expected = [step.dead_letter for step in self.steps if step.dead_letter is not None]
        self._compare("S5", "dead letter", expected, letters, _source_offset)
        self._judge_originals(letters)
        for kind, records in (("enriched", output), ("dead_letter", letters)):
            self._judge_schema(kind, records)
        self._judge_schema("ledger", self.logs.ledger.get(self.partition, ()))

    # ------------------------------------------------------------------ S1

    def _judge_ledger(self, ledger: Sequence[Record]) -> None:
        self.verdict.transactions += len(ledger)
        position = self.start
        index = 0
        judge_answers_taken(self.logs, self.partition, ledger, self.verdict)
        for entry in ledger:
            told = json.loads(entry.value or b"null")
            first, last = told["first_offset"], told["last_offset"]
            where = f"ledger record at offset {entry.offset} ({first} to {last})"
            if (told["topic"], told["partition"]) != (self.logs.input_topic, self.partition):
                self.fault("S1", f"{where} names another source: {told['topic']}:{told['partition']}")
            if first > position:
                skipped = sum(position <= record.offset < first for record in self.done)
                self.verdict.lost += skipped
                self.fault("S1", f"gap: {where}, expected {position}; {skipped} input records in no range")
            elif first < position:
                again = sum(first <= record.offset < min(position, last + 1) for record in self.done)
                self.verdict.duplicated += again
                self.fault("S1", f"overlap: {where}, expected {position}; {again} input records in two ranges")
            while index and self.done[index - 1].offset >= first:
                index -= 1
            begin = index = _advance(self.done, index, first)
            index = _advance(self.done, index, last + 1)
            self._judge_range(where, told, entry, self.done[begin:index], self.steps[begin:index])
            position = last + 1
        if self.enriched != len(self.logs.output.get(self.partition, ())):
            self.fault("S1", f"the ledger counts {self.enriched} enriched records, others are there")
        if position != self.reached:
            missing = sum(position <= record.offset for record in self.done)
            self.verdict.lost += missing
            self.fault("S1", f"ledger ends at {position}, committed is {self.reached}; {missing} records in no range")

    def _judge_range(
        self, where: str, told: dict[str, Any], entry: Record, records: Sequence[Record], steps: Sequence[Step]
    ) -> None:
        outcomes = Counter(step.outcome for step in steps)
        expected = {
            "records": len(steps),
            "outcomes": {name: outcomes[name] for name in ("accepted", "unchanged", "duplicate", "rejected")},
            "reasons": dict(Counter(step.code for step in steps if step.code is not None)),
            "ignored_fields": sum(step.ignored_fields for step in steps),
        }
        self.enriched += told.get("enriched", 0)
        for name, value in expected.items():
            if told.get(name) != value:
                self.fault("S1", f"{where}: {name} is {told.get(name)}, the model says {value}")
        if not records and "answers" in told:
            return  # a transaction of answers alone: an empty range
        if not records or records[-1].offset != told["last_offset"]:
            self.fault("S1", f"{where} does not end at a record of the input")
        elif entry.key is not None:
            self.fault("S1", f"{where}: key {entry.key!r}")

    # ------------------------------------------------------------------ S2

    def _judge_changelog(self, changelog: Sequence[Record]) -> None:
        view: dict[bytes, tuple[bytes, int]] = {}
        for record in changelog:
            if record.key is None:
                self.fault("S2", f"changelog record without a key at offset {record.offset}")
            elif record.value is None:
                view.pop(record.key, None)
            else:
                view[record.key] = (record.value, record.timestamp)
        position = view.pop(POSITION_KEY, None)
        if position is not None:
            self._judge_position("the position record holds", position[0])
        elif self.done:
            self.fault("S2", f"no position record in the changelog, committed is {self.reached}")
        rows = self.fold.rows
        self.verdict.rows += len(view)
        self.held = self._settle(view)
        if self.held:
            self.fault("S7", f"{len(self.held)} outputs wait for an answer")
        self._compare_rows("changelog", rows, view)

    def _settle(self, view: dict[bytes, tuple[bytes, int]]) -> dict[tuple[bytes, int], tuple[Written, Written]]:
        """Brings rows with waiting outputs into the form of the model's. Returns those outputs, by key and revision,
        each with either value of first_session."""
        held: dict[tuple[bytes, int], tuple[Written, Written]] = {}
        for key, (value, timestamp) in view.items():
            expected = self.fold.rows.get(key)
            if expected is None or expected[0] == value or key.startswith(b"\xff"):
                continue
            settled, waiting = self.rules.settle(value, self.rules.first_session(expected[0]))
            view[key] = settled, timestamp
            held.update({(key, revision): (yes, no) for revision, yes, no in waiting})
        if (view.pop(HELD_KEY, None) is not None) != bool(held):
            self.fault("S2", f"the record of how much is held does not fit {len(held)} outputs that wait")
        return held

    def _held_as_expected(self, expected: Sequence[Written]) -> list[Record]:
        """The outputs that wait, behind all others, with whichever value of first_session is right if one is."""
        if not self.held:
            return []
        wanted = set(expected)
        records = []
        for yes, no in self.held.values():
            right = no if no in wanted else yes
            records.append(Record(self.partition, 1 << 60, right.timestamp, right.key, right.value, right.headers))
        return records

    def _judge_store(self, store: Mapping[bytes, bytes]) -> None:
        """A stopped worker's store holds the rows, and bookkeeping under the reserved prefix FF 00."""
        if (position := store.get(POSITION_KEY)) is not None:
            self._judge_position("the store's position is", position)
        rows = {key: value for key, (value, _) in self.fold.rows.items()}
        view = {key: (value, 0) for key, value in store.items() if not key.startswith(b"\xff\x00")}
        self._settle(view)
        self._compare_rows("store", rows, {key: value for key, (value, _) in view.items()})

    def _judge_position(self, where: str, value: bytes) -> None:
        held, of_answers = self.rules.position(value)
        if held != self.reached:
            self.fault("S2", f"{where} {held}, committed is {self.reached}")
        taken = self.logs.committed_answers.get(self.partition, 0)
        if of_answers != taken:
            self.fault("S2", f"{where} {of_answers} in the answers, committed there is {taken}")

    def _compare_rows(self, name: str, expected: Mapping[bytes, Any], found: Mapping[bytes, Any]) -> None:
        if expected == found:
            return
        for key in expected.keys() - found.keys():
            self.verdict.lost += 1
            self.fault("S2", f"{name} lacks the row of {key!r}")
        for key in found.keys() - expected.keys():
            self.verdict.unexpected += 1
            self.fault("S2", f"{name} has a row no input explains: {key!r} → {shown(found[key])}")
        for key in expected.keys() & found.keys():
            if expected[key] != found[key]:
                self.verdict.different += 1
                want, got = shown(expected[key]), shown(found[key])
                self.fault("S2", f"{name} row of {key!r} differs:\n  model {want}\n  found {got}")

    # ------------------------------------------------------------------ S3 and S5, the same comparison

    def _compare(
        self,
        rule: str,
        name: str,
        expected: Sequence[Written],
        found: Sequence[Record],
        identity: Callable[[Written | Record], object],
    ) -> None:
        """Equal, in order. When not: which record is missing, there twice, changed, out of place or foreign."""
        if [(r.key, r.value, r.headers, r.timestamp) for r in found] == expected:
            return
        faults_before = self.verdict.broken[rule]
        wanted = {identity(written): written for written in expected}
        seen: dict[object, Record] = {}
        for record in found:
            what = f"{name} {identity(record)} at offset {record.offset}"
            if identity(record) in seen:
                self.verdict.duplicated += 1
                self.fault(rule, f"duplicated: {what}, first at {seen[identity(record)].offset}")
                continue
            seen[identity(record)] = record
            if identity(record) not in wanted:
                self.verdict.unexpected += 1
                self.fault(rule, f"unexpected: {what}: {shown(record.value)}")
            elif changed := difference(wanted[identity(record)], record):
                self.verdict.different += 1
                self.fault(rule, f"different: {what}: {changed}")
        for missing in wanted.keys() - seen.keys():
            self.verdict.lost += 1
            self.fault(rule, f"lost: {name} {missing}: {shown(wanted[missing].value)}")
        order = [key for key in wanted if key in seen]
        for must, has in zip(order, [key for key in seen if key in wanted], strict=True):
            if must != has:
                self.verdict.reordered += 1
                self.fault(rule, f"reordered: {name} {has} at offset {seen[has].offset} where {must} belongs")
                break
        if self.verdict.broken[rule] == faults_before:
            self.fault(rule, f"{len(found)} {name} records, the model has {len(expected)}")

    # ------------------------------------------------------------------ S3 to S6, without the worker's rules

    def _judge_sequences(self, output: Iterable[Record]) -> None:
        """Revisions, transitions and totals from the output alone."""
        last: dict[bytes, tuple[int, str]] = {}
        for record in output:
            where = f"output at offset {record.offset}, key {record.key!r}"
            try:
                event = json.loads(record.value or b"", parse_float=Decimal)
                session = event.get("customer_session") or event["customerSession"]
                identity = event.get("integration_id") or event["integrationId"]
                state, event_type, revision = session["state"], event["type"], event["revision"]
                totals = _totals_fault(session)
            except (ValueError, KeyError, TypeError) as error:
                self.fault("S3", f"{where} is not an enriched session: {error!r}: {shown(record.value)}")
                continue
            if record.key is None or identity.encode() != record.key:
                self.fault("S3", f"{where} is about {identity!r}")
            before, state_before = last.get(record.key or b"", (0, "none"))
            last[record.key or b""] = (revision, state)
            if revision != before + 1:
                self.fault("S3", f"{where}: revision {revision} follows {before}")
            if (state_before, event_type, state) not in _LEGAL:
                self.fault("S4", f"{where}: {event_type} to {state} from {state_before}, revision {revision}")
            if totals:
                self.fault("S6", f"{where}: {totals}")

    def _judge_originals(self, letters: Iterable[Record]) -> None:
        """A dead letter is the input record it names, untouched, with dead_letter.* headers behind its own."""
        by_offset = {record.offset: record for record in self.done}
        for letter in letters:
            where = f"dead letter at offset {letter.offset}"
            offset = _source_offset(letter)
            source = by_offset.get(offset) if offset is not None else None
            if source is None:
                self.fault("S5", f"{where} names no processed input record: {letter.headers}")
                continue
            added = dict(letter.headers[len(source.headers) :])
            told = {
                "dead_letter.topic": self.logs.input_topic,
                "dead_letter.partition": str(self.partition),
                "dead_letter.offset": str(source.offset),
                "dead_letter.timestamp": str(source.timestamp),
            }
            if letter.headers[: len(source.headers)] != source.headers:
                self.fault("S5", f"{where}: original headers {source.headers} became {letter.headers}")
            for name, value in told.items():
                if added.get(name) != value.encode():
                    self.fault("S5", f"{where}: {name} is {added.get(name)!r}, the source's is {value}")
            if (letter.key, letter.value, letter.timestamp) != (source.key, source.value, source.timestamp):
                self.fault("S5", f"{where} is not the record it names: {difference(source, letter)}")

    def _judge_schema(self, kind: str, records: Iterable[Record]) -> None:
        for record in records:
            if broken := self.rules.check_schema(kind, record):
                self.fault("schema", f"{kind} at offset {record.offset}: {broken}")


_LEGAL = {
    ("none", "session_created", "open"),
    ("open", "session_updated", "open"),
    ("open", "session_closed", "closed"),
    ("open", "session_cancelled", "cancelled"),
    ("closed", "session_revoked", "cancelled"),
}
"""(state before, type of the record, state after): session semantics, section 5."""

_EXACT = Context(prec=200)


def _totals_fault(session: dict[str, Any]) -> str | None:
    """What is wrong with the three totals of one entity, by exact sums over its own items and costs."""
    exact = _EXACT
    items = Decimal(0)
    for item in session["cart_items"] if "cart_items" in session else session["cartItems"]:
        items = exact.add(items, exact.multiply(Decimal(item["price"]), Decimal(item["quantity"])))
    costs = Decimal(0)
    for cost in (session["additional_costs"] if "additional_costs" in session else session["additionalCosts"]).values():
        costs = exact.add(costs, Decimal(cost["price"]))
    sums = (items, costs, exact.add(items, costs))
    if "cart_item_total" in session:
        told = (session["cart_item_total"], session["additional_cost_total"], session["total"])
    else:
        told = (session["cartItemTotal"], session["additionalCostTotal"], session["total"])
    return None if told == sums else f"totals are {told}, the exact sums {sums}"


_UNHANDLED = re.compile(
    r'Traceback \(most recent call last\)|"exc_type": |never retrieved|Unhandled exception|Segmentation fault'
)


def _judge_worker_log(text: str, verdict: Verdict) -> None:
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if _UNHANDLED.search(line):
            shown = "\n    ".join(lines[max(0, number - 3) : number + 25])
            verdict.fault("S8", None, f"unhandled exception in a worker's log, line {number + 1}:\n    {shown}")
            return


def _key_by_key(records: Iterable[_AnyRecord]) -> list[_AnyRecord]:
    """Together what has one key, in the order it has there: across keys the order is nobody's promise."""
    return sorted(records, key=lambda record: record.key or b"")


def _advance(records: Sequence[Record], index: int, offset: int) -> int:
    """The first index from `index` on whose record's offset is at least `offset`."""
    while index < len(records) and records[index].offset < offset:
        index += 1
    return index


def _session_revision(record: Written | Record) -> object:
    """An output's identity: session and revision (its ce_id), else its bytes."""
    return next((value for name, value in record.headers if name == "ce_id"), record.value)


def _source_offset(letter: Written | Record) -> int | None:
    """A dead letter's identity: the last header naming the source offset (an original may carry one too)."""
    found = [value for name, value in letter.headers if name == "dead_letter.offset"]
    return int(found[-1]) if found and found[-1].isdigit() else None
