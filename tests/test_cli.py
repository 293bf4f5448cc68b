"""The command line as scripts and people meet it: real processes, their exit codes and what they print."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker import __version__
from worker.cli import app
from worker.kafka.embedded import EmbeddedKafka
from worker.kafka.node import free_ports
from worker.settings import Settings, env_name

SECONDS = 120
ROOT = Path(__file__).parents[1]
PATIENT_START_SECONDS = 90

COMMANDS = [
    *(["run"], ["check"], ["health"], ["verify"], ["kafka"], ["load"], ["replay-retail"], ["demo"]),
    *(["topics"], ["topics", "create"], ["topics", "check"]),
]


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without any setting, plus the given ones (field names)."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("WORKER_")}
    return kept | {"COLUMNS": "200"} | {env_name(field): value for field, value in settings.items()}


def worker(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m worker …` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def own_topics(kafka: EmbeddedKafka, state_dir: Path) -> dict[str, str]:
    """Settings of an app that shares nothing with other tests but the broker."""
    app_id = f"cli-{uuid.uuid4().hex[:8]}"
    names = ("updates", "enriched", "dead_letters", "ledger")
    return {
        "bootstrap_servers": kafka.bootstrap_servers,
        "app_id": app_id,
        "state_dir": str(state_dir),
        **{f"topic_{name}": f"{app_id}.{name}" for name in names},
    }


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_says_what_the_command_does_and_its_exit_codes(command: list[str]) -> None:
    shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert "Exit codes: 0 fine" in shown.output


def test_every_setting_is_a_flag_of_a_command_and_names_its_variable() -> None:
    shown = CliRunner().invoke(app, ["check", "--help"], env={"COLUMNS": "200"}).output
    for field in Settings.model_fields:
        flag = "--" + field.replace("_", "-")
        assert re.search(rf"{flag}\b", shown), flag
        assert env_name(field) in shown


def test_version_is_printed() -> None:
    assert worker("--version").stdout == f"{__version__}\n"


def test_an_unknown_setting_ends_with_2_and_a_remedy_without_a_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "worker", "check"],
        cwd=ROOT,
        env=environment() | {"WORKER_BOOTSTRAP": "x:1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 2
    assert "unknown setting WORKER_BOOTSTRAP (nearest: WORKER_BOOTSTRAP_SERVERS)" in ended.stderr
    assert "What to do:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_flag_wins_over_the_environment_and_is_checked_like_it() -> None:
    ended = worker("topics", "check", "--partitions", "none", partitions="4")
    assert ended.returncode == 2
    assert "WORKER_PARTITIONS=none" in ended.stderr


@pytest.mark.parametrize("command", [("topics", "check"), ("topics", "create"), ("run",)], ids=" ".join)
def test_no_broker_ends_with_3_and_the_address(command: tuple[str, ...], tmp_path: Path) -> None:
    ended = worker(*command, bootstrap_servers="127.0.0.1:1", state_dir=str(tmp_path / "state"))
    assert ended.returncode == 3
    assert "127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_check_without_a_broker_ends_with_2_and_says_the_rest(tmp_path: Path) -> None:
    ended = worker("check", "--json", bootstrap_servers="127.0.0.1:1", state_dir=str(tmp_path / "state"))
    assert ended.returncode == 2
    rows = {row["what"]: row for row in json.loads(ended.stdout)}
    assert {what for what, row in rows.items() if not row["ok"]} == {"broker", "rights", "topics"}
    assert not (tmp_path / "state").exists(), "check made the directory it only had to look at"


def test_topics_from_missing_to_created_to_off(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    settings = own_topics(kafka, tmp_path / "state")
    assert worker("topics", "check", **settings).returncode == 2
    created = worker("topics", "create", **settings)
    assert (created.returncode, created.stdout.count("created")) == (0, 8), created.stderr
    assert worker("topics", "create", **settings).stdout.count("exists") == 8
    fine = worker("topics", "check", "--json", **settings)
    assert fine.returncode == 0
    assert json.loads(fine.stdout)["as_declared"] is True
    off = worker("topics", "check", **settings, partitions="8")
    assert off.returncode == 2
    assert off.stdout.count("4, declared 8") == 8


def test_check_of_a_ready_machine_is_all_fine(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    settings = own_topics(kafka, tmp_path / "state")
    assert worker("topics", "create", **settings).returncode == 0
    ended = worker("check", **settings)
    assert ended.returncode == 0, ended.stdout
    assert "OFF" not in ended.stdout
    assert settings["app_id"] in ended.stdout


def test_no_output_of_a_refused_login_shows_the_password(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    login = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "u"}
    ended = worker(
        *("check", "--log-level", "debug"), **own_topics(kafka, tmp_path / "state"), **login, sasl_password="s3cret"
    )
    assert ended.returncode == 2
    assert "WORKER_SASL_PASSWORD=********" in ended.stdout
    assert "s3cret" not in ended.stdout + ended.stderr


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: str(number.name))
def test_the_kafka_command_serves_until_it_is_told_to_stop_and_leaves_no_jvm(number: signal.Signals) -> None:
    port = free_ports(1)[0]
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "kafka", "--port", str(port)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert f"WORKER_BOOTSTRAP_SERVERS=127.0.0.1:{port}" in process.stdout.readline()
        assert worker("topics", "create", bootstrap_servers=f"127.0.0.1:{port}").returncode == 0
        process.send_signal(number)
        assert process.wait(60) == 0
    assert worker("topics", "check", bootstrap_servers=f"127.0.0.1:{port}").returncode == 3
