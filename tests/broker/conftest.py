"""A pipeline per test: topics of its own on the shared broker, workers that end with the test."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.pipeline import Pipeline
from worker.kafka.embedded import EmbeddedKafka


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory needs a broker."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("broker")


@pytest.fixture
def pipeline(kafka: EmbeddedKafka, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    """An app without topics yet: call `create_topics`."""
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    pipeline = Pipeline(kafka.bootstrap_servers, f"{slug}-{uuid.uuid4().hex[:8]}", tmp_path)
    try:
        yield pipeline
    finally:
        pipeline.destroy()
