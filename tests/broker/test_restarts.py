"""A worker that goes on after a restart: no event lost, none twice, no byte different. (Faults: tests/chaos.)"""

from __future__ import annotations

import shutil

import pytest

from tests.broker.pipeline import Pipeline
from worker.load.generator import generate


@pytest.mark.parametrize("wiped", [True, False], ids=["state wiped", "state kept"])
def test_a_restart_goes_on_from_the_same_state(pipeline: Pipeline, wiped: bool) -> None:
    pipeline.create_topics()
    events = list(generate(sessions=3_000, seed=23))
    half = len(events) // 2
    pipeline.send(events[:half])
    worker = pipeline.worker()
    pipeline.wait_drained()
    worker.stop()
    pipeline.verdict(worker).require_clean()

    if wiped:
        shutil.rmtree(worker.state_dir)
    pipeline.send(events[half:])
    worker.start()
    pipeline.wait_drained()
    worker.stop()
    assert pipeline.verdict(worker).require_clean().events == len(events)


@pytest.mark.parametrize(
    ("offsets", "wiped"),
    [("deleted", True), ("reset to the start", False), ("reset to the end", True)],
)
def test_the_position_in_the_state_wins_over_the_groups_offsets(pipeline: Pipeline, offsets: str, wiped: bool) -> None:
    """Group offsets expire, and operators reset them: neither repeats nor skips an event."""
    pipeline.create_topics()
    events = list(generate(sessions=1_500, seed=25))
    half = len(events) // 2
    pipeline.send(events[:half])
    worker = pipeline.worker()
    pipeline.wait_drained()
    worker.stop()
    pipeline.wait_group_empty()

    pipeline.send(events[half:])
    if offsets == "deleted":
        pipeline.delete_group()
    else:
        pipeline.set_group_offsets(
            pipeline.targets() if offsets == "reset to the end" else dict.fromkeys(pipeline.targets(), 0)
        )
    if wiped:
        shutil.rmtree(worker.state_dir)

    worker.start()
    # The group's offsets say nothing here: what the ledger reached is what was really processed.
    pipeline.wait_until(lambda: pipeline.ledger_reached() == pipeline.targets(), "all events in the ledger")
    pipeline.wait_until(lambda: pipeline.held() == 0, "no output waits for an answer")
    worker.stop()
    assert pipeline.verdict(worker).require_clean().events == len(events)
