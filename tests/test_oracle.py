"""The oracle can fail: every kind of damage to a worker's logs is found, counted and named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from tests.broker.poison import as_events, poison_kinds
from tests.installation import Installation, Topic
from tests.logs import Logs, Record
from tests.model import WorkerRules
from tests.oracle import POSITION_KEY, judge
from worker.app import sessions_config
from worker.engine.position import Position, encode_position
from worker.load.generator import generate
from worker.settings import Settings

PARTITIONS = 3
SETTINGS = Settings(topic_updates="updates", partitions=PARTITIONS)
TRACE = (("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)
HOLE_EVERY = 97
"""Offsets a transactional producer's markers take."""


def _input(sessions: int, seed: int) -> dict[int, list[Record]]:
    topic = Topic(PARTITIONS)
    poison = [event for kind in poison_kinds() if len(kind.value or b"") < 5_000 for event in as_events(kind, TRACE)]
    for event in [*generate(sessions=sessions, seed=seed), *poison]:
        partition = hash_of(event.key) % PARTITIONS
        log = topic.log[partition]
        offset = log[-1].offset + (2 if len(log) % HOLE_EVERY == 0 else 1) if log else 0
        log.append(Record(partition, offset, event.timestamp_ms, event.key, event.value, tuple(event.headers)))
    return topic.log


def hash_of(key: bytes | None) -> int:
    return sum(key or b"none")


CONFIG = sessions_config(SETTINGS)


def process(source: Mapping[int, list[Record]], seed: int) -> Logs:
    """What a worker leaves behind that handles `source` in batches of random sizes and never fails."""
    logs = Installation("updates", source, CONFIG, SETTINGS.app_id).run(seed).logs()
    logs.worker_logs = ["worker ready\nstopped\n"]
    return logs


@cache
def _clean() -> Logs:
    return process(_input(sessions=100, seed=1), seed=1)


@pytest.fixture
def logs() -> Logs:
    """Clean logs to harm: the lists are this test's own, the records are immutable."""
    return replace(_clean(), **{name: _copied(getattr(_clean(), name)) for name in LISTS})


LISTS = (
    *("input", "output", "dead_letters", "changelog", "ledger", "committed", "stores", "worker_logs"),
    *("claims", "answers", "profiles", "committed_claims", "committed_answers", "profile_stores"),
)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: list(item) if isinstance(item, list) else item for key, item in value.items()}
    return list(value)


RULES = WorkerRules(SETTINGS)


def test_what_a_faultless_worker_leaves_behind_is_clean(logs: Logs) -> None:
    verdict = judge(logs, RULES).require_clean()
    assert verdict.events == sum(map(len, logs.input.values()))
    assert set(verdict.outcomes) == {"accepted", "unchanged", "duplicate", "rejected"}
    assert verdict.outcomes.total() == verdict.events
    assert verdict.outputs == verdict.outcomes["accepted"] > 400
    assert verdict.dead_letters == verdict.outcomes["rejected"] > 10
    assert verdict.lost == verdict.duplicated == verdict.different == verdict.unexpected == verdict.lag == 0


def test_any_cut_into_batches_leaves_the_same_behind() -> None:
    source = _input(sessions=100, seed=2)
    one, other = process(source, seed=1), process(source, seed=2)
    assert one.ledger != other.ledger
    assert one.claims != other.claims, "which partition's claims came first depends on when transactions ran"
    assert one.dead_letters == other.dead_letters
    for logs in (one, other):
        judge(logs, RULES).require_clean()


def test_a_worker_that_never_ran_is_only_behind() -> None:
    source = _input(sessions=5, seed=3)
    empty: dict[int, list[Record]] = {}
    verdict = judge(Logs("updates", source, empty, empty, empty, empty, {}), RULES)
    assert set(verdict.broken) == {"S7"}
    assert verdict.lag == sum(map(len, source.values()))


# ---------------------------------------------------------------------- damage

