"""`python -m worker`: the same as the console script `session-worker`."""

import os
import signal
import sys
from types import FrameType


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


# The kernel keeps from process 1 of a container every signal it has no handler for: a stop that comes while the
# imports below still run would be lost, and the container killed at the end of its grace period.
if __name__ == "__main__" and os.getpid() == 1:
    signal.signal(signal.SIGTERM, _end)

from worker.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
