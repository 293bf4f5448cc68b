"""What the engine does with a broker is seen on a real one: the pipelines of the broker tests."""

from tests.broker.conftest import pipeline

__all__ = ["pipeline"]
