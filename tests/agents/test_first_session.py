"""first_session across partitions (session semantics, section 6): sessions, claims and answers in any order.

Each story runs in an in-memory installation and is judged by the oracle, so that not only first_session is right but
every record, row, claim and answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.installation import Installation, Place
from tests.logs import Record
from tests.model import WorkerRules
from tests.oracle import judge
from worker.agents.sessions import HELD_KEY, PARTITION_HELD_BYTES, SESSION_HELD_BYTES
from worker.app import sessions_config
from worker.settings import Settings
from worker.wire import row
from worker.wire.claim import partition_of

PARTITIONS = 3
SETTINGS = Settings(topic_updates="updates", partitions=PARTITIONS, max_coupon_code_length=100_000)


class Sent(NamedTuple):
    """An update of a session; the session's partition is that of its number modulo PARTITIONS."""

    session: int
    body: dict[str, Any]
    application_id: int = 7


class Story:
    """Updates, and the installation they go to."""

    def __init__(self, updates: Iterable[Sent] = ()) -> None:
        self.source: dict[int, list[Record]] = {partition: [] for partition in range(PARTITIONS)}
        self.installation = Installation("updates", self.source, sessions_config(SETTINGS), SETTINGS.app_id)
        self.send(*updates)

    def send(self, *updates: Sent) -> None:
        for session, body, application_id in updates:
            event = {"integration_id": f"S{session}", "application_id": application_id, "customer_session": body}
            log = self.source[session % PARTITIONS]
            value = json.dumps(event).encode()
            log.append(Record(session % PARTITIONS, len(log), 1_795_342_530_000 + len(log), None, value, ()))

    def place(self, stage: str, partition: int) -> Place:
        return next(p for p in self.installation.places if (p.stage, p.partition) == (stage, partition))

    def sessions(self, session: int, records: int = 1_000, answers: int = 0) -> None:
        """One transaction of that session's partition."""
        self.installation.step(self.place("sessions", session % PARTITIONS), records, answers)

    def profiles(self, profile_id: str, claims: int = 1_000) -> None:
        """One transaction of that profile's partition."""
        self.installation.step(self.place("profiles", partition_of(profile_id, PARTITIONS)), claims, 0)

    def first_sessions(self, session: int) -> list[bool]:
        """What the session's enriched records said so far, by revision."""
        log = self.installation.topics[SETTINGS.topic_enriched].log[session % PARTITIONS]
        events = [json.loads(record.value or b"") for record in log if record.key == f"S{session}".encode()]
        assert [event["revision"] for event in events] == list(range(1, len(events) + 1))
        return [event["customer_session"]["first_session"] for event in events]

    def finish(self, seed: int = 0, sizes: Sequence[int] = (1, 2, 7, 100, 1_000)) -> Story:
        """Everything that is left, in any order; then the oracle judges."""
        self.installation.run(seed, sizes)
        judge(self.installation.logs(), WorkerRules(SETTINGS)).require_clean()
        return self


def bind(session: int, profile_id: str, **body: Any) -> Sent:
    return Sent(session, {"profile_id": profile_id, **body})


@pytest.mark.parametrize("seed", range(10))
def test_t15_an_anonymous_session_that_binds_a_taken_profile_is_first_no_more(seed: int) -> None:
    story = Story([Sent(1, {}), bind(2, "P")]).finish(seed)
    story.send(bind(1, "P"))
    story.finish(seed)
    assert (story.first_sessions(1), story.first_sessions(2)) == ([True, False], [True])


@pytest.mark.parametrize("seed", range(10))
def test_t16_a_guest_who_logs_in_owns_both_profiles(seed: int) -> None:
    story = Story([bind(1, "guest_1"), bind(1, "user_42")]).finish(seed)
    story.send(bind(2, "user_42"))
    story.finish(seed)
    assert (story.first_sessions(1), story.first_sessions(2)) == ([True, True], [False])


def test_only_the_session_that_binds_waits_and_what_waits_comes_in_order() -> None:
    story = Story(
        [Sent(1, {}), bind(1, "P"), Sent(4, {}), Sent(1, {"referral_code": "A"}), Sent(4, {"state": "closed"})]
    )
    story.sessions(1)
    assert (story.first_sessions(1), story.first_sessions(4)) == ([True], [True, True])
    assert story.place("sessions", 1).rows[HELD_KEY]
    story.finish()
    assert story.first_sessions(1) == [True, True, True]
    assert HELD_KEY not in story.place("sessions", 1).rows


def test_the_claim_log_decides_between_two_partitions_not_the_answers() -> None:
    story = Story([bind(1, "P"), bind(2, "P")])
    story.sessions(2)
    story.sessions(1)
    story.profiles("P")
    story.sessions(1, 0, 1)
    assert (story.first_sessions(1), story.first_sessions(2)) == ([False], [])
    story.sessions(2, 0, 1)
    assert story.first_sessions(2) == [True]
    story.finish()


def test_answers_that_come_in_the_wrong_order_release_outputs_in_the_right_one() -> None:
    first, second = _profiles_of_two_partitions()
    story = Story([bind(1, first), Sent(1, {"referral_code": "A"}), bind(1, second), bind(2, second)])
    story.sessions(2)
    story.sessions(1)
    story.profiles(second)
    story.sessions(1, 0, 1)
    assert story.first_sessions(1) == [], "revision 3 is answered, revisions 1 and 2 are not"
    assert row.decode(story.place("sessions", 1).rows[b"S1"]).first_session is False
    story.profiles(first)
    story.sessions(1, 0, 1)
    assert story.first_sessions(1) == [True, True, False]
    story.finish()


def _profiles_of_two_partitions() -> tuple[str, str]:
    names = [f"P{number}" for number in range(20)]
    return names[0], next(name for name in names if partition_of(name, 3) != partition_of(names[0], 3))


