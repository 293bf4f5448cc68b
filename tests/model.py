"""The model the oracle holds a worker against: the pure rules folded over the input, one record at a time.

It is a second, slow composition of `worker.session` and `worker.wire`, without the batches, caches and row
views of the worker's handler: a fault of those cannot hide in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from tests.claims import Claim
from tests.logs import Headers, Record
from tests.oracle import Fold, Step
from tests.schemas import judge as schemas
from tests.verdict import Written
from worker import __version__
from worker.engine.position import decode_position
from worker.session.apply import Accepted, Duplicate, Unchanged, apply
from worker.session.model import Limits, Session
from worker.session.pending import HeldOutput
from worker.session.profile import Profile
from worker.session.rejections import Rejected
from worker.settings import Settings
from worker.wire import dead_letter, enriched, profile_row, row, update
from worker.wire.update import key_spoken_of

SLACK_BYTES = 512
"""Contract: a record or row is too large when key, value, headers and this are over `max_record_bytes`."""


def limits_of(settings: Settings) -> Limits:
    return Limits(
        allow_negative_prices=settings.allow_negative_prices,
        cart_items=settings.max_cart_items,
        cart_quantity=settings.max_cart_quantity,
        identifiers=settings.max_identifiers,
        coupon_code_length=settings.max_coupon_code_length,
        referral_code_length=settings.max_referral_code_length,
        integration_id_length=settings.max_integration_id_length,
        event_id_length=settings.max_event_id_length,
        duplicate_window=settings.duplicate_window,
    )


class WorkerRules:
    """The rules of a worker with these settings.

    `schema_every`: hold only every n-th record against its schema, which takes longer than all other judgement. Every
    byte of every record is compared with the model's in any case.
    """

    def __init__(self, settings: Settings, schema_every: int = 1) -> None:
        self._settings = settings
        self._schema_every = schema_every
        self._records = 0

    def fold(self, topic: str, partition: int, owners: Mapping[str, str]) -> Fold:
        return PartitionFold(self._settings, topic, partition, owners)

    def position(self, value: bytes) -> tuple[int, int]:
        held = decode_position(value)
        return held.offset, held.feedback_offset

    def settle(self, row_value: bytes, first_session: bool) -> tuple[bytes, list[tuple[int, Written, Written]]]:
        try:
            session, pending = row.decode_with_pending(row_value)
        except row.UnreadableRow:
            return row_value, []
        if pending is None:
            return row_value, []
        held = [
            (output.revision, _complete(session, output, True), _complete(session, output, False))
            for output in pending.held
        ]
        return row.encode(replace(session, first_session=first_session)), held

    def first_session(self, row_value: bytes) -> bool:
        return row.decode(row_value).first_session

    def profile_row(self, owner: str, sessions: Sequence[str], is_cut: bool) -> bytes:
        return profile_row.encode(Profile(owner, list(sessions), is_cut))

    def check_schema(self, kind: str, record: Record) -> str | None:
        self._records += 1
        if self._records % self._schema_every:
            return None
        try:
            if kind == "enriched":
                schemas.check_enriched(record.value or b"", record.headers, record.key)
            elif kind == "dead_letter":
                schemas.check_dead_letter(record.headers)
            else:
                schemas.check_ledger(record.value or b"")
        except (schemas.NotAsDeclared, ValueError, KeyError) as error:
            return f"{type(error).__name__}: {error}"
        return None


class PartitionFold:
    """One partition's sessions, as the input so far made them, with the owners that the claim log says."""

    def __init__(self, settings: Settings, topic: str, partition: int, owners: Mapping[str, str]) -> None:
        self._settings, self._limits = settings, limits_of(settings)
        self._topic, self._partition = topic, partition
        self._sessions: dict[str, Session] = {}
        self._owners = owners
        self._rows: dict[bytes, tuple[bytes, int]] = {}

    @property
    def rows(self) -> Mapping[bytes, tuple[bytes, int]]:
        return self._rows

    def step(self, record: Record) -> Step:
        read = update.decode(
            record.value, record.key, record.timestamp, may_be_negative=self._limits.allow_negative_prices
        )
        if isinstance(read, Rejected):
            spoken_of = key_spoken_of(record.value, record.key)
            stored = None if spoken_of is None else self._sessions.get(spoken_of.decode(errors="replace"))
            return self._refused(record, read, stored, 0)
        stored = self._sessions.get(read.integration_id)
        outcome = apply(stored, read, self._limits)
        match outcome:
            case Rejected():
                return self._refused(record, outcome, stored, read.ignored_fields)
            case Duplicate():
                return Step("duplicate", ignored_fields=read.ignored_fields)
            case Unchanged(session):
                if session != stored:
                    if not self._fits(_key(session), row.encode(session)):
                        return self._refused(record, self._too_large(), stored, read.ignored_fields)
                    self._store(session, record.timestamp)
                return Step("unchanged", ignored_fields=read.ignored_fields)
            case Accepted(session, event_type, _, claims):
                if claims is not None:
                    session = replace(session, first_session=self._owners.get(claims) == session.integration_id)
                output = Written(
                    _key(session),
                    enriched.encode(event_type, session, read, self._settings.output_case),
                    tuple(enriched.headers(event_type, session, read, record.headers)),
                    record.timestamp,
                )
                # Counted as "false", the longer one: whether an update fits must not depend on when an answer came.
                size = (output.value or b"") + b" " * session.first_session
                if not self._fits(_key(session), size, output.headers) or not self._fits(
                    _key(session), row.encode(session)
                ):
                    return self._refused(record, self._too_large(), stored, read.ignored_fields)
                self._store(session, record.timestamp)
                claim = (
                    None
                    if claims is None
                    else Claim(claims, session.integration_id, session.revision, record.timestamp)
                )
                return Step("accepted", output=output, ignored_fields=read.ignored_fields, claim=claim)

    def _store(self, session: Session, timestamp: int) -> None:
        self._sessions[session.integration_id] = session
        self._rows[_key(session)] = (row.encode(session), timestamp)

    def _fits(self, key: bytes, value: bytes, headers: Headers = ()) -> bool:
        size = len(key) + len(value) + sum(len(name) + len(text) for name, text in headers)
        return size + SLACK_BYTES <= self._settings.max_record_bytes

    def _too_large(self) -> Rejected:
        limit = self._settings.max_record_bytes
        return Rejected("limit_exceeded", f"With this update the session would be larger than {limit} bytes")

    def _refused(self, record: Record, rejected: Rejected, stored: Session | None, ignored_fields: int) -> Step:
        headers = dead_letter.headers(
            rejected,
            record.headers,
            value=record.value,
            state="" if stored is None else stored.state,
            topic=self._topic,
            partition=self._partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            worker_version=__version__,
        )
        letter = Written(record.key, record.value, tuple(headers), record.timestamp)
        return Step("rejected", rejected.code, dead_letter=letter, ignored_fields=ignored_fields)


def _complete(session: Session, output: HeldOutput, first_session: bool) -> Written:
    value = enriched.with_first_session(output.value, first_session=first_session)
    headers = enriched.headers_of_revision(output.event_type, session, output.revision, output.occurred_at)
    return Written(_key(session), value, (*headers, *output.carried_over), output.timestamp_ms)


def _key(session: Session) -> bytes:
    return session.integration_id.encode()
