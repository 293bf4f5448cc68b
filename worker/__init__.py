"""Session updates in, enriched sessions out: exactly once, on Kafka, with Faust."""

__version__ = "0.1.0"
