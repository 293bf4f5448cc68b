"""One such Kafka for all tests of this directory, and an app of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.clients import unique
from tests.secured.installation import Installation, closing
from tests.secured.kafka import SecuredKafka


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory needs a broker."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("broker")


@pytest.fixture(scope="package")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with SecuredKafka(tmp_path_factory.mktemp("secured")) as kafka:
        yield kafka


@pytest.fixture
def installation(secured: SecuredKafka, tmp_path: Path) -> Iterator[Installation]:
    with closing(Installation(secured, unique("secured"), tmp_path)) as one:
        yield one
