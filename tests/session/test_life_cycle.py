"""Sessions of one partition live any life hypothesis can think of, beside a model of the reference.

The model is `tests.session.reference`: plain dicts, none of the worker's code. Each update must end as the model
says, field by field; and the invariants below hold whatever the model says.
"""

from __future__ import annotations

from typing import Any, Final

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from tests.session.events import LIMITS, PROFILES, SESSIONS, Sent, rewritten, updates
from tests.session.play import OMIT, Number, Play, Reply
from tests.session.reference import Reference
from worker.wire import row

NOT_DECODED: Final = ("malformed", "schema_invalid")

FOLLOWS: Final = {
    None: {"session_created"},
    "open": {"session_updated", "session_closed", "session_cancelled"},
    "closed": {"session_revoked"},
    "cancelled": set[str](),
}
"""State → the types of output that may come next, as a consumer reads section 5."""

LEADS_TO: Final = {
    "session_created": "open",
    "session_updated": "open",
    "session_closed": "closed",
    "session_cancelled": "cancelled",
    "session_revoked": "cancelled",
}


class LifeOfSessions(RuleBasedStateMachine):
    """Some sessions and profiles on one partition."""

    def __init__(self) -> None:
        super().__init__()
        self.play = Play(LIMITS)
        self.model = Reference(LIMITS.duplicate_window)
        self.sent: list[Sent] = []
        self.outputs: dict[str, list[dict[str, Any]]] = {session: [] for session in SESSIONS}

    @rule(sent=updates())
    def update(self, sent: Sent) -> None:
        self.send(sent)

    @rule(sent=updates(may_be_faulty=False))
    def plain_update(self, sent: Sent) -> None:
        """Nothing but content and state, as most updates are."""
        self.send(rewritten(sent, application_id=7, event_id=None, sequence=None))

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(1, 10))
    def retry_of_the_same_bytes(self, back: int) -> None:
        self.send(self.sent[-min(back, len(self.sent))])

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(1, 10), number=st.integers(0, 99))
    def retry_under_a_new_event_id(self, back: int, number: int) -> None:
        self.send(rewritten(self.sent[-min(back, len(self.sent))], event_id=f"new{number}"))

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(1, 3), sent=updates(may_be_faulty=False))
    def another_body_under_a_known_event_id(self, back: int, sent: Sent) -> None:
        known = self.sent[-min(back, len(self.sent))]
        self.send(rewritten(sent._replace(session=known.session), event_id=known.envelope.get("event_id", OMIT)))

    @rule(session=st.sampled_from(SESSIONS), ahead=st.integers(0, 3))
    def next_sequence(self, session: str, ahead: int) -> None:
        sequence = max(0, self.model.sequences.get(session, 0) + ahead)
        body = {"referral_code": f"s{sequence}"}
        self.send(rewritten(Sent(b"", session, {}, body, None), application_id=7, sequence=sequence))

    @rule(session=st.sampled_from(SESSIONS), profile=st.sampled_from(PROFILES))
    def bind(self, session: str, profile: str) -> None:
        self.send(rewritten(Sent(b"", session, {}, {"profile_id": profile}, None), application_id=7))

    def send(self, sent: Sent) -> None:
        note(f"{sent.value!r}")
        self.sent.append(sent)
        rows = dict(self.play.rows)
        expected = self.model.judge(sent)
        reply = self.play.send_value(sent.value, sent.session.encode())
        assert reply.verdict == expected.verdict, (reply, expected)
        assert reply.record == expected.record
        assert reply.ignored_fields == (0 if sent.code in NOT_DECODED else sent.ignored_fields)
        match reply.outcome:
            case "rejected":
                self.nothing_moved(rows)
                stored = self.model.entities.get(sent.session)
                assert reply.reason["state"] == ("" if stored is None else stored["state"])
            case "duplicate":
                self.nothing_moved(rows)
            case "unchanged":
                self.only_bookkeeping_moved(rows, sent)
            case _:
                self.only_its_session_moved(rows, sent, reply)

    def nothing_moved(self, rows: dict[bytes, bytes]) -> None:
        assert self.play.rows == rows

    def only_bookkeeping_moved(self, rows: dict[bytes, bytes], sent: Sent) -> None:
        key = sent.session.encode()
        before, after = row.decode(rows[key]), row.decode(self.play.rows[key])
        assert replace(after, sequence=before.sequence, recent_events=before.recent_events) == before
        assert self.play.rows == rows | {key: self.play.rows[key]}
        if not sent.value.count(b"vent") and not sent.value.count(b"sequence"):  # event_id, eventId
            assert self.play.rows == rows

    def only_its_session_moved(self, rows: dict[bytes, bytes], sent: Sent, reply: Reply) -> None:
        self.outputs[sent.session].append(reply.record)
        others = {session.encode() for session in SESSIONS} - {sent.session.encode()}
        assert {key: self.play.rows.get(key) for key in others} == {key: rows.get(key) for key in others}
        assert row.encode(row.decode(self.play.rows[sent.session.encode()])) == self.play.rows[sent.session.encode()]

    @invariant()
    def no_transition_is_illegal_and_no_revision_missing(self) -> None:
        for session, records in self.outputs.items():
            state = None
            for revision, record in enumerate(records, start=1):
                assert record["type"] in FOLLOWS[state], session
                state = LEADS_TO[record["type"]]
                assert record["customer_session"]["state"] == state
                assert record["revision"] == Number(str(revision))

    @invariant()
    def what_never_changes_never_changed(self) -> None:
        for session, records in self.outputs.items():
            entities = [record["customer_session"] for record in records]
            assert {record["integration_id"] for record in records} <= {session}
            assert len({(entity["created"], entity["application_id"]) for entity in entities}) <= 1

    @invariant()
    def a_profile_is_the_first_session_of_one_session_at_most(self) -> None:
        claimed: dict[str, str] = {}
        for session, records in self.outputs.items():
            for entity in (record["customer_session"] for record in records):
                if not entity["profile_id"]:
                    assert entity["first_session"] is True
                elif entity["first_session"]:
                    assert claimed.setdefault(entity["profile_id"], session) == session

    @invariant()
    def rows_hold_what_the_model_holds(self) -> None:
        stored = {session for session in SESSIONS if self.play.row(session) is not None}
        assert stored == set(self.model.entities)
        for session in stored:
            kept, entity = self.play.session(session), self.model.entities[session]
            assert kept.revision == self.model.revisions[session]
            assert kept.sequence == self.model.sequences.get(session)
            assert list(kept.recent_events) == [event_id for event_id, _ in self.model.remembered[session]]
            assert (kept.state, kept.first_session) == (entity["state"], entity["first_session"])
            assert Number(kept.total) == entity["total"]


TestLifeOfSessions = LifeOfSessions.TestCase
TestLifeOfSessions.settings = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
