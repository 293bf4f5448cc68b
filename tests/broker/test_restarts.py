"""A worker that ends in every way and goes on: no event lost, none twice, no byte different."""

from __future__ import annotations

import shutil
import time
from typing import Any

import pytest

from tests.broker.pipeline import Pipeline
from worker.load.generator import generate

SMALL_TRANSACTIONS: Any = {"batch_max_records": 25}
"""A transaction takes some 10 ms, so even an idle machine does a few thousand events a second: a signal after some
thousand events hits work in progress."""


def test_sigterm_under_load_exits_0_and_leaves_no_work_to_repeat(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=6_000, seed=21))

    worker = pipeline.worker(**SMALL_TRANSACTIONS)
    pipeline.wait_progress(3_000)
    worker.stop(timeout_seconds=10)
    left = pipeline.remaining()
    assert 0 < left < sent, "the signal did not come in mid-work"
    # An aborted transaction is work done twice; read_uncommitted would show its records.
    assert pipeline.written(isolation="read_uncommitted") == pipeline.written(isolation="read_committed")
    assert pipeline.verdict(worker).broken.keys() <= {"S7"}, pipeline.verdict(worker)

    worker.start()
    pipeline.wait_drained()
    worker.stop()
    assert pipeline.verdict(worker).require_clean().events == sent


@pytest.mark.parametrize("store", ["rocksdb", "memory"])
def test_five_times_kill_9_in_mid_drain_loses_and_repeats_nothing(pipeline: Pipeline, store: str) -> None:
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=6_000, seed=22))

    worker = pipeline.worker(store=store, **SMALL_TRANSACTIONS)
    for kill in range(1, 6):
        pipeline.wait_progress(2_500 + 37 * kill)
        worker.kill9()
        assert pipeline.remaining() > 0, f"kill {kill} came after the drain"
        worker.start()
    pipeline.wait_drained()
    worker.stop()
    assert pipeline.verdict(*[worker] if store == "rocksdb" else []).require_clean().events == sent


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


def test_a_killed_worker_with_its_state_wiped_rebuilds_it(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=3_000, seed=24))
    worker = pipeline.worker(**SMALL_TRANSACTIONS)
    pipeline.wait_progress(3_000)
    worker.kill9()
    shutil.rmtree(worker.state_dir)
    worker.start()
    pipeline.wait_drained()
    worker.stop()
    assert pipeline.verdict(worker).require_clean().events == sent


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
    worker.stop()
    assert pipeline.verdict(worker).require_clean().events == len(events)


def test_sigterm_at_any_moment_of_the_start_ends_the_worker(pipeline: Pipeline) -> None:
    """While it joins the group, fences, restores. (Before that, while it imports, the signal just kills it.)"""
    pipeline.create_topics()
    pipeline.send(generate(sessions=300, seed=26))
    worker = pipeline.worker(store="memory")
    pipeline.wait_drained()
    worker.stop()
    for milliseconds in (0, 0, 0, 10, 30, 60, 100, 150, 300, 600):
        starts = worker.output().count("worker_starting")
        worker.start()
        while worker.output().count("worker_starting") == starts:
            worker.require_running()
            time.sleep(0.001)  # finer than wait_until: the first milliseconds are the risky ones
        time.sleep(milliseconds / 1000)  # the moment is what is tested, nothing waits for it
        worker.sigterm()
        code = worker.wait_exit(10)
        assert code == 0, f"exit code {code}, {milliseconds} ms after the start\n{worker.tail()}"
    pipeline.verdict().require_clean()
