"""Every scenario there is: importing the modules below registers theirs."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from tests.chaos.scenario import SCENARIOS, Scenario

MODULES: Final = (
    "crashes",
    "steps",
    "stops",
    "stalls",
    "zombies",
    "groups",
    "rolling",
    "skew",
    "poison",
    "fleets",
    "state",
    "clock",
    "changelogs",
    "brokers",
    "outages",
    "network",
    "refusals",
)


def scenarios() -> list[Scenario]:
    """All scenarios, in the order of the modules."""
    for module in MODULES:
        import_module(f"tests.chaos.{module}")
    return list(SCENARIOS.values())
