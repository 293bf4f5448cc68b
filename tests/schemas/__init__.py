"""Holds `schemas/` and the code together, both ways."""
