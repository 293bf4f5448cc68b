"""Writes the golden files anew: see the package."""

from __future__ import annotations

from tests.wire.golden import DIRECTORY, FILES

for name, content in FILES.items():
    (DIRECTORY / name).write_bytes(content())
