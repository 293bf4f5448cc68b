"""Tests of the broker suite once more, on a Kafka in a container: same workers, same oracle, another Kafka version.

In this directory the fixture `kafka` is the container. A selection, to keep CI short; all of the suite runs on any
Kafka with WORKER_TEST_BOOTSTRAP_SERVERS=host:port.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tests.broker.test_poison import test_each_kind_of_poison_is_a_dead_letter_with_its_reason_and_its_bytes
from tests.broker.test_producers import (
    test_aborted_transactions_in_the_input_are_never_processed,
    test_input_of_every_compression_is_read,
)
from tests.broker.test_restarts import test_the_position_in_the_state_wins_over_the_groups_offsets
from tests.broker.test_synthetic_mix import test_fifty_thousand_events_of_every_kind_come_out_exactly_once
from tests.chaos.catalogue import scenarios
from tests.chaos.play import Brokers, prepared
from tests.docker.containers import KafkaContainer
from worker.kafka.embedded import EmbeddedKafka

__all__ = [
    "test_aborted_transactions_in_the_input_are_never_processed",
    "test_each_kind_of_poison_is_a_dead_letter_with_its_reason_and_its_bytes",
    "test_fifty_thousand_events_of_every_kind_come_out_exactly_once",
    "test_input_of_every_compression_is_read",
    "test_the_position_in_the_state_wins_over_the_groups_offsets",
]

FAULTS = ["kill-9-of-one-of-two", "zombie"]


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_or_doubled(fault: str, kafka: KafkaContainer, tmp_path: Path) -> None:
    (scenario,) = (each for each in scenarios() if each.name == fault)
    # Of a broker that nobody hurts, scenarios need no more than its address.
    shared = cast(EmbeddedKafka, kafka)
    with Brokers(shared) as brokers, prepared(scenario, brokers, tmp_path, 1, long=False) as run:
        scenario.play(run)
        run.finish()
