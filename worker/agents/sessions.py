"""The sessions agent: a batch of update records becomes enriched sessions, dead letters, rows and a ledger record.

An update that binds a session to a profile also becomes a claim (wire.claim). The answer comes back as feedback;
until then the session's outputs are held in its row (session.pending), and nobody else waits. What is held is bounded:
at the bound the batch ends early (Effects.taken), and the partition's input rests until answers come.

Everything here is a pure function of the records and the stored rows. To fold an input by other means (`verify`)
use this handler on batches of any size over a plain dict of rows: as long as answers come in between the same
records, batches of one and batches of a thousand give the same rows and the same records, ledger aside. The parts are
public too: `wire.update.decode`, `session.apply.apply`, `wire.enriched.encode`, `wire.row.encode`.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from worker import __version__
from worker.engine.batch import RESERVED_KEY_PREFIX, Batch, Effects, OutRecord, RowsView, SourceRecord
from worker.errors import UnknownFormat
from worker.session.apply import Accepted, Duplicate, Unchanged, apply
from worker.session.model import Limits, Session, Update
from worker.session.pending import HeldOutput, Pending, UnexpectedAnswer
from worker.session.rejections import Code, Rejected
from worker.wire import claim, dead_letter, enriched, ledger, row
from worker.wire.spelling import OutputCase
from worker.wire.update import decode, key_spoken_of

RECORD_SLACK_BYTES: Final = 512
"""What a record costs on top of its key, value and headers: the fields around them, and room to spare."""

SESSION_HELD_BYTES: Final = 256 * 1024
PARTITION_HELD_BYTES: Final = 16 * 1024 * 1024
"""Outputs that wait for an answer, per session and per partition, but always at least one. Some 300 and 18,000 usual
ones: seconds of traffic, while answers take a tenth of a second."""

HELD_KEY: Final = RESERVED_KEY_PREFIX + b"\x01held-bytes"
"""The partition's row for how much is held in all its sessions, in decimal digits; no row when nothing is."""

_NO_HEADERS: Final[enriched.Headers] = []

Transition: TypeAlias = tuple[str, str]
"""(state before, state after); "none" before the session existed."""


class SessionsConfig(Struct, frozen=True):
    """What of the settings decides about sessions."""

    enriched_topic: str = "sessions.enriched.v1"
    dead_letters_topic: str = "sessions.updates.v1.dead-letters"
    ledger_topic: str = "sessions.ledger.v1"
    claims_topic: str = "session-worker-profile-claims"
    partitions: int = 4
    """Of every topic; the claims topic's decide where a profile's claims go."""
    limits: Limits = Limits()
    output_case: OutputCase = "snake"
    max_record_bytes: int = 1_000_000
    """The largest enriched record or row, with key, headers and RECORD_SLACK_BYTES."""
    worker_version: str = __version__


class BatchSummary(Struct, frozen=True):
    """A batch in numbers, for metrics and logs. Reasons and transitions hold only what occurred."""

    records: int
    outcomes: ledger.Outcomes
    reasons: dict[Code, int]
    transitions: dict[Transition, int]
    """Changes of state and creations; an update that leaves the state as it is is none."""
    ignored_fields: int
    held_bytes: int
    """Of outputs that wait for an answer, in the whole partition, after the batch."""


class SessionsHandler:
    """The engine's BatchHandler for session updates. Holds no state between batches."""

    def __init__(self, config: SessionsConfig) -> None:
        self._config = config

    def __call__(self, batch: Batch, rows: RowsView) -> Effects:
        """All effects of the batch, feedback first. Whatever a producer sent, it does not raise; a stored row or an
        answer that no worker wrote does (UnknownFormat, UnreadableClaim, UnexpectedAnswer)."""
        work = _Work(self._config, batch, rows)
        for answer in batch.feedback:
            work.take_answer(answer)
        for record in batch.records:
            if not work.take(record):
                break
        return work.effects()


class _Waiting(NamedTuple):
    """A session with outputs that wait, as the batch left it so far."""

    session: Session
    pending: Pending


