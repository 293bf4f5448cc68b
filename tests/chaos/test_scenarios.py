"""A core of the chaos scenarios in their short forms, as many as `make test` has time for.

`make chaos CHAOS_ARGS=--short` plays the short forms of all of them, `make chaos` the long ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from _pytest.mark import ParameterSet

from tests.chaos.catalogue import scenarios
from tests.chaos.play import Brokers, prepared
from tests.chaos.scenario import Scenario
from worker.kafka.embedded import EmbeddedKafka

SEED = 1


@pytest.fixture(scope="module")
def brokers(kafka: EmbeddedKafka) -> Iterator[Brokers]:
    with Brokers(shared=kafka) as brokers:
        yield brokers


CORE: Final = (
    "kill-9-at-random",
    "kill-9-of-one-of-two",
    "kill-9-while-restoring",
    "kill-9-at-every-step-rocksdb-alone",
    "kill-9-at-every-step-memory-alone",
    "kill-9-at-every-step-rocksdb-rebalance",
    "kill-9-at-every-step-memory-rebalance",
    "sigterm-under-load",
    "one-partition-hangs",
    "zombie",
    "workers-come-and-go",
    "instance-id-used-twice",
    "rolling-restart",
    "supervised-worker-killed",
    "state-directory-deleted",
    "state-files-damaged",
    "state-bytes-flipped",
    "disk-full",
    "changelog-deleted-and-created-again",
    "row-of-an-unknown-version",
    "coordinator-killed",
    "broker-away-under-load",
    "network-cut-in-a-transaction",
    "topic-refuses-records",
    "frozen-in-a-transaction",
)
"""One or more of every kind of fault."""


def _parameters() -> list[ParameterSet]:
    """Scenarios that share a Kafka of their own kind play in one process, so that it is started once."""
    return [
        pytest.param(
            each, id=each.name, marks=[] if each.broker == "shared" else [pytest.mark.xdist_group(each.broker)]
        )
        for each in scenarios()
        if each.name in CORE
    ]


def test_the_core_names_scenarios_that_have_a_short_form() -> None:
    assert set(CORE) <= {each.name for each in scenarios() if each.has_short_form}


@pytest.mark.broker
@pytest.mark.parametrize("scenario", _parameters())
def test_nothing_is_lost_or_doubled(scenario: Scenario, brokers: Brokers, tmp_path: Path) -> None:
    with prepared(scenario, brokers, tmp_path, SEED, long=False) as run:
        scenario.play(run)
        run.finish()
