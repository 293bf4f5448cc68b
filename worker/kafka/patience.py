"""How long a broker may take."""

from __future__ import annotations

from typing import Final

ANSWER_SECONDS: Final = 3.0
"""For a small question. A broker that needs longer is no basis for transactions; of several, another is asked then."""
