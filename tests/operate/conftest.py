"""Operators' commands meet real workers too: the pipelines of the broker tests."""

from tests.broker.conftest import pipeline

__all__ = ["pipeline"]
