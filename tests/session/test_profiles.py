"""first_session, and the claim a session makes on its profile (session semantics, section 6), on one partition."""

from __future__ import annotations

from typing import Any

import pytest

from tests.session.play import Play


def bound(play: Play, session: str, profile_id: str, **body: Any) -> bool:
    """Binds the session to the profile, and whether it is the first session after that."""
    entity = play.send({"profile_id": profile_id, **body}, integration_id=session).entity
    assert entity["profile_id"] == profile_id
    assert isinstance(entity["first_session"], bool)
    return entity["first_session"]


def test_the_first_session_bound_to_a_profile_is_its_first_and_no_other() -> None:
    play = Play()
    assert [bound(play, session, "P") for session in ("S1", "S2", "S3")] == [True, False, False]


def test_every_anonymous_session_is_a_first_session() -> None:
    play = Play()
    assert [bound(play, session, "") for session in ("S1", "S2")] == [True, True]


def test_a_claim_counts_across_applications() -> None:
    play = Play()
    assert bound(play, "S1", "P") is True
    second = play.send({"profile_id": "P"}, integration_id="S2", application_id=8)
    assert second.entity["first_session"] is False


def test_a_claim_stays_where_it_is_when_its_session_binds_another_profile_and_comes_back() -> None:
    play = Play()
    steps = [("S1", "P"), ("S1", "Q"), ("S2", "P"), ("S1", "P"), ("S2", "Q"), ("S2", "P")]
    assert [bound(play, *step) for step in steps] == [True, True, False, True, False, False]


@pytest.mark.parametrize("ways", [["cancelled"], ["closed"], ["closed", "cancelled"]])
def test_a_claim_outlives_its_session(ways: list[str]) -> None:
    play = Play()
    assert bound(play, "S1", "P") is True
    for state in ways:
        assert play.send({"state": state}, integration_id="S1").entity["first_session"] is True
    assert bound(play, "S2", "P") is False


@pytest.mark.parametrize("state", ["closed", "cancelled"])
def test_the_update_that_ends_a_session_may_bind_and_claim(state: str) -> None:
    play = Play()
    assert bound(play, "S1", "") is True
    assert bound(play, "S1", "P", state=state) is True
    assert bound(play, "S2", "P") is False


def test_what_other_sessions_do_later_never_changes_a_session() -> None:
    play = Play()
    bound(play, "S1", "P")
    bound(play, "S2", "P")
    before = play.row("S2")
    bound(play, "S1", "Q")
    bound(play, "S3", "Q")
    assert play.row("S2") == before
    assert play.send({"referral_code": "A"}, integration_id="S2").entity["first_session"] is False


@pytest.mark.parametrize("state", ["closed", "cancelled"])
def test_a_session_that_ended_binds_no_profile_and_claims_none(state: str) -> None:
    play = Play()
    play.send(integration_id="S1")
    play.send({"state": state}, integration_id="S1")
    refused = play.send({"profile_id": "P"}, integration_id="S1")
    assert (refused.verdict, refused.reason["pointer"]) == (f"session_{state}", "/customer_session/profile_id")
    assert bound(play, "S2", "P") is True


def test_a_rejected_event_claims_nothing() -> None:
    play = Play()
    for refused in (
        play.send({"profile_id": "P", "state": "closed"}, integration_id="S1"),
        play.send({"profile_id": "P", "coupon_codes": ["x" * 101]}, integration_id="S1"),
        play.send({"profile_id": "P", "identifiers": [1]}, integration_id="S1"),
    ):
        assert refused.outcome == "rejected"
    assert play.rows == {}
    assert bound(play, "S2", "P") is True