class _Work:
    """One batch in the making: its rows so far, and what it will send.

    A session is encoded as soon as it changes and decoded again if the batch comes back to it: most sessions appear
    once in a batch, and thousands of decoded ones would push each other out of the processor's cache. Those that wait
    for an answer stay decoded: their rows hold outputs, and are many times as large.
    """

    def __init__(self, config: SessionsConfig, batch: Batch, rows: RowsView) -> None:
        self._config = config
        self._limits = config.limits
        self._small_bytes = config.max_record_bytes // 2
        self._batch = batch
        self._rows = rows
        self._taken = 0
        self._held_bytes_before = self._held_bytes = int(rows.get(HELD_KEY) or b"0")
        self._changed: dict[bytes, OutRecord] = {}
        self._waiting: dict[bytes, _Waiting] = {}
        self._enriched: list[OutRecord] = []
        self._dead_letters: list[OutRecord] = []
        self._claims: dict[int, list[OutRecord]] = {}
        self._accepted = 0
        self._unchanged = 0
        self._duplicates = 0
        self._reasons: Counter[Code] = Counter()
        self._transitions: Counter[Transition] = Counter()
        self._ignored_fields = 0

    # ------------------------------------------------------------------ updates

    def take(self, record: SourceRecord) -> bool:
        """One record, to its one outcome. False when its output cannot be held: nothing of it happened."""
        limits = self._limits
        update = decode(record.value, record.key, record.timestamp, may_be_negative=limits.allow_negative_prices)
        if isinstance(update, Rejected):
            key = key_spoken_of(record.value, record.key)
            self._reject(record, update, None if key is None else self._stored(key)[0])
            self._taken += 1
            return True
        key = update.integration_id.encode() if record.key is None else record.key
        stored, pending = self._stored(key)
        outcome = apply(stored, update, limits)
        match outcome:
            case Accepted():
                if not self._accept(record, key, update, stored, pending, outcome):
                    return False
            case Unchanged(session):
                self._keep(record, key, stored, pending, session)
            case Duplicate():
                self._duplicates += 1
            case Rejected():
                self._reject(record, outcome, stored)
        self._ignored_fields += update.ignored_fields
        self._taken += 1
        return True

    def _accept(
        self,
        record: SourceRecord,
        key: bytes,
        update: Update,
        stored: Session | None,
        pending: Pending | None,
        accepted: Accepted,
    ) -> bool:
        session, timestamp_ms = accepted.session, record.timestamp
        value = enriched.encode(accepted.type, session, update, self._config.output_case)
        headers = enriched.headers(accepted.type, session, update, record.headers)
        changed = row.encode(session)
        # first_session counts as "false", the longer one: what fits must not depend on when an answer comes.
        if not self._fit(key, len(value) + session.first_session, headers, changed):
            self._reject(record, self._too_large(), stored)
            return True
        if pending is None and accepted.claims is None:
            self._enriched.append(OutRecord(key, value, headers, timestamp_ms))
            self._changed[key] = OutRecord(key, changed, _NO_HEADERS, timestamp_ms)
        else:
            carried_over = headers[enriched.OWN_HEADERS :]
            held = HeldOutput(session.revision, value, accepted.type, update.occurred_at, carried_over, timestamp_ms)
            if not self._hold(key, session, pending or Pending(0, 0, [], []), held, accepted.claims):
                return False
        self._accepted += 1
        if accepted.previous_state != session.state:
            self._transitions[accepted.previous_state or "none", session.state] += 1
        return True

    def _keep(
        self, record: SourceRecord, key: bytes, stored: Session | None, pending: Pending | None, session: Session
    ) -> None:
        if session is not stored:
            changed = row.encode(session)
            if not self._row_fits(key, changed):
                self._reject(record, self._too_large(), stored)
                return
            if pending is None:
                self._changed[key] = OutRecord(key, changed, _NO_HEADERS, record.timestamp)
            else:
                pending.touched_ms = record.timestamp
                self._waiting[key] = _Waiting(session, pending)
        self._unchanged += 1

    def _reject(self, record: SourceRecord, rejected: Rejected, stored: Session | None) -> None:
        headers = dead_letter.headers(
            rejected,
            record.headers,
            value=record.value,
            state="" if stored is None else stored.state,
            topic=self._batch.topic,
            partition=self._batch.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            worker_version=self._config.worker_version,
        )
        self._dead_letters.append(OutRecord(record.key, record.value, headers, record.timestamp))
        self._reasons[rejected.code] += 1

    def _stored(self, key: bytes) -> tuple[Session | None, Pending | None]:
        """The session as the records before this one left it, and what waits in it."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            return waiting
        changed = self._changed.get(key)
        stored = self._rows.get(key) if changed is None else changed.value
        try:
            return (None, None) if stored is None else row.decode_with_pending(stored)
        except row.UnreadableRow as problem:
            raise UnknownFormat(
                f"{self._batch.topic}[{self._batch.partition}], offsets {self._batch.first_offset} to "
                f"{self._batch.last_offset}: the stored row of a session among them cannot be read: {problem}",
                "run the version of the worker that wrote the changelog, or a newer one; if no worker wrote that row, "
                "restore the changelog topic from a backup",
            ) from None

    # ------------------------------------------------------------------ outputs that wait, and answers

    def _hold(self, key: bytes, session: Session, pending: Pending, output: HeldOutput, claims: str | None) -> bool:
        """Keeps the output in the session's row, and makes the claim. False when too much is held already."""
        cost_bytes = output.cost_bytes
        if pending.held_bytes and pending.held_bytes + cost_bytes > SESSION_HELD_BYTES:
            return False
        if self._held_bytes and self._held_bytes + cost_bytes > PARTITION_HELD_BYTES:
            return False
        self._held_bytes += cost_bytes
        pending.hold(output, binds=claims is not None)
        self._waiting[key] = _Waiting(session, pending)
        if claims is not None:
            made = claim.Claim(
                claims, session.integration_id, session.revision, self._batch.partition, output.timestamp_ms
            )
            out = OutRecord(claims.encode(), claim.encode(made), _NO_HEADERS, output.timestamp_ms)
            to = claim.partition_of(claims, self._config.partitions)
            self._claims.setdefault(to, []).append(out)
        return True

    def take_answer(self, record: SourceRecord) -> None:
        """The answer to one claim: emits what waited for it."""
        answer = claim.decode_answer(record.value)
        key = answer.integration_id.encode()
        session, pending = self._stored(key)
        if session is None or pending is None:
            raise UnexpectedAnswer(f"{record.offset}: the session of this answer does not wait for any")
        pending.answer(answer.revision, first_session=answer.first_session)
        if pending.first_session is not None:
            session = replace(session, first_session=pending.first_session)
        self._held_bytes -= pending.held_bytes
        for output, is_first in pending.release():
            value = enriched.with_first_session(output.value, first_session=is_first)
            headers = enriched.headers_of_revision(output.event_type, session, output.revision, output.occurred_at)
            self._enriched.append(OutRecord(key, value, headers + output.carried_over, output.timestamp_ms))
        self._held_bytes += pending.held_bytes
        if pending.held:
            self._waiting[key] = _Waiting(session, pending)
        else:
            self._waiting.pop(key, None)
            self._changed[key] = OutRecord(key, row.encode(session), _NO_HEADERS, pending.touched_ms)

    # ------------------------------------------------------------------ sizes

    def _fit(self, key: bytes, value_size: int, headers: enriched.Headers, changed: bytes) -> bool:
        """Whether the topics take the enriched record and the row: a transaction with a record that is too large
        would fail for ever."""
        size = len(key) + value_size + len(changed) + RECORD_SLACK_BYTES
        for _, text in headers[enriched.OWN_HEADERS :]:
            size += len(text)
        # Names and headers of our own are smaller than the rest, so few records need adding up.
        if size <= self._small_bytes:
            return True
        size = len(key) + value_size + sum(len(name) + len(text) for name, text in headers) + RECORD_SLACK_BYTES
        return size <= self._config.max_record_bytes and self._row_fits(key, changed)

    def _row_fits(self, key: bytes, changed: bytes) -> bool:
        return len(key) + len(changed) + RECORD_SLACK_BYTES <= self._config.max_record_bytes

    def _too_large(self) -> Rejected:
        limit = self._config.max_record_bytes
        return Rejected("limit_exceeded", f"With this update the session would be larger than {limit} bytes")

    # ------------------------------------------------------------------ all together

    def effects(self) -> Effects:
        """What the records taken so far change."""
        batch, config = self._batch, self._config
        taken = batch.records[: self._taken]
        outcomes = ledger.Outcomes(
            accepted=self._accepted,
            unchanged=self._unchanged,
            duplicate=self._duplicates,
            rejected=len(self._dead_letters),
        )
        entry = ledger.Entry(
            batch.topic,
            batch.partition,
            batch.first_offset,
            taken[-1].offset if taken else batch.first_offset - 1,
            len(taken),
            outcomes,
            self._reasons,
            self._ignored_fields,
            len(self._enriched),
            ledger.Answers(batch.feedback_first_offset, batch.feedback[-1].offset, len(batch.feedback))
            if batch.feedback
            else None,
        )
        timestamp_ms = (taken or batch.feedback)[-1].timestamp if taken or batch.feedback else 0  # the topic stamps it
        sends = {
            config.enriched_topic: self._enriched,
            config.dead_letters_topic: self._dead_letters,
            config.ledger_topic: [OutRecord(None, ledger.encode(entry), _NO_HEADERS, timestamp_ms)],
        }
        for key, (session, pending) in self._waiting.items():
            self._changed[key] = OutRecord(key, row.encode(session, pending), _NO_HEADERS, pending.touched_ms)
        if self._held_bytes != self._held_bytes_before:
            held = b"%d" % self._held_bytes if self._held_bytes else None
            # Without a time, which would tell how the input was cut into batches.
            self._changed[HELD_KEY] = OutRecord(HELD_KEY, held, _NO_HEADERS, 0)
        return Effects(
            rows=self._changed,
            sends={topic: records for topic, records in sends.items() if records},
            routed={config.claims_topic: self._claims} if self._claims else {},
            summary=BatchSummary(
                len(taken), outcomes, self._reasons, self._transitions, self._ignored_fields, self._held_bytes
            ),
            taken=self._taken,
        )
