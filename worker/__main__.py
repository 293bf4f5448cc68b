"""`python -m worker`: the same as the console script `session-worker`."""

import os
import signal
import sys
from types import FrameType

# `run` hears a stop from the first moment: it has begun nothing yet, so it ends in order (0). Any other command only
# as process 1 of a container, from which the kernel keeps every signal that has no handler.
_RUN = sys.argv[1:2] == ["run"]


def _end(number: int, _: FrameType | None) -> None:
    if _RUN:
        os._exit(0)  # an exception may be swallowed by what is just being imported
    sys.exit(128 + number)


if __name__ == "__main__" and (_RUN or os.getpid() == 1):
    signal.signal(signal.SIGTERM, _end)

from worker.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
