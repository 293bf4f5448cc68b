"""Several workers in one group: partitions move, and nothing is lost or done twice (R1, R2 of the engine's design)."""

from __future__ import annotations

from typing import Any

from tests.broker.pipeline import Pipeline
from worker.errors import Fenced
from worker.load.generator import generate

SLOW: Any = {"batch_max_records": 25}
"""A transaction takes some 10 ms, so even an idle machine does a few thousand events a second: members come and go
in mid-work."""


def test_a_second_worker_joins_and_leaves_under_load(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=7_000, seed=101))
    first = pipeline.worker("first", **SLOW)
    pipeline.wait_progress(2_000)

    second = pipeline.worker("second", **SLOW)
    pipeline.wait_until(lambda: pipeline.group_members() == 2, "two members")
    pipeline.wait_progress(4_000)
    second.stop()
    assert pipeline.remaining() > 0, "the second worker left after the drain"
    pipeline.wait_drained()
    first.stop()
    assert pipeline.verdict(first).require_clean().events == sent


def test_kill_9_of_one_of_two_workers(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=5_000, seed=102))
    first, second = pipeline.worker("first", **SLOW), pipeline.worker("second", **SLOW)
    pipeline.wait_until(lambda: pipeline.group_members() == 2, "two members")
    pipeline.wait_progress(3_000)
    second.kill9()
    assert pipeline.remaining() > 0, "the kill came after the drain"
    pipeline.wait_drained()
    first.stop()
    assert pipeline.verdict(first).require_clean().events == sent


def test_a_zombie_that_wakes_up_after_its_session_timeout_exits_fenced_and_writes_nothing(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=4_000, seed=103))
    zombie = pipeline.worker("zombie", **SLOW)
    pipeline.wait_progress(2_000)
    zombie.sigstop()
    assert pipeline.remaining() > 0

    heir = pipeline.worker("heir")
    pipeline.wait_drained()
    pipeline.verdict().require_clean()
    zombie.may_fail = True
    zombie.sigcont()
    code = zombie.wait_exit(30)
    assert code == Fenced.exit_code, f"exit code {code}\n{zombie.tail()}"
    heir.stop()
    assert pipeline.verdict(heir).require_clean().events == sent
