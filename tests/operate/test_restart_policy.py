"""When a worker is started again: back-off, crash loops, and exit codes no restart helps."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import errors
from worker.operate.restart_policy import Ended, GiveUp, History, Restart, RestartPolicy

POLICY = RestartPolicy()


def lives(*runs: tuple[float, int]) -> list[Restart | GiveUp]:
    """The decisions about one process, given how long each run lasted in seconds and its code; delays pass."""
    decisions: list[Restart | GiveUp] = []
    history, now = History(), 1_000.0
    for seconds, code in runs:
        decision = POLICY.after(history, Ended(code, now, now + seconds))
        decisions.append(decision)
        if isinstance(decision, GiveUp):
            break
        history, now = decision.history, now + seconds + decision.delay_seconds
    return decisions


def delays(*runs: float) -> list[float]:
    return [decision.delay_seconds for decision in lives(*((s, 70) for s in runs)) if isinstance(decision, Restart)]


def test_delays_double_up_to_half_a_minute() -> None:
    assert delays(*[20.0] * 9) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_minute_of_good_running_forgives_what_was_before() -> None:
    assert delays(1, 1, 60, 1) == [0.5, 1, 0.5, 1]
    assert delays(1, 1, 59.9, 1) == [0.5, 1, 2, 4]


def test_the_fifth_crash_within_a_minute_gives_up_with_the_code_of_the_process() -> None:
    *before, last = lives(*[(2.0, 70)] * 4, (2.0, 72), (2.0, 70))
    assert len(before) == 4
    assert isinstance(last, GiveUp)
    assert last.exit_code == 72
    assert "crashed 5 times within 16 s" in last.problem  # 1 s of delays after the first, then 2, 4 and four runs
    assert "exit code 72" in last.problem


def test_crashes_spread_over_more_than_a_minute_are_no_loop() -> None:
    assert all(isinstance(decision, Restart) for decision in lives(*[(14.0, 70)] * 200))


@pytest.mark.parametrize("code", [0, 1, 10, 70, 71, 72, 255, -signal.SIGKILL, -signal.SIGTERM, -60])
def test_every_other_end_is_a_crash_that_a_restart_may_help(code: int) -> None:
    assert lives((1.0, code)) == [Restart(0.5, History(1, (1_001.0,)))]


@pytest.mark.parametrize("code", [2, 4, 5, 6, 7, 8, 9])
def test_codes_that_meet_the_same_obstacle_give_up_at_once(code: int) -> None:
    (decision,) = lives((1_000.0, code))
    assert isinstance(decision, GiveUp)
    assert decision.exit_code == code
    assert f"exit code {code}" in decision.problem


def test_an_outage_of_the_broker_is_waited_for_however_long_it_takes() -> None:
    assert lives(*[(3.0, 3)] * 50) == [Restart(7.5, History())] * 50


def test_the_errors_of_the_worker_fall_on_the_side_their_exit_codes_say() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.WorkerError)]
    hopeless = {kind for kind in kinds if isinstance(lives((1.0, kind.exit_code))[0], GiveUp)}
    assert {errors.SettingsError, errors.TopicsError, errors.StateDirectoryError, errors.InputLost} <= hopeless
    assert not hopeless & {errors.EngineFailure, errors.Fenced, errors.Stalled}


@pytest.mark.parametrize(
    ("code", "how", "exit_code"),
    [
        (-signal.SIGKILL, "was ended by SIGKILL", 137),
        (-60, "was ended by signal 60", 188),
        (71, "ended with exit code 71", 71),
        (0, "ended with exit code 0", 70),
    ],
)
def test_a_loop_is_never_success_and_says_how_it_ended(code: int, how: str, exit_code: int) -> None:
    decision = lives(*[(0.0, code)] * 5)[-1]
    assert isinstance(decision, GiveUp)
    assert how in decision.problem
    assert decision.exit_code == exit_code


@given(st.lists(st.tuples(st.floats(0, 300), st.sampled_from([0, 1, 70, 71, -9])), max_size=200))
def test_whatever_happens_delays_stay_in_bounds_and_what_is_remembered_small(runs: list[tuple[float, int]]) -> None:
    for decision in lives(*runs):
        if isinstance(decision, Restart):
            assert 0.5 <= decision.delay_seconds <= 30
            assert len(decision.history.times) <= POLICY.loop_crashes


def test_a_process_that_has_crashed_for_years_is_still_restarted() -> None:
    decision = POLICY.after(History(100_000, (0.0,) * 5), Ended(70, 990.0, 1_000.0))
    assert isinstance(decision, Restart)
    assert decision.delay_seconds == 30


def test_two_workers_that_fence_each_other_however_slowly_do_not_go_on_for_ever() -> None:
    decisions = lives(*[(25.0, errors.Fenced.exit_code)] * 20)
    assert len(decisions) == POLICY.fenced_in_a_row
    last = decisions[-1]
    assert isinstance(last, GiveUp)
    assert last.exit_code == errors.Fenced.exit_code
    assert "WORKER_INSTANCE_ID" in last.remedy


def test_a_zombie_now_and_then_is_restarted_for_ever() -> None:
    assert all(isinstance(decision, Restart) for decision in lives(*[(100.0, errors.Fenced.exit_code)] * 20))
