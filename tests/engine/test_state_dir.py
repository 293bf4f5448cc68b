"""A state directory belongs to one app on one cluster, and says what to do when it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.engine.state_dir import MARKER, StateDirectory
from worker.errors import StateDirectoryError


def opened(path: Path, *, app_id: str = "app", cluster_id: str = "here") -> StateDirectory:
    return StateDirectory.open(path, app_id=app_id, cluster_id=cluster_id, instance_id=None)


@pytest.mark.parametrize("other", [{"app_id": "other"}, {"cluster_id": "elsewhere"}])
def test_the_state_of_another_app_or_cluster_is_refused_and_kept(tmp_path: Path, other: dict[str, str]) -> None:
    opened(tmp_path).close()
    marker = (tmp_path / MARKER).read_bytes()
    with pytest.raises(StateDirectoryError, match=next(iter(other.values()))) as refusal:
        opened(tmp_path, **other)
    assert refusal.value.remedy
    assert (tmp_path / MARKER).read_bytes() == marker
    opened(tmp_path).close()


@pytest.mark.parametrize("text", ["", "{", '{"format": 9, "app_id": "app", "cluster_id": "here", "instance_id": "x"}'])
def test_a_marker_that_is_damaged_or_of_another_format_is_refused(tmp_path: Path, text: str) -> None:
    opened(tmp_path).close()
    (tmp_path / MARKER).write_text(text)
    with pytest.raises(StateDirectoryError, match=r"damaged|format 9"):
        opened(tmp_path)


def test_a_second_worker_is_refused_with_the_process_that_holds_it(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(StateDirectoryError, match="in use by another worker"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()
