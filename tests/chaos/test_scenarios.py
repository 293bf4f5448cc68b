"""Every chaos scenario that takes seconds, in its short form; `make chaos` plays the long forms of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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


def _parameters() -> list[ParameterSet]:
    """Scenarios that share a Kafka of their own kind play in one process, so that it is started once; they come first,
    because one after the other takes longest."""
    return [
        pytest.param(
            each, id=each.name, marks=[] if each.broker == "shared" else [pytest.mark.xdist_group(each.broker)]
        )
        for each in sorted(scenarios(), key=lambda each: each.broker == "shared")
        if each.has_short_form
    ]


@pytest.mark.broker
@pytest.mark.timeout(1_200)  # far more than any takes: a wait that fails tells more than this
@pytest.mark.parametrize("scenario", _parameters())
def test_nothing_is_lost_or_doubled(scenario: Scenario, brokers: Brokers, tmp_path: Path) -> None:
    with prepared(scenario, brokers, tmp_path, SEED, long=False) as run:
        scenario.play(run)
        run.finish()
