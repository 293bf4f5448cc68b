"""The oracle's part about profiles (S10): claims, answers and the profiles' table.

Every binding of a session to a profile makes exactly one claim, on the partition of the profile; every claim gets
exactly one answer, on the partition of its session; who was first is the claim log's order. Folded here without the
worker's code.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from zlib import crc32

from tests.logs import ByPartition, Logs, Record, ordered
from tests.verdict import Verdict

POSITION_KEY: Final = b"\xff\x00position"
SESSIONS_KEPT: Final = 100
"""Contract: a profile remembers its latest sessions."""


class Claim(NamedTuple):
    """One update bound a session to a profile; `timestamp` in ms, the update's."""

    profile_id: str
    integration_id: str
    revision: int
    timestamp: int


def owners_in(claims: Mapping[int, Sequence[Record]]) -> dict[str, str]:
    """profile_id → integration_id of whoever claimed it first. A profile's claims are all in one partition."""
    owners: dict[str, str] = {}
    for record in ordered(claims):
        told = json.loads(record.value or b"")
        owners.setdefault(told["profile_id"], told["integration_id"])
    return owners


def judge_claims(
    logs: Logs,
    expected: Iterable[tuple[int, Claim]],
    profile_row: Callable[[str, Sequence[str], bool], bytes],
    position_in: Callable[[bytes], tuple[int, int]],
    verdict: Verdict,
) -> None:
    """`expected`: the claims of the model's steps, each with its session's partition."""
    _judge_claim_log(logs.claims, expected, verdict)
    _judge_answers(logs, verdict)
    for partition, log in logs.claims.items():
        _judge_profiles(logs, partition, log, profile_row, position_in, verdict)


def judge_answers_taken(logs: Logs, partition: int, ledger: Iterable[Record], verdict: Verdict) -> None:
    """The answers that the partition's transactions took, by its ledger: ranges that join, with the right counts, up to
    the group's offset and to the last answer."""
    answers = [answer.offset for answer in logs.answers.get(partition, ())]
    reached = 0
    for entry in ledger:
        taken = json.loads(entry.value or b"{}").get("answers")
        if taken is None:
            continue
        first, last, records = taken["first_offset"], taken["last_offset"], taken["records"]
        where = f"ledger record at offset {entry.offset} (answers {first} to {last})"
        if first != reached:
            verdict.fault("S1", partition, f"{where}: expected from {reached}")
        there = answers[bisect_left(answers, first) : bisect_right(answers, last)]
        if records != len(there) or last != max(there, default=first - 1):
            verdict.fault("S1", partition, f"{where}: {records} answers, there are {len(there)}: {there[-1:]} is last")
        reached = last + 1
    if (committed := logs.committed_answers.get(partition, 0)) != reached:
        verdict.fault("S1", partition, f"ledger ends at {reached} of the answers, committed is {committed}")
    if waiting := len(answers) - bisect_left(answers, reached):
        verdict.lag += waiting
        verdict.fault("S7", partition, f"{waiting} answers are not taken")


def _judge_claim_log(claims: ByPartition, expected: Iterable[tuple[int, Claim]], verdict: Verdict) -> None:
    wanted = Counter((partition, *claim) for partition, claim in expected)
    found: Counter[tuple[int, str, str, int, int]] = Counter()
    for record in ordered(claims):
        told = json.loads(record.value or b"")
        profile_id = told["profile_id"]
        found[told["partition"], profile_id, told["integration_id"], told["revision"], told["timestamp_ms"]] += 1
        if record.key != profile_id.encode() or record.partition != crc32(profile_id.encode()) % len(claims):
            verdict.fault("S10", record.partition, f"the claim at offset {record.offset} is in the wrong place: {told}")
    _compare("claim", wanted, found, verdict)