Damage = Callable[[Logs], None]
DAMAGES: list[tuple[str, str, str, str, Damage]] = []
"""Name, broken rule, counter that must have counted (or ""), a word the report must hold, the damage."""


def damage(rule: str, counter: str, says: str) -> Callable[[Damage], Damage]:
    def register(function: Damage) -> Damage:
        DAMAGES.append((function.__name__.replace("_", " "), rule, counter, says, function))
        return function

    return register


def _edit_json(record: Record, **changes: object) -> Record:
    return record._replace(value=json.dumps(json.loads(record.value or b"") | changes).encode())


def _two_of_one_session(log: list[Record]) -> tuple[int, int]:
    """Places of two successive records with one key."""
    last: dict[bytes | None, int] = {}
    for index, record in enumerate(log):
        if record.key in last:
            return last[record.key], index
        last[record.key] = index
    raise AssertionError("no session has two records")


@damage("S3", "lost", "lost: output")
def an_output_is_missing(logs: Logs) -> None:
    del logs.output[1][40]


@damage("S3", "lost", "lost: output")
def the_last_output_is_missing(logs: Logs) -> None:
    del logs.output[0][-1]


@damage("S3", "duplicated", "duplicated: output")
def an_output_is_there_twice(logs: Logs) -> None:
    logs.output[1].append(logs.output[1][40]._replace(offset=1_000_000))


@damage("S3", "different", "value from byte")
def a_byte_of_an_output_differs(logs: Logs) -> None:
    record = logs.output[2][7]
    assert record.value is not None
    logs.output[2][7] = record._replace(value=record.value.replace(b'"name":"', b'"name":"_', 1) + b" ")


@damage("S3", "different", "timestamp")
def an_output_has_another_timestamp(logs: Logs) -> None:
    logs.output[0][3] = logs.output[0][3]._replace(timestamp=logs.output[0][3].timestamp + 1)


@damage("S3", "different", "headers")
def an_output_lacks_a_header(logs: Logs) -> None:
    record = logs.output[0][3]
    logs.output[0][3] = record._replace(headers=tuple(h for h in record.headers if h[0] != "ce_time"))


@damage("S3", "different", "key")
def an_output_has_another_key(logs: Logs) -> None:
    logs.output[0][3] = logs.output[0][3]._replace(key=b"someone else")


@damage("S3", "reordered", "reordered: output")
def two_outputs_of_one_session_are_swapped(logs: Logs) -> None:
    log = logs.output[1]
    one, other = _two_of_one_session(log)
    log[one], log[other] = log[other]._replace(offset=log[one].offset), log[one]._replace(offset=log[other].offset)


@damage("S3", "unexpected", "unexpected: output")
def an_output_is_in_another_partition(logs: Logs) -> None:
    logs.output[0].append(logs.output[1].pop()._replace(partition=0))


@damage("S3", "unexpected", "revision 99 follows")
def a_revision_is_skipped(logs: Logs) -> None:
    record = logs.output[1][40]
    headers = tuple((n, v.rsplit(b"/")[0] + b"/99" if n == "ce_id" else v) for n, v in record.headers)
    logs.output[1][40] = _edit_json(record, revision=99)._replace(headers=headers)


@damage("S3", "different", "is not an enriched session")
def an_output_is_not_json(logs: Logs) -> None:
    logs.output[1][40] = logs.output[1][40]._replace(value=b"{")


@damage("S4", "different", "session_closed to open from open")
def an_output_tells_an_illegal_transition(logs: Logs) -> None:
    log = logs.output[1]
    index = next(i for i, r in enumerate(log) if b'"session_updated"' in (r.value or b""))
    log[index] = _edit_json(log[index], type="session_closed")


