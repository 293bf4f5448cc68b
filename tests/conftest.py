"""Fixtures for every test that needs a real broker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import settings

from worker.kafka.embedded import EmbeddedKafka

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

BOOTSTRAP_VARIABLE = "WORKER_TEST_BOOTSTRAP_SERVERS"


@dataclass(frozen=True)
class GivenKafka:
    """A Kafka somebody else runs: tests that only need an address use it instead of starting one."""

    bootstrap_servers: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test that uses the shared broker carries the marker `broker`, without saying so twice."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.broker)


@pytest.fixture(scope="session")
def kafka() -> Iterator[EmbeddedKafka | GivenKafka]:
    """One broker for the whole test session, started when the first test asks for it.

    Tests share it, so they use topic names and app ids of their own and never stop it: a test that hurts
    its broker starts its own EmbeddedKafka.
    """
    given = os.environ.get(BOOTSTRAP_VARIABLE)
    if given:
        yield GivenKafka(given)
        return
    with EmbeddedKafka() as broker:
        yield broker


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No WORKER_* variable of whoever runs the tests reaches the test."""
    for name in list(os.environ):
        if name.upper().startswith("WORKER_"):
            monkeypatch.delenv(name)
