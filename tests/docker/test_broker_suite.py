"""Tests of the broker suite once more, on a Kafka in a container: same workers, same oracle, another Kafka version.

`pipeline` asks for the fixture `kafka`, which in this directory is the container. One or two tests of each file, to
keep CI short; all of them run on any Kafka with WORKER_TEST_BOOTSTRAP_SERVERS=host:port.
"""

from tests.broker.test_group import (
    test_a_zombie_that_wakes_up_after_its_session_timeout_exits_fenced_and_writes_nothing,
    test_kill_9_of_one_of_two_workers,
)
from tests.broker.test_poison import test_each_kind_of_poison_is_a_dead_letter_with_its_reason_and_its_bytes
from tests.broker.test_producers import (
    test_aborted_transactions_in_the_input_are_never_processed,
    test_input_of_every_compression_is_read,
)
from tests.broker.test_restarts import (
    test_sigterm_under_load_exits_0_and_leaves_no_work_to_repeat,
    test_the_position_in_the_state_wins_over_the_groups_offsets,
)
from tests.broker.test_synthetic_mix import test_fifty_thousand_events_of_every_kind_come_out_exactly_once

__all__ = [
    "test_a_zombie_that_wakes_up_after_its_session_timeout_exits_fenced_and_writes_nothing",
    "test_aborted_transactions_in_the_input_are_never_processed",
    "test_each_kind_of_poison_is_a_dead_letter_with_its_reason_and_its_bytes",
    "test_fifty_thousand_events_of_every_kind_come_out_exactly_once",
    "test_input_of_every_compression_is_read",
    "test_kill_9_of_one_of_two_workers",
    "test_sigterm_under_load_exits_0_and_leaves_no_work_to_repeat",
    "test_the_position_in_the_state_wins_over_the_groups_offsets",
]
