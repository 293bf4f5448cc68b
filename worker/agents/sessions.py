"""The sessions agent: a batch of update records becomes enriched sessions, dead letters, rows and a ledger record.

Everything here is a pure function of the records and the stored rows. To fold an input by other means (`verify`,
a test's oracle) use this handler on batches of any size over a plain dict of rows:

    handler = SessionsHandler(SessionsConfig())
    rows: dict[bytes, bytes] = {}
    for record in records_of_one_partition_in_offset_order:
        effects = handler(Batch(topic, partition, record.offset, [record]), rows)
        for key, row in effects.rows.items():
            rows[key] = row.value

`effects.sends` then holds what belongs on each topic; batches of one and batches of a thousand give the same rows
and the same records, ledger aside. The parts are public too: `wire.update.decode`, `session.apply.apply`,
`wire.enriched.encode`, `wire.row.encode`.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeAlias

from msgspec import Struct

from worker import __version__
from worker.agents.claims import PartitionClaims
from worker.engine.batch import Batch, Effects, OutRecord, RowsView, SourceRecord
from worker.errors import UnknownFormat
from worker.session.apply import Accepted, Duplicate, Unchanged, apply
from worker.session.model import Limits, Session, Update
from worker.session.rejections import Code, Rejected
from worker.wire import dead_letter, enriched, ledger, row
from worker.wire.spelling import OutputCase
from worker.wire.update import decode, key_spoken_of

RECORD_SLACK_BYTES: Final = 512
"""What a record costs on top of its key, value and headers: the fields around them, and room to spare."""

_NO_HEADERS: Final[enriched.Headers] = []

Transition: TypeAlias = tuple[str, str]
"""(state before, state after); "none" before the session existed."""


class SessionsConfig(Struct, frozen=True):
    """What of the settings decides about sessions."""

    enriched_topic: str = "sessions.enriched.v1"
    dead_letters_topic: str = "sessions.updates.v1.dead-letters"
    ledger_topic: str = "sessions.ledger.v1"
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


class SessionsHandler:
    """The engine's BatchHandler for session updates. Holds no state between batches."""

    def __init__(self, config: SessionsConfig) -> None:
        self._config = config

    def __call__(self, batch: Batch, rows: RowsView) -> Effects:
        """All effects of the batch. Whatever a producer sent, it does not raise; a stored row that cannot be
        read does (`UnknownFormat`)."""
        work = _Work(self._config, batch, rows)
        for record in batch.records:
            work.take(record)
        return work.effects()