def _judge_answers(logs: Logs, verdict: Verdict) -> None:
    owners = owners_in(logs.claims)
    wanted: Counter[tuple[int, str, str, int, str]] = Counter()
    for partition, log in logs.claims.items():
        for record in log:
            if record.offset >= logs.committed_claims.get(partition, 0):
                verdict.lag += 1
                verdict.fault("S7", partition, f"the claim at offset {record.offset} is not answered")
                continue
            told = json.loads(record.value or b"")
            owner = owners[told["profile_id"]]
            wanted[told["partition"], told["integration_id"], told["profile_id"], told["revision"], owner] += 1
    found: Counter[tuple[int, str, str, int, str]] = Counter()
    for record in ordered(logs.answers):
        told = json.loads(record.value or b"")
        asked = told["integration_id"], told["profile_id"], told["revision"]
        found[record.partition, *asked, told["owner"]] += 1
    _compare("answer", wanted, found, verdict)


def _compare(
    what: str,
    wanted: Counter[tuple[int, str, str, int, int]] | Counter[tuple[int, str, str, int, str]],
    found: Counter[tuple[int, str, str, int, int]] | Counter[tuple[int, str, str, int, str]],
    verdict: Verdict,
) -> None:
    """As often there as it must be."""
    for each in wanted.keys() | found.keys():
        more = found[each] - wanted[each]  # type: ignore[index]
        if more < 0:
            verdict.lost -= more
            verdict.fault("S10", None, f"lost: {what} {each}")
        elif more and wanted[each]:  # type: ignore[index]
            verdict.duplicated += more
            verdict.fault("S10", None, f"duplicated: {what} {each}")
        elif more:
            verdict.unexpected += more
            verdict.fault("S10", None, f"unexpected: {what} {each}")


def _judge_profiles(
    logs: Logs,
    partition: int,
    claims: Sequence[Record],
    profile_row: Callable[[str, Sequence[str], bool], bytes],
    position_in: Callable[[bytes], tuple[int, int]],
    verdict: Verdict,
) -> None:
    """The changelog of profiles, compacted, and every store of them against the claims that are done."""
    reached = logs.committed_claims.get(partition, 0)
    sessions: dict[bytes, list[str]] = {}
    touched: dict[bytes, int] = {}
    cut: set[bytes] = set()
    first: dict[bytes, str] = {}
    for record in claims:
        if record.offset >= reached:
            break
        told = json.loads(record.value or b"")
        key = told["profile_id"].encode()
        first.setdefault(key, told["integration_id"])
        bound = sessions.setdefault(key, [])
        if told["integration_id"] not in bound:
            bound.append(told["integration_id"])
            touched[key] = told["timestamp_ms"]
            if len(bound) > SESSIONS_KEPT:
                cut.add(key)
                del bound[0]
    wanted = {key: profile_row(first[key], bound, key in cut) for key, bound in sessions.items()}
    times = {record.key: record.timestamp for record in logs.profiles.get(partition, ())}
    for key, timestamp in touched.items():
        if times.get(key, timestamp) != timestamp:
            verdict.fault("S10", partition, f"the row of profile {key!r} has the time {times[key]}, not {timestamp}")
    changelog = {record.key or b"": record.value or b"" for record in logs.profiles.get(partition, ())}
    for name, rows in (
        ("changelog", changelog),
        *(("store", stores[partition]) for stores in logs.profile_stores if partition in stores),
    ):
        position = rows.get(POSITION_KEY)
        if position is not None and position_in(position) != (reached, 0):
            verdict.fault("S10", partition, f"the profiles' {name} is at {position_in(position)}, committed {reached}")
        found = {key: row for key, row in rows.items() if not key.startswith(b"\xff")}
        for key in wanted.keys() | found.keys():
            if wanted.get(key) != found.get(key):
                verdict.different += 1
                told_as = f"expected {wanted.get(key)!r}, found {found.get(key)!r}"
                verdict.fault("S10", partition, f"{name} row of profile {key!r}: {told_as}")