def test_going_back_to_a_profile_asks_again_and_gets_the_same_answer() -> None:
    story = Story([bind(1, "P"), bind(1, "Q"), bind(1, "P"), bind(2, "Q"), bind(2, "P"), bind(2, "Q")])
    story.sessions(1, 1_000)
    story.finish()
    assert story.first_sessions(1)[0] is story.first_sessions(1)[2]
    assert story.first_sessions(2)[0] is story.first_sessions(2)[2]
    assert [
        one is not other for one, other in zip(story.first_sessions(1)[:2], story.first_sessions(2)[1::-1], strict=True)
    ]


@pytest.mark.parametrize("ways", [["cancelled"], ["closed"], ["closed", "cancelled"]])
def test_a_claim_outlives_its_session_whatever_waits(ways: list[str]) -> None:
    story = Story([bind(1, "P"), *(Sent(1, {"state": state}) for state in ways)])
    story.sessions(1)
    story.send(bind(2, "P"))
    story.sessions(2)
    story.finish()
    assert (story.first_sessions(1), story.first_sessions(2)) == ([True] * (1 + len(ways)), [False])


def test_a_refused_binding_claims_nothing_even_while_the_session_waits() -> None:
    story = Story([bind(1, "P", state="open"), Sent(1, {"state": "closed"}), bind(1, "Q"), bind(1, ""), bind(2, "Q")])
    story.finish()
    assert (story.first_sessions(1), story.first_sessions(2)) == ([True, True], [True])
    assert len(story.installation.logs().dead_letters[1]) == 1, "the binding after the close; '' keeps the known id"


def test_one_profile_in_two_applications_is_one_profile() -> None:
    story = Story([bind(1, "P"), Sent(2, {"profile_id": "P"}, application_id=8)]).finish()
    assert sorted([*story.first_sessions(1), *story.first_sessions(2)]) == [False, True]


def test_a_hot_profile_with_two_thousand_new_sessions_has_one_first_session() -> None:
    story = Story([bind(number, "hot") for number in range(2_000)]).finish(seed=4)
    assert sum(story.first_sessions(number) == [True] for number in range(2_000)) == 1
    profile = story.place("profiles", partition_of("hot", PARTITIONS)).rows[b"hot"]
    assert len(profile) < 2_000, "a profile remembers its latest sessions only"


def test_what_a_hot_session_holds_is_bounded_while_its_profile_is_away_and_flows_again() -> None:
    """Its partition's input rests at the bound; answers to other sessions of the partition still come in."""
    away, near = _profiles_of_two_partitions()
    story = Story([bind(1, away), bind(4, near)])
    story.send(*(Sent(1, {"referral_code": f"{number}", "coupon_codes": ["x" * 1_000]}) for number in range(3_000)))
    place = story.place("sessions", 1)
    for _ in range(20):
        story.sessions(1, 200)
    assert place.awaits_feedback
    assert 100 < place.source_done < 3_000
    assert int(place.rows[HELD_KEY]) <= 2 * SESSION_HELD_BYTES
    assert len(place.rows[b"S1"]) <= SESSION_HELD_BYTES + 20_000
    done = place.source_done

    story.profiles(near)
    story.sessions(1, 1_000, 10)
    assert story.first_sessions(4) == [True], "the answer to another session was taken at the bound"
    assert place.source_done == done
    story.profiles(away)
    story.finish(seed=1)
    assert story.first_sessions(1) == [True] * 3_001


def test_what_a_partition_holds_is_bounded_while_all_profiles_are_away() -> None:
    big = ["x" * 90_000]
    story = Story([bind(3 * number, f"P{number}", coupon_codes=big) for number in range(400)])
    place = story.place("sessions", 0)
    for _ in range(500):
        story.sessions(0, 1)
    assert place.awaits_feedback
    assert 0 < PARTITION_HELD_BYTES - int(place.rows[HELD_KEY]) < 100_000
    story.finish(seed=2)


# ---------------------------------------------------------------------- any stories, any order

SESSIONS = st.integers(0, 5)
PROFILES = st.sampled_from(["", "P", "Q", "R", "guest"])
BODIES = st.one_of(
    st.builds(lambda profile_id: {"profile_id": profile_id}, PROFILES),
    st.builds(
        lambda profile_id, state: {"profile_id": profile_id, "state": state},
        PROFILES,
        st.sampled_from(["open", "closed"]),
    ),
    st.sampled_from([{}, {"referral_code": "A"}, {"referral_code": "B"}, {"state": "closed"}, {"state": "cancelled"}]),
)


@settings(max_examples=150)
@given(
    st.lists(st.builds(Sent, SESSIONS, BODIES, st.sampled_from([7, 7, 7, 8])), min_size=1, max_size=40),
    st.integers(0, 2**32),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_any_updates_in_any_interleaving_are_what_the_model_says(
    updates: list[Sent], seed: int, sizes: list[int]
) -> None:
    Story(updates).finish(seed, sizes)


@settings(max_examples=60)
@given(st.lists(st.builds(Sent, SESSIONS, BODIES), min_size=1, max_size=40), st.integers(0, 2**32), st.integers(0, 30))
def test_at_any_moment_nothing_is_missing_but_what_waits(updates: list[Sent], seed: int, steps: int) -> None:
    """Stopped anywhere, outputs written and outputs held together are the model's; only lag is left (S7)."""
    story = Story(updates)
    story.installation.run(seed, [1, 2], most_steps=steps)
    verdict = judge(story.installation.logs(), WorkerRules(SETTINGS))
    assert verdict.broken.keys() <= {"S7"}, str(verdict) + "\n".join(verdict.faults)