class _Work:
    """One batch in the making: its rows so far, and what it will send.

    A session is encoded as soon as it changes and decoded again if the batch comes back to it: most sessions appear
    once in a batch, and thousands of decoded ones would push each other out of the processor's cache.
    """

    def __init__(self, config: SessionsConfig, batch: Batch, rows: RowsView) -> None:
        self._config = config
        self._limits = config.limits
        self._small_bytes = config.max_record_bytes // 2
        self._batch = batch
        self._rows = rows
        self._claims = PartitionClaims(rows)  # TEMPORARY, see worker.agents.claims
        self._changed: dict[bytes, OutRecord] = {}
        self._enriched: list[OutRecord] = []
        self._dead_letters: list[OutRecord] = []
        self._unchanged = 0
        self._duplicates = 0
        self._reasons: Counter[Code] = Counter()
        self._transitions: Counter[Transition] = Counter()
        self._ignored_fields = 0

    def take(self, record: SourceRecord) -> None:
        """One record, to its one outcome."""
        limits = self._limits
        update = decode(record.value, record.key, record.timestamp, may_be_negative=limits.allow_negative_prices)
        if isinstance(update, Rejected):
            key = key_spoken_of(record.value, record.key)
            self._reject(record, update, None if key is None else self._session(key))
            return
        self._ignored_fields += update.ignored_fields
        key = update.integration_id.encode() if record.key is None else record.key
        stored = self._session(key)
        outcome = apply(stored, update, limits, self._claims.owner_of)
        match outcome:
            case Accepted():
                self._accept(record, key, update, stored, outcome)
            case Unchanged(session):
                self._keep(record, key, stored, session)
            case Duplicate():
                self._duplicates += 1
            case Rejected():
                self._reject(record, outcome, stored)

    def _accept(
        self, record: SourceRecord, key: bytes, update: Update, stored: Session | None, accepted: Accepted
    ) -> None:
        session, timestamp = accepted.session, record.timestamp
        value = enriched.encode(accepted.type, session, update, self._config.output_case)
        headers = enriched.headers(accepted.type, session, update, record.headers)
        changed = row.encode(session)
        if not self._fit(key, value, headers, changed):
            self._reject(record, self._too_large(), stored)
            return
        self._enriched.append(OutRecord(key, value, headers, timestamp))
        self._changed[key] = OutRecord(key, changed, _NO_HEADERS, timestamp)
        if accepted.claims is not None:
            self._claims.make(accepted.claims, session.integration_id, timestamp)  # TEMPORARY
        if accepted.previous_state != session.state:
            self._transitions[accepted.previous_state or "none", session.state] += 1

    def _keep(self, record: SourceRecord, key: bytes, stored: Session | None, session: Session) -> None:
        if session is not stored:
            changed = row.encode(session)
            if not self._row_fits(key, changed):
                self._reject(record, self._too_large(), stored)
                return
            self._changed[key] = OutRecord(key, changed, _NO_HEADERS, record.timestamp)
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

    def _session(self, key: bytes) -> Session | None:
        """The session as the records before this one left it."""
        changed = self._changed.get(key)
        stored = self._rows.get(key) if changed is None else changed.value
        try:
            return None if stored is None else row.decode(stored)
        except row.UnreadableRow as problem:
            raise UnknownFormat(
                f"{self._batch.topic}[{self._batch.partition}], offsets {self._batch.first_offset} to "
                f"{self._batch.last_offset}: the stored row of a session among them cannot be read: {problem}",
                "run the version of the worker that wrote the changelog, or a newer one; if no worker wrote that row, "
                "restore the changelog topic from a backup",
            ) from None

    def _fit(self, key: bytes, value: bytes, headers: enriched.Headers, changed: bytes) -> bool:
        """Whether the topics take the enriched record and the row: a transaction with a record that is too large
        would fail for ever."""
        size = len(key) + len(value) + len(changed) + RECORD_SLACK_BYTES
        for _, text in headers[enriched.OWN_HEADERS :]:
            size += len(text)
        # Names and headers of our own are smaller than the rest, so few records need adding up.
        if size <= self._small_bytes:
            return True
        size = len(key) + len(value) + sum(len(name) + len(text) for name, text in headers) + RECORD_SLACK_BYTES
        return size <= self._config.max_record_bytes and self._row_fits(key, changed)

    def _row_fits(self, key: bytes, changed: bytes) -> bool:
        return len(key) + len(changed) + RECORD_SLACK_BYTES <= self._config.max_record_bytes

    def _too_large(self) -> Rejected:
        limit = self._config.max_record_bytes
        return Rejected("limit_exceeded", f"With this update the session would be larger than {limit} bytes")

    def effects(self) -> Effects:
        """What the records taken so far change."""
        batch, config = self._batch, self._config
        outcomes = ledger.Outcomes(
            accepted=len(self._enriched),
            unchanged=self._unchanged,
            duplicate=self._duplicates,
            rejected=len(self._dead_letters),
        )
        entry = ledger.Entry(
            batch.topic,
            batch.partition,
            batch.first_offset,
            batch.last_offset,
            len(batch.records),
            outcomes,
            self._reasons,
            self._ignored_fields,
        )
        sends = {
            config.enriched_topic: self._enriched,
            config.dead_letters_topic: self._dead_letters,
            config.ledger_topic: [OutRecord(None, ledger.encode(entry), _NO_HEADERS, batch.records[-1].timestamp)],
        }
        return Effects(
            rows=self._changed | self._claims.made(),
            sends={topic: records for topic, records in sends.items() if records},
            summary=BatchSummary(len(batch.records), outcomes, self._reasons, self._transitions, self._ignored_fields),
        )
