"""`worker run` where it cannot work: a clear error naming thing and remedy, the documented exit code, in seconds."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.broker.pipeline import Pipeline
from tests.broker.processes import WorkerProcess


def _refused(worker: WorkerProcess, code: int, *named: str) -> str:
    """The text of a refusal; its exit code, what it names, and that no stack trace hides it, are checked."""
    assert worker.wait_exit() == code, worker.tail()
    text = worker.output()
    assert "Traceback" not in text, text
    assert "What to do" in text, text
    for name in named:
        assert name in text, f"{name!r} is not named in:\n{text}"
    return text


def test_a_topic_with_another_partition_count_is_refused(pipeline: Pipeline) -> None:
    pipeline.create_topics(partitions={pipeline.names.enriched: 3})
    _refused(pipeline.worker(), 2, pipeline.names.enriched, "3", "4")


def test_partitions_added_to_the_input_are_refused(pipeline: Pipeline) -> None:
    pipeline.create_topics(partitions={pipeline.names.updates: 6})
    _refused(pipeline.worker(), 2, pipeline.names.updates, "6", "4")


def test_missing_topics_are_refused_and_named(pipeline: Pipeline) -> None:
    missing = [pipeline.names.dead_letters, pipeline.names.changelog]
    pipeline.create_topics(skip=missing)
    _refused(pipeline.worker(), 2, *missing, "topics create")


def test_an_unreachable_broker_is_named(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        worker = WorkerProcess("lonely", {"WORKER_BOOTSTRAP_SERVERS": address}, tmp_path).start()
        try:
            _refused(worker, 3, address)
        finally:
            worker.destroy()


def test_a_port_that_answers_nothing_is_named(tmp_path: Path) -> None:
    """A firewall, or another service: connected, then silence."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        worker = WorkerProcess("lonely", {"WORKER_BOOTSTRAP_SERVERS": address}, tmp_path).start()
        try:
            _refused(worker, 3, address)
        finally:
            worker.destroy()


def test_a_state_directory_that_is_a_file_is_refused(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    blocked = pipeline.directory / "file"
    blocked.write_text("not a directory")
    worker = WorkerProcess("blocked", pipeline.environment, pipeline.directory)
    worker.environment["WORKER_STATE_DIR"] = str(blocked)
    try:
        _refused(worker.start(), 4, str(blocked))
    finally:
        worker.destroy()


def test_an_unknown_setting_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    worker = WorkerProcess("typo", {"WORKER_BOOTSTRAP_SERVER": "localhost:9092"}, tmp_path).start()
    try:
        _refused(worker, 2, "WORKER_BOOTSTRAP_SERVER", "WORKER_BOOTSTRAP_SERVERS")
    finally:
        worker.destroy()