@damage("S6", "different", "the exact sums")
def a_total_is_off_by_the_smallest_digit(logs: Logs) -> None:
    log = logs.output[1]
    index = next(i for i, r in enumerate(log) if json.loads(r.value or b"")["customer_session"]["total"] > 1)
    value = log[index].value
    assert value is not None
    log[index] = log[index]._replace(value=value.removesuffix(b"}}") + b"00000000000001}}")


@damage("S5", "lost", "lost: dead letter")
def a_dead_letter_is_missing(logs: Logs) -> None:
    del logs.dead_letters[1][0]


@damage("S5", "duplicated", "duplicated: dead letter")
def a_dead_letter_is_there_twice(logs: Logs) -> None:
    logs.dead_letters[1].append(logs.dead_letters[1][0]._replace(offset=1_000_000))


def _first_with_value(letters: list[Record]) -> int:
    return next(index for index, letter in enumerate(letters) if letter.value)


@damage("S5", "different", "is not the record it names")
def a_dead_letters_value_was_touched(logs: Logs) -> None:
    index = _first_with_value(logs.dead_letters[1])
    letter = logs.dead_letters[1][index]
    logs.dead_letters[1][index] = letter._replace(value=(letter.value or b"")[:-1])


@damage("S5", "different", "is not the record it names")
def a_dead_letters_null_value_became_empty(logs: Logs) -> None:
    for letters in logs.dead_letters.values():
        for index, letter in enumerate(letters):
            if letter.value is None:
                letters[index] = letter._replace(value=b"")
                return
    raise AssertionError("no tombstone among the input")


@damage("S5", "different", "timestamp")
def a_dead_letter_has_the_time_of_its_refusal(logs: Logs) -> None:
    logs.dead_letters[1][0] = logs.dead_letters[1][0]._replace(timestamp=1)


@damage("S5", "different", "dead_letter.code")
def a_dead_letter_tells_another_reason(logs: Logs) -> None:
    letter = logs.dead_letters[1][0]
    headers = tuple((n, b"stale!" if n == "dead_letter.code" else v) for n, v in letter.headers)
    logs.dead_letters[1][0] = letter._replace(headers=headers)


@damage("S5", "unexpected", "names no processed input record")
def a_dead_letter_names_another_source(logs: Logs) -> None:
    letter = logs.dead_letters[1][0]
    headers = tuple((n, b"999999" if n == "dead_letter.offset" else v) for n, v in letter.headers)
    logs.dead_letters[1][0] = letter._replace(headers=headers)


@damage("S5", "different", "original headers")
def a_dead_letter_lost_an_original_header(logs: Logs) -> None:
    for partition, letters in logs.dead_letters.items():
        for index, letter in enumerate(letters):
            if len(letter.headers) > 9:
                logs.dead_letters[partition][index] = letter._replace(headers=letter.headers[1:])
                return
    raise AssertionError("no rejected record with headers of its own")


@damage("S5", "reordered", "reordered: dead letter")
def two_dead_letters_are_swapped(logs: Logs) -> None:
    log = logs.dead_letters[1]
    log[0], log[1] = log[1], log[0]


@damage("S1", "lost", "gap")
def a_ledger_record_is_missing(logs: Logs) -> None:
    del logs.ledger[1][2]


@damage("S1", "lost", "input records in no range")
def the_last_ledger_record_is_missing(logs: Logs) -> None:
    del logs.ledger[1][
        max(at for at, entry in enumerate(logs.ledger[1]) if b'"records":0,' not in (entry.value or b""))
    ]


@damage("S1", "duplicated", "overlap")
def a_ledger_record_is_there_twice(logs: Logs) -> None:
    logs.ledger[1].insert(2, logs.ledger[1][1])


@damage("S1", "duplicated", "overlap")
def a_ledger_range_begins_too_early(logs: Logs) -> None:
    entry = logs.ledger[1][2]
    logs.ledger[1][2] = _edit_json(entry, first_offset=json.loads(entry.value or b"")["first_offset"] - 1)


