"""How long a test waits for what must happen."""

from typing import Final

PATIENCE_SECONDS: Final = 150
"""For what takes a second or two on an idle machine: three test processes share two cores that others use too."""
