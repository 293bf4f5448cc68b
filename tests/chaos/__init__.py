"""Faults under load, each a named scenario judged by the oracle: `make chaos` (docs in scenario.py)."""
