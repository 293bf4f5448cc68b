"""What the users of each command may do is enough and not too much, and what they may not is named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.broker.processes import WorkerProcess
from tests.kafka.clients import unique
from tests.secured.installation import ACCESS_DENIED, Installation, refused, require_no_secret
from tests.secured.kafka import SecuredKafka
from worker.errors import AccessDenied
from worker.kafka import rights, topics
from worker.kafka.rights import Right
from worker.load.generator import generate


def test_each_command_does_its_work_with_exactly_its_rights(installation: Installation) -> None:
    one, settings = installation, installation.settings
    operator = one.add_user("operator", rights.of_topics_create(settings))
    inspector = one.add_user("inspector", rights.of_topics_check(settings))
    worker = one.add_user("worker", rights.of_worker(settings))
    producer = one.add_user("producer", rights.of_load(settings))
    auditor = one.add_user("auditor", rights.of_verify(settings))

    assert one.run(operator, "topics", "create")[0] == 0
    assert one.run(inspector, "topics", "check")[0] == 0
    assert one.run(worker, "check")[0] == 0
    code, text = one.run(producer, "load", "--sessions", "100", "--seed", "5")
    assert code == 0, text
    one.environment = worker
    process = one.worker(store="rocksdb")
    one.wait_drained()
    process.stop()
    one.verdict(process).require_clean()
    code, text = one.run(auditor, "verify")
    assert code == 0, text
    # Nobody can do another's work.
    assert "READ on group" in one.run(auditor, "check")[1]
    assert one.run(producer, "verify")[0] == ACCESS_DENIED
    code, text = one.run(inspector, "load", "--sessions", "1")
    assert (code, f"WRITE on topic {one.names.updates}" in text) == (ACCESS_DENIED, True), text


def test_without_the_right_to_create_topics_each_is_named(installation: Installation) -> None:
    one = installation
    environment = one.add_user("no-creator", rights.of_topics_check(one.settings))
    code, text = one.run(environment, "topics", "create")
    assert code == ACCESS_DENIED
    for name in one.settings.topic_names().values():
        assert f"CREATE on topic {name}" in text


AT_ONCE = 4
"""Workers that start together: more would be so slow that their own limits for logins and answers pass."""


@pytest.mark.timeout(1_800)
def test_each_right_that_is_missing_at_the_start_is_named_and_no_other(installation: Installation) -> None:
    one = installation
    one.create_topics()
    needed = rights.of_worker(one.settings)
    assert len(needed) == 22
    for first in range(0, len(needed), AT_ONCE):
        started = {}
        for number, lacking in enumerate(needed[first : first + AT_ONCE], first):
            user = f"lacks-{number}"
            environment = one.add_user(user, [right for right in needed if right != lacking])
            started[lacking] = WorkerProcess(user, environment, one.directory).start()
            one.workers.append(started[lacking])
        for lacking, worker in started.items():
            text = refused(worker, ACCESS_DENIED)
            assert f"lacks rights on the broker: {lacking}\n" in text
            assert "Traceback" not in text


def test_a_user_without_any_rights_is_told_all_of_them_at_once(installation: Installation) -> None:
    one = installation
    one.create_topics()
    one.environment = one.add_user("powerless", [])
    refused(one.worker(), ACCESS_DENIED, *map(str, rights.of_worker(one.settings)))


def test_missing_topics_are_missing_topics_to_who_may_see_them(installation: Installation) -> None:
    one = installation
    one.environment = one.add_user("early", rights.of_worker(one.settings))
    refused(one.worker(), 2, "topics create", one.names.updates)


RIGHTS_AT_WORK = 12


@pytest.mark.parametrize("first", range(0, RIGHTS_AT_WORK, AT_ONCE))
def test_each_right_taken_from_a_running_worker_ends_it_by_name_and_given_back_nothing_is_lost(
    secured: SecuredKafka, tmp_path: Path, first: int
) -> None:
    """What the broker itself refuses while the worker works, for each right that work needs: the list has none too
    many. (Changelogs are read and configurations are asked for at the start only: see the next tests.)"""
    installations: list[tuple[Installation, Right, WorkerProcess]] = []
    try:
        for number in range(first, first + AT_ONCE):
            one = Installation(secured, unique("taken"), tmp_path / str(number))
            one.directory.mkdir()
            one.create_topics()
            # DESCRIBE stays: it is the right to read or write that is taken, not that to see.
            needed = rights.of_worker(one.settings)
            at_work = [right for right in needed if is_used_at_work(right, one)]
            assert len(at_work) == RIGHTS_AT_WORK
            taken = at_work[number]
            seeing = right_to_see(taken)
            one.environment = one.add_user(one.app_id, [*needed, seeing])
            installations.append((one, taken, one.worker()))
        for one, taken, worker in installations:
            one.wait_until(lambda worker=worker: " ready " in worker.output(), "ready")  # type: ignore[misc]
            secured.take(one.app_id, taken)
            worker.may_fail = True
            worker.expected_up = False
            one.send(generate(sessions=30, seed=7))
        for _, taken, worker in installations:
            resource = "" if taken.prefixed else f" {taken.name}"
            text = refused(worker, ACCESS_DENIED, f"refuses {taken.operation} on {taken.resource}{resource}")
            assert "python -m worker check" in text
        for one, taken, worker in installations:
            secured.grant(one.app_id, [taken])
            worker.start()
        for one, _, worker in installations:
            one.wait_drained()
            worker.stop()
            one.verdict().require_clean()
    finally:
        for one, _, worker in installations:
            one.destroy()
            require_no_secret(worker.output())


def is_used_at_work(right: Right, one: Installation) -> bool:
    restored = [Right("READ", rights.Resource.TOPIC, name) for name in (one.names.changelog, one.names.profiles)]
    return right.operation != "DESCRIBE_CONFIGS" and right not in restored


def right_to_see(right: Right) -> Right:
    return right._replace(operation="DESCRIBE")


def test_a_changelog_that_is_refused_while_restoring_ends_the_worker(installation: Installation) -> None:
    """Taken in the moment between the check of the rights and the restore: the restore itself is refused."""
    one = installation
    one.create_topics()
    one.send(generate(sessions=10, seed=8))
    one.environment = one.add_user("restorer", rights.of_worker(one.settings))
    first = one.worker("first")
    one.wait_drained()
    first.stop()
    second = one.prepared("second")
    second.environment["WORKER_TEST_FAILPOINT"] = "fence:1:stop"
    second.start()
    one.wait_until(lambda: is_stopped(second), "the producers are open, and nothing is restored")
    one.kafka.take("restorer", Right("READ", rights.Resource.TOPIC, one.names.changelog))
    second.sigcont()
    refused(second, ACCESS_DENIED, f"refuses READ on topic {one.names.changelog}")


def is_stopped(worker: WorkerProcess) -> bool:
    return Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_the_right_to_read_configurations_is_needed_to_compare_topics(installation: Installation) -> None:
    one = installation
    one.create_topics()
    needed = [right for right in rights.of_worker(one.settings) if right.operation != "DESCRIBE_CONFIGS"]
    one.environment = one.add_user("blind", needed)
    with pytest.raises(AccessDenied) as refusal:
        asyncio.run(topics.check(one.settings))
    for name in one.settings.topic_names().values():
        assert f"DESCRIBE_CONFIGS on topic {name}" in refusal.value.problem


def test_the_right_to_see_transactional_ids_is_not_that_to_use_them(installation: Installation) -> None:
    """The broker does not tell the difference beforehand: it shows when the first producer opens."""
    one = installation
    one.create_topics()
    needed = rights.of_worker(one.settings)
    one.environment = one.add_user("onlooker", [*needed[:-1], right_to_see(needed[-1])])
    refused(one.worker(), ACCESS_DENIED, f"WRITE on transactional id {needed[-1].name}0")


def test_a_group_that_is_refused_while_joining_ends_the_worker(installation: Installation) -> None:
    """Nothing is fetched in that moment, and aiokafka tells such a refusal to whoever fetches: without a look at it
    the worker would wait for its partitions for ever."""
    one = installation
    one.create_topics()
    one.send(generate(sessions=10, seed=9))
    needed = rights.of_worker(one.settings)
    group = next(right for right in needed if right.resource is rights.Resource.GROUP)
    stays, goes = one.add_user("stays", needed), one.add_user("goes", needed)
    one.environment = goes
    worker = one.prepared("goes")
    worker.environment["WORKER_TEST_FAILPOINT"] = "revoke:1:stop"
    worker.start()
    one.wait_drained()
    one.environment = stays
    other = one.worker("stays")
    one.wait_until(lambda: is_stopped(worker), "the group rebalances, its first member stands still")
    worker.expected_up = False
    one.kafka.take("goes", group)
    worker.sigcont()
    refused(worker, ACCESS_DENIED, f"being in the group {group.name}: the broker refuses READ on group {group.name}")
    other.stop()