@damage("S1", "lost", "gap")
def a_ledger_range_begins_too_late(logs: Logs) -> None:
    entry = logs.ledger[1][2]
    logs.ledger[1][2] = _edit_json(entry, first_offset=json.loads(entry.value or b"")["first_offset"] + 1)


@damage("S1", "", "records is")
def a_ledger_record_counts_one_too_many(logs: Logs) -> None:
    entry = logs.ledger[1][2]
    logs.ledger[1][2] = _edit_json(entry, records=json.loads(entry.value or b"")["records"] + 1)


@damage("S1", "", "outcomes is")
def a_ledger_record_counts_an_accepted_as_unchanged(logs: Logs) -> None:
    entry = logs.ledger[1][2]
    outcomes = json.loads(entry.value or b"")["outcomes"]
    outcomes |= {"accepted": outcomes["accepted"] - 1, "unchanged": outcomes["unchanged"] + 1}
    logs.ledger[1][2] = _edit_json(entry, outcomes=outcomes)


@damage("S1", "", "reasons is")
def a_ledger_record_counts_another_reason(logs: Logs) -> None:
    for index, entry in enumerate(logs.ledger[1]):
        reasons = json.loads(entry.value or b"")["reasons"]
        if reasons:
            code = next(iter(reasons))
            other = "stale" if code != "stale" else "malformed"
            logs.ledger[1][index] = _edit_json(entry, reasons={other: reasons[code]})
            return
    raise AssertionError("no rejected record")


@damage("S1", "", "ignored_fields is")
def a_ledger_record_counts_ignored_fields_wrongly(logs: Logs) -> None:
    entry = logs.ledger[1][2]
    logs.ledger[1][2] = _edit_json(entry, ignored_fields=json.loads(entry.value or b"")["ignored_fields"] + 1)


def _with_answers(logs: Logs) -> tuple[list[Record], int]:
    """A partition's ledger, and where in it the second record stands that took answers."""
    ledger = logs.ledger[1]
    return ledger, [at for at, entry in enumerate(ledger) if "answers" in json.loads(entry.value or b"")][1]


@damage("S1", "", "answers, there are")
def a_ledger_record_counts_another_number_of_answers(logs: Logs) -> None:
    ledger, at = _with_answers(logs)
    taken = json.loads(ledger[at].value or b"")["answers"]
    ledger[at] = _edit_json(ledger[at], answers=taken | {"records": taken["records"] + 1})


@damage("S1", "", "expected from")
def a_ledger_record_takes_answers_again(logs: Logs) -> None:
    ledger, at = _with_answers(logs)
    taken = json.loads(ledger[at].value or b"")["answers"]
    ledger[at] = _edit_json(ledger[at], answers=taken | {"first_offset": taken["first_offset"] - 1})


@damage("S1", "", "of the answers, committed is")
def the_committed_offset_of_the_answers_is_one_behind(logs: Logs) -> None:
    logs.committed_answers[1] -= 1


@damage("S2", "", "in the answers, committed there is")
def the_position_record_is_behind_in_the_answers(logs: Logs) -> None:
    _set_position(logs, 0, move_answers=-1)


@damage("S7", "", "answers are not taken")
def an_answer_is_not_taken(logs: Logs) -> None:
    last = logs.answers[1][-1]
    logs.answers[1].append(last._replace(offset=last.offset + 1))


@damage("S1", "", "names another source")
def a_ledger_record_names_another_partition(logs: Logs) -> None:
    logs.ledger[1][2] = _edit_json(logs.ledger[1][2], partition=0)


@damage("S1", "", "key")
def a_ledger_record_has_a_key(logs: Logs) -> None:
    logs.ledger[1][2] = logs.ledger[1][2]._replace(key=b"order-1")


@damage("S10", "lost", "lost: claim")
def a_claim_is_missing(logs: Logs) -> None:
    partition = max(logs.claims, key=lambda each: len(logs.claims[each]))
    del logs.claims[partition][-1]


