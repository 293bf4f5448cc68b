"""`check` finds what would stop a worker, without touching anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from worker.engine.state_dir import StateDirectory
from worker.operate import check
from worker.settings import load_settings

pytestmark = pytest.mark.usefixtures("no_settings")


def state_row(state_dir: Path, app_id: str = "app") -> check.CheckRow:
    """The row of the state directory; there is no broker, which the row does not need."""
    settings = load_settings({"bootstrap_servers": "127.0.0.1:1", "state_dir": state_dir, "app_id": app_id})
    rows = {row.what: row for row in asyncio.run(check.run(settings))}
    assert list(rows) == ["settings", "broker", "rights", "topics", "state directory", "schemas"]
    assert rows["schemas"].ok
    return rows["state directory"]


def opened(state_dir: Path, app_id: str = "app") -> StateDirectory:
    return StateDirectory.open(state_dir, app_id=app_id, cluster_id="cluster", instance_id=None)


def test_a_directory_that_can_be_made_is_fine_and_is_not_made(tmp_path: Path) -> None:
    row = state_row(tmp_path / "deep" / "state")
    assert row.ok
    assert "can be made" in row.found
    assert not (tmp_path / "deep").exists()


def test_a_directory_of_this_app_is_fine_and_names_its_instance(tmp_path: Path) -> None:
    directory = opened(tmp_path / "state")
    directory.close()
    row = state_row(tmp_path / "state")
    assert row.ok
    assert not row.warning
    assert directory.instance_id in row.found


def test_a_directory_in_use_is_a_warning_that_names_the_process(tmp_path: Path) -> None:
    directory = opened(tmp_path / "state")
    row = state_row(tmp_path / "state")
    directory.close()
    assert row.ok
    assert "in use by a running worker" in row.warning


def test_another_apps_directory_is_off(tmp_path: Path) -> None:
    opened(tmp_path / "state", "other").close()
    row = state_row(tmp_path / "state")
    assert not row.ok
    assert "'other'" in row.found


def test_a_directory_with_something_else_in_it_is_off(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    row = state_row(tmp_path)
    assert not row.ok
    assert "thesis.tex" in row.found


def test_a_path_below_a_file_is_off(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    row = state_row(tmp_path / "file" / "state")
    assert not row.ok
    assert "WORKER_STATE_DIR" in row.remedy
