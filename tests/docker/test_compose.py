"""`docker compose up` as users have it: all comes up, a worker dies under traffic, nothing is lost or done twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.docker.compose import ComposeProject
from tests.logs import committed_offsets, ordered, read_topic
from tests.patience import PATIENCE_SECONDS

UPDATES, GROUP = "sessions.updates.v1", "session-worker"


def wait_until(reached: Callable[[], bool], what: str, compose: ComposeProject) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_SECONDS} s: {what}\n{compose.logs()}")
        time.sleep(0.2)


def test_two_workers_under_traffic_one_is_killed_and_comes_back(docker_engine: Any, worker_image: str) -> None:
    with ComposeProject(worker_image, LOAD_RATE="300") as compose:

        def committed() -> dict[int, int]:
            return committed_offsets(compose.bootstrap_servers, GROUP, UPDATES)

        def all_beyond(offsets: dict[int, int]) -> bool:
            return all(committed().get(partition, 0) > offset for partition, offset in offsets.items())

        compose("up", "--detach", "--wait", "--wait-timeout", "150")
        up = compose.containers()
        assert {name: each["Health"] for name, each in up.items() if each["State"] == "running"} == {
            "kafka": "healthy",
            "worker-1": "healthy",
            "worker-2": "healthy",
        }
        assert (up["topics"]["State"], up["topics"]["ExitCode"]) == ("exited", 0)

        compose("--profile", "demo", "up", "--detach", "--no-recreate", "traffic")
        wait_until(lambda: all_beyond(dict.fromkeys(range(4), 0)), "both workers work", compose)
        compose("kill", "--signal", "SIGKILL", "worker-1")
        at_kill = committed()
        # What the dead member had goes on when its session has timed out.
        wait_until(lambda: all_beyond(at_kill), "the other worker goes on with all partitions", compose)
        assert compose.containers()["worker-1"]["State"] == "exited"

        compose("up", "--detach", "--wait", "--wait-timeout", "150", "worker-1")
        compose("stop", "traffic")
        traffic = compose.containers()["traffic"]
        assert traffic["ExitCode"] == 0, "Ctrl-C ends it in order"

        sent = ordered(read_topic(compose.bootstrap_servers, UPDATES))
        ends = {record.partition: record.offset + 1 for record in sent}
        wait_until(lambda: committed() == ends, "lag 0", compose)
        verified = json.loads(compose("run", "--rm", "-T", "cli", "verify", "--json"))
        assert verified["agrees"], verified
        assert verified["updates"] == len(sent)

        compose("stop", "worker-1", "worker-2")
        stopped = compose.containers()
        assert {stopped[name]["ExitCode"] for name in ("worker-1", "worker-2")} == {0}
        assert committed() == ends

    mine = {"filters": {"label": f"com.docker.compose.project={compose.name}"}}
    assert docker_engine.containers.list(all=True, **mine) == []
    assert docker_engine.volumes.list(**mine) == []
    assert docker_engine.networks.list(**mine) == []