@damage("S10", "duplicated", "duplicated: claim")
def a_claim_is_there_twice(logs: Logs) -> None:
    log = next(log for log in logs.claims.values() if log)
    log.append(log[-1]._replace(offset=1_000_000))


@damage("S10", "", "in the wrong place")
def a_claim_is_in_another_partition(logs: Logs) -> None:
    one, other = list(logs.claims)[:2]
    logs.claims[other].append(logs.claims[one].pop()._replace(partition=other))


@damage("S10", "lost", "lost: answer")
def an_answer_is_missing(logs: Logs) -> None:
    del next(log for log in logs.answers.values() if log)[0]


@damage("S10", "unexpected", "unexpected: answer")
def an_answer_names_another_owner(logs: Logs) -> None:
    log = next(log for log in logs.answers.values() if log)
    log[0] = _edit_json(log[0], owner="somebody")


@damage("S10", "different", "row of profile")
def a_profile_has_another_owner(logs: Logs) -> None:
    log = next(log for log in logs.profiles.values() if log)
    row = next(at for at, record in enumerate(log) if record.key != POSITION_KEY)
    log.append(log[row]._replace(offset=1_000_000, value=b"\x92\x01\x93\xa1x\x90\xc2"))


@damage("S10", "different", "store row of profile")
def a_store_lacks_a_profile(logs: Logs) -> None:
    stores = {partition: dict(rows) for partition, rows in logs.profile_stores[0].items()}
    del next(rows for rows in stores.values() if rows)[next(iter(next(rows for rows in stores.values() if rows)))]
    logs.profile_stores = [stores]


@damage("S7", "", "is not answered")
def a_claim_is_not_read(logs: Logs) -> None:
    partition = next(partition for partition, log in logs.claims.items() if log)
    logs.committed_claims[partition] -= 1


@damage("S2", "", "how much is held")
def a_count_of_what_is_held_is_left_behind(logs: Logs) -> None:
    logs.changelog[1].append(logs.changelog[1][0]._replace(offset=1_000_000, key=b"\xff\x01held-bytes", value=b"1"))


@damage("S2", "different", "changelog row of")
def a_changelog_row_differs(logs: Logs) -> None:
    last = next(i for i, r in reversed(list(enumerate(logs.changelog[1]))) if not (r.key or b"").startswith(b"\xff"))
    row = logs.changelog[1][last]
    logs.changelog[1][last] = row._replace(value=(row.value or b"") + b"\x00")


@damage("S2", "different", "changelog row of")
def the_changelog_lacks_the_last_change_of_a_row(logs: Logs) -> None:
    log = logs.changelog[1]
    waiting = {record.key for record in log if (record.value or b"").startswith(b"\x93")}
    rows = [
        at for at, record in enumerate(log) if not (record.key or b"").startswith(b"\xff") and record.key not in waiting
    ]

    def changed_before(index: int) -> bool:
        return any(log[j].key == log[index].key and log[j].value != log[index].value for j in rows if j < index)

    del log[next(index for index in reversed(rows) if changed_before(index))]


@damage("S2", "lost", "changelog lacks the row")
def a_changelog_row_was_deleted(logs: Logs) -> None:
    row = next(record for record in logs.changelog[1] if record.key != POSITION_KEY)
    logs.changelog[1].append(row._replace(offset=1_000_000, value=None))


@damage("S2", "unexpected", "no input explains")
def the_changelog_has_a_row_of_nobody(logs: Logs) -> None:
    logs.changelog[1].append(logs.changelog[1][-1]._replace(offset=1_000_000, key=b"nobody"))


def _set_position(logs: Logs, move: int, move_answers: int = 0) -> None:
    log = logs.changelog[1]
    last = next(i for i, r in reversed(list(enumerate(log))) if r.key == POSITION_KEY)
    value = encode_position(Position("updates", logs.committed[1] + move, logs.committed_answers[1] + move_answers))
    log[last] = log[last]._replace(value=value)


