"""The README's table "What happens when…" and the catalogue of scenarios name the same faults."""

from __future__ import annotations

import re
from pathlib import Path

from tests.chaos.catalogue import scenarios

README = Path(__file__).parents[2] / "README.md"


def test_every_row_names_scenarios_that_are_there_and_every_scenario_has_a_row() -> None:
    section = README.read_text().partition("### What happens when…")[2].partition("\n## ")[0]
    rows = [
        line for line in section.splitlines() if line.startswith("| ") and not line.startswith(("| **", "| failure"))
    ]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row.rsplit("|", 2)[1])}
    assert all(re.search(r"`[a-z0-9-]+` \|$", row) for row in rows), "a row without a scenario"
    assert named == {each.name for each in scenarios()}
