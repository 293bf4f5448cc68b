"""The embedded Kafka is a real one, starts by itself, survives what tests do to it, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kafka.clients import create_topic, read, send, unique
from tests.patience import PATIENCE_SECONDS
from worker.errors import BrokerUnreachable, SettingsError
from worker.kafka.distribution import KAFKA_VERSION, kafka_classpath
from worker.kafka.embedded import EmbeddedKafka
from worker.kafka.handshake import ask_brokers


def test_serves_a_transaction_and_its_reader(kafka: EmbeddedKafka) -> None:
    topic = unique("roundtrip")
    create_topic(kafka.bootstrap_servers, topic)
    send(kafka.bootstrap_servers, topic, [b"one", b"two"])
    assert read(kafka.bootstrap_servers, topic, 2) == [b"one", b"two"]


def test_a_second_start_resolves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = kafka_classpath()
    assert any(jar.name == f"kafka-clients-{KAFKA_VERSION}.jar" for jar in known)
    monkeypatch.setitem(sys.modules, "jgo", None)  # what resolves is not even importable now
    assert kafka_classpath() == known
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match="jgo"):
        kafka_classpath()


@pytest.mark.broker
def test_what_a_reader_has_seen_survives_kill_9_and_a_clean_restart() -> None:
    with EmbeddedKafka() as own:
        create_topic(own.bootstrap_servers, "t")
        send(own.bootstrap_servers, "t", [b"before"])
        # What a reader has seen is committed to the end, markers included: see EmbeddedKafka.kill.
        assert read(own.bootstrap_servers, "t", 1) == [b"before"]
        own.kill(1)
        assert own.pid(1) is None
        own.start(1)
        assert read(own.bootstrap_servers, "t", 1) == [b"before"]
        own.stop(1)
        own.start(1)
        assert read(own.bootstrap_servers, "t", 1) == [b"before"]


@pytest.mark.broker
def test_a_paused_broker_keeps_its_port_open_and_answers_after_resume() -> None:
    with EmbeddedKafka() as own:
        address = ("127.0.0.1", own.port(1))
        own.pause(1)
        with pytest.raises(TimeoutError):
            ask_brokers(address, timeout_seconds=0.5)
        own.resume(1)
        # It may have been away for so long that the controller had given it up.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while set(ask_brokers(address, timeout_seconds=PATIENCE_SECONDS)) != {1}:
            assert time.monotonic() < deadline, "it does not know itself again"


@pytest.mark.broker
def test_data_in_a_given_directory_is_there_next_time(tmp_path: Path) -> None:
    with EmbeddedKafka(data_directory=tmp_path / "kafka") as first:
        create_topic(first.bootstrap_servers, "t")
        send(first.bootstrap_servers, "t", [b"kept"])
    with EmbeddedKafka(data_directory=tmp_path / "kafka") as second:
        assert read(second.bootstrap_servers, "t", 1) == [b"kept"]


@pytest.mark.broker
def test_a_failed_start_shows_the_end_of_the_log_and_leaves_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        own = EmbeddedKafka(port=occupant.getsockname()[1])
        with pytest.raises(BrokerUnreachable, match="Address already in use"):
            own.__enter__()
    assert own.pid(1) is None
    assert not own.data_directory.exists()


@pytest.mark.broker
def test_no_jvm_outlives_a_process_that_is_killed() -> None:
    program = (
        "from worker.kafka.embedded import EmbeddedKafka\n"
        "own = EmbeddedKafka()\n"
        "own.start(wait=False)\n"
        "print(own.pid(1), own.data_directory, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, directory = process.stdout.readline().split()
        os.kill(int(pid), 0)  # raises when there is no such process
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while Path(f"/proc/{pid}").exists() and _state(int(pid)) != "Z":
        assert time.monotonic() < deadline, f"the JVM {pid} of {directory} lives on"
        time.sleep(0.05)


def _state(pid: int) -> str:
    """The state letter of /proc/PID/stat; Z for one that ended and waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