@damage("S2", "", "the position record holds")
def the_position_record_is_one_behind(logs: Logs) -> None:
    _set_position(logs, -1)


@damage("S2", "", "the position record holds")
def the_position_record_is_one_ahead(logs: Logs) -> None:
    _set_position(logs, 1)


@damage("S2", "", "no position record")
def there_is_no_position_record(logs: Logs) -> None:
    logs.changelog[1] = [record for record in logs.changelog[1] if record.key != POSITION_KEY]


@damage("S2", "different", "store row of")
def a_local_row_is_old(logs: Logs) -> None:
    store = dict(logs.stores[0][1])
    store[next(iter(store))] += b"\x00"
    logs.stores = [{1: store}]


@damage("S2", "lost", "store lacks the row")
def a_local_row_is_missing(logs: Logs) -> None:
    store = dict(logs.stores[0][1])
    del store[next(iter(store))]
    logs.stores = [{1: store}]


@damage("S2", "unexpected", "store has a row")
def a_local_store_is_ahead_of_the_changelog(logs: Logs) -> None:
    logs.stores = [{1: {**logs.stores[0][1], b"uncommitted": b"\x92\x01"}}]


@damage("S2", "", "the store's position")
def a_local_store_holds_another_position(logs: Logs) -> None:
    logs.stores = [{1: {**logs.stores[0][1], POSITION_KEY: encode_position(Position("updates", 5))}}]


@damage("S2", "", "in the answers, committed there is")
def a_local_store_is_behind_in_the_answers(logs: Logs) -> None:
    value = encode_position(Position("updates", logs.committed[1], logs.committed_answers[1] - 1))
    logs.stores = [{1: {**logs.stores[0][1], POSITION_KEY: value}}]


@damage("S1", "", "ledger ends at")
def the_committed_offset_is_one_behind(logs: Logs) -> None:
    logs.committed[1] -= 1


@damage("S7", "", "lag 1")
def an_event_is_not_processed(logs: Logs) -> None:
    last = logs.input[2][-1]
    logs.input[2].append(last._replace(offset=last.offset + 1))


@damage("S3", "unexpected", "unexpected: output")
def there_are_outputs_of_events_nobody_sent(logs: Logs) -> None:
    logs.input[2] = logs.input[2][: len(logs.input[2]) // 2]


@damage("S8", "", "ValueError: boom")
def a_worker_logged_an_unhandled_exception(logs: Logs) -> None:
    logs.worker_logs.append("x\nTraceback (most recent call last):\n  File y\nValueError: boom\n")


@damage("S8", "", "never retrieved")
def a_task_died_unnoticed(logs: Logs) -> None:
    logs.worker_logs.append("Task exception was never retrieved\n")


@damage("schema", "", "enriched at offset")
def an_output_has_an_undeclared_field(logs: Logs) -> None:
    logs.output[1][40] = _edit_json(logs.output[1][40], surprise=1)


@damage("schema", "", "ledger at offset")
def a_ledger_record_has_an_undeclared_field(logs: Logs) -> None:
    logs.ledger[1][2] = _edit_json(logs.ledger[1][2], surprise=1)


@pytest.mark.parametrize(
    ("rule", "counter", "says", "harm"), [case[1:] for case in DAMAGES], ids=[case[0] for case in DAMAGES]
)
def test_damage_is_found_and_named(logs: Logs, rule: str, counter: str, says: str, harm: Damage) -> None:
    harm(logs)
    verdict = judge(logs, RULES)
    assert rule in verdict.broken, str(verdict)
    if counter:
        assert getattr(verdict, counter) > 0, str(verdict)
    with pytest.raises(AssertionError) as raised:
        verdict.require_clean()
    assert says in str(raised.value), str(raised.value)


def test_every_rule_has_a_damage_that_breaks_it() -> None:
    assert {case[1] for case in DAMAGES} == {"S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S10", "schema"}
