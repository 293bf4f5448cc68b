"""Several workers under one parent: they share the work, come back when they crash, and end together."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.broker.fleet import fleet_of, pids, settled
from tests.broker.pipeline import Pipeline
from tests.patience import PATIENCE_SECONDS
from worker.engine.state_dir import MARKER, StateDirectory, read_owner
from worker.errors import SettingsError
from worker.load.generator import generate
from worker.operate.restart_policy import RestartPolicy
from worker.operate.supervisor import Child, Supervisor, child_settings
from worker.settings import load_settings

EAGER = RestartPolicy(shortest_delay_seconds=0.01, longest_delay_seconds=0.02, loop_crashes=3)

# ---------------------------------------------------------------------- settings of each process


@pytest.mark.usefixtures("no_settings")
def test_each_process_has_its_own_directory_instance_and_port() -> None:
    given = load_settings({"state_dir": "/s", "instance_id": "host", "http_port": "7000", "app_id": "app"})
    each = [child_settings(given, number) for number in (1, 2)]
    assert [str(child.state_dir) for child in each] == ["/s/worker-1", "/s/worker-2"]
    assert [child.instance_id for child in each] == ["host-1", "host-2"]
    assert [child.http_port for child in each] == [7000, 7001]
    assert {child.app_id for child in each} == {"app"}


@pytest.mark.usefixtures("no_settings")
def test_no_instance_id_is_made_up_and_http_that_is_off_stays_off() -> None:
    child = child_settings(load_settings({"http_port": "0"}), 2)
    assert (child.instance_id, child.http_port) == (None, 0)


@pytest.mark.usefixtures("no_settings")
def test_a_setting_that_only_the_last_process_exceeds_is_refused() -> None:
    with pytest.raises(SettingsError, match="WORKER_HTTP_PORT=65536"):
        child_settings(load_settings({"http_port": "65535"}), 2)


def test_one_process_may_use_the_directory_that_held_those_of_several(tmp_path: Path) -> None:
    for directory in (tmp_path / "worker-1", tmp_path / "worker-2", tmp_path):
        StateDirectory.open(directory, app_id="app", cluster_id="cluster", instance_id=None).close()


# ---------------------------------------------------------------------- processes, any


def supervised(*scripts: str, policy: RestartPolicy = EAGER, until: Callable[[], bool] = lambda: False) -> int:
    """The exit code of a supervisor of shell scripts, asked to stop as soon as `until`."""

    async def run() -> int:
        stop = asyncio.Event()
        children = [Child(f"worker-{n}", {"SCRIPT": script}) for n, script in enumerate(scripts, 1)]
        supervisor = Supervisor(children, ("/bin/sh", "-c", 'eval "$SCRIPT"'), policy, stop_seconds=0.5)
        async with asyncio.timeout(PATIENCE_SECONDS):
            running = asyncio.create_task(supervisor.run(stop))
            while not running.done() and not until():
                await asyncio.wait({running}, timeout=0.01)
            stop.set()
            return await running

    return asyncio.run(run())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_that_always_crashes_is_tried_so_often_and_then_ends_all(tmp_path: Path) -> None:
    pids, sibling = tmp_path / "pids", tmp_path / "sibling"
    waits_for_sibling = f"while [ ! -s {sibling} ]; do :; done"
    code = supervised(f"{waits_for_sibling}; echo $$ >> {pids}; exit 71", f"echo $$ > {sibling}; exec sleep 1000")
    assert code == 71
    assert len(pids.read_text().split()) == EAGER.loop_crashes
    assert not alive(int(sibling.read_text()))


def test_a_code_that_no_restart_helps_ends_all_at_once(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with capture_logs() as logs:
        assert supervised(f"echo $$ >> {pids}; exit 4", "exec sleep 1000") == 4
    assert len(pids.read_text().split()) == 1
    (reason,) = [line for line in logs if line["event"] == "supervisor_gives_up"]
    assert reason["problem"].startswith("worker-1 ended with exit code 4")
    assert reason["what_to_do"]


def test_processes_ended_by_a_signal_give_the_code_a_shell_gives() -> None:
    assert supervised("kill -9 $$") == 137


def test_a_process_deaf_to_sigterm_is_killed_after_the_deadline_and_named(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with capture_logs() as logs:
        code = supervised(
            f'trap "" TERM; echo $$ > {pid}; exec sleep 1000',
            until=lambda: pid.exists() and pid.read_text().endswith("\n"),
        )
    assert code == 0
    assert not alive(int(pid.read_text()))
    assert [line["child"] for line in logs if line["event"] == "child_killed"] == ["worker-1"]


def test_a_stop_does_not_wait_for_a_back_off_to_end(tmp_path: Path) -> None:
    patient = RestartPolicy(shortest_delay_seconds=1_000, longest_delay_seconds=1_000)
    begun = time.monotonic()
    with capture_logs() as logs:
        crashed = lambda: any(line["event"] == "child_crashed" for line in logs)  # noqa: E731
        assert supervised("exit 70", policy=patient, until=crashed) == 0
    assert time.monotonic() - begun < PATIENCE_SECONDS


def test_a_process_that_cannot_be_started_is_an_error_and_not_a_traceback() -> None:
    async def run() -> int:
        return await Supervisor([Child("worker-1", {})], ("/no/such/program",)).run(asyncio.Event())

    with capture_logs() as logs:
        assert asyncio.run(run()) == 70
    assert "/no/such/program" in next(line["problem"] for line in logs if line["event"] == "supervisor_gives_up")


# ---------------------------------------------------------------------- workers on a broker


def test_a_killed_parent_takes_its_workers_along_and_the_next_goes_on(pipeline: Pipeline) -> None:
    """With more processes than partitions; the next waits for a worker that is still about to end."""
    one = Pipeline(pipeline.bootstrap, f"{pipeline.app_id}-one", pipeline.directory, partitions=1)
    one.create_topics()
    sent = one.send(generate(sessions=3_000, seed=303))
    fleet = fleet_of(one, 2)
    pipeline.workers.append(fleet)
    one.targets()  # asked before the work begins: it may be quick
    fleet.start()
    one.wait_until(lambda: settled(fleet, [1]), "a worker has the partition")
    one.wait_progress(1_000)
    fleet.kill9()
    one.wait_until(lambda: not pids(fleet), "no worker is left")
    assert one.remaining() > 0, "the kill came after the drain"

    owner = read_owner(fleet.state_dir / "worker-2")
    assert owner is not None
    lingering = StateDirectory.open(
        fleet.state_dir / "worker-2", app_id=owner.app_id, cluster_id=owner.cluster_id, instance_id=None
    )
    fleet.start()
    one.wait_until(lambda: fleet.logged("waiting_for_state_directory") != [], "it waits for the directory")
    lingering.close()
    one.wait_drained()
    fleet.stop()
    assert [line["processes"] for line in fleet.logged("idle_processes", ever=True)] == [1, 1]
    assert one.verdict().require_clean().events == sent


def test_a_worker_no_restart_helps_stops_the_others_and_gives_its_exit_code(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    fleet = fleet_of(pipeline, 2).start()
    pipeline.wait_until(lambda: settled(fleet, [2, 2]), "both have partitions")
    directory = fleet.state_dir / "worker-2"
    owner = read_owner(directory)
    assert owner is not None
    (directory / MARKER).write_bytes(msgspec.json.encode(msgspec.structs.replace(owner, app_id="stranger")))
    fleet.expected_up = False
    os.kill(pids(fleet)["worker-2"], signal.SIGKILL)
    assert fleet.wait_exit() == 4, fleet.tail()
    assert not pids(fleet)
    assert fleet.output().count("holds the state of app 'stranger'") == 1
    (reason,) = fleet.logged("supervisor_gives_up")
    assert reason["problem"].startswith("worker-2 ended with exit code 4")
    assert [(line["child"], line["exit_code"]) for line in fleet.logged("child_stopped")] == [("worker-1", 0)]


def test_wrong_topics_are_one_error_before_any_process_is_started(pipeline: Pipeline) -> None:
    pipeline.create_topics(skip=[pipeline.names.ledger])
    fleet = fleet_of(pipeline, 3)
    fleet.start()
    assert fleet.wait_exit() == 2, fleet.tail()
    assert fleet.output().count("What to do") == 1
    assert pipeline.names.ledger in fleet.output()
    assert not fleet.logged("child_started")
