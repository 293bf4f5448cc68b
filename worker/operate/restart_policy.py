"""When a worker process that ended is started again, and when that is pointless. Pure: no clock, no processes."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from worker.errors import BrokerUnreachable, EngineFailure, Fenced

HOPELESS_CODES: Final = range(2, 10)
"""Exit codes of a worker that meet the same obstacle until somebody acts: see worker/errors.py."""

OUTAGE_CODE: Final = BrokerUnreachable.exit_code
"""Among them, but the supervisor reached the broker before it started anything: this one passes with the outage."""


@dataclass(frozen=True)
class Ended:
    """One run of a worker process that ended unasked. Times in seconds of one monotonic clock."""

    code: int
    """The exit code; negative: minus the number of the signal that ended it."""
    started_at: float
    at: float

    @property
    def how(self) -> str:
        """`ended with exit code 70`, `was ended by SIGKILL`."""
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        known = {number.value: number.name for number in signal.Signals}
        return f"was ended by {known.get(-self.code, f'signal {-self.code}')}"

    @property
    def exit_code(self) -> int:
        """The code a process should exit with because of this one: as a shell has it, and never 0."""
        return 128 - self.code if self.code < 0 else self.code or EngineFailure.exit_code


@dataclass(frozen=True)
class History:
    """The crashes of one process since it last ran well."""

    in_a_row: int = 0
    times: tuple[float, ...] = ()
    """When the latest of them were, as many as the policy looks at."""


@dataclass(frozen=True)
class Restart:
    """Start it again after a delay."""

    delay_seconds: float
    history: History


@dataclass(frozen=True)
class GiveUp:
    """No restart helps: stop everything and exit with this code."""

    exit_code: int
    problem: str
    remedy: str


@dataclass(frozen=True)
class RestartPolicy:
    """Delays double from the shortest to the longest; a long enough run forgives all crashes before it.

    The loop's numbers: five crashes in a row take 7.5 s of delays and five starts (1 s each when idle, 10 s
    when several processes share a busy core). A process that crashes every 15 s or later is no loop: it gets
    work done in between, and is restarted for ever.
    """

    shortest_delay_seconds: float = 0.5
    longest_delay_seconds: float = 30.0
    good_run_seconds: float = 60.0
    loop_crashes: int = 5
    loop_seconds: float = 60.0
    fenced_in_a_row: int = 8
    """Two workers that are taken for one another fence each other at every restart, however slowly they start."""

    def after(self, history: History, ended: Ended) -> Restart | GiveUp:
        """What to do about a process with this history that ended unasked, whatever its code.

        Codes 2 to 9 give up at once, but for an outage of the broker, which is waited for however long it takes.
        All others are crashes, 0 too: nobody had asked it to stop.
        """
        if ended.code == OUTAGE_CODE:
            return Restart(self.longest_delay_seconds / 4, history)
        if ended.code in HOPELESS_CODES:
            return GiveUp(
                ended.exit_code,
                f"{ended.how}, and a restart would meet the same obstacle",
                "do what its own message before this line says, then start again",
            )
        if ended.at - ended.started_at >= self.good_run_seconds:
            history = History()
        crashes = History(history.in_a_row + 1, (*history.times, ended.at)[-self.loop_crashes :])
        if len(crashes.times) == self.loop_crashes and ended.at - crashes.times[0] <= self.loop_seconds:
            return GiveUp(
                ended.exit_code,
                f"crashed {self.loop_crashes} times within {ended.at - crashes.times[0]:.0f} s, "
                f"the last time it {ended.how}",
                "read what it logged before each end: restarts alone do not help. Once the cause is gone start again: "
                "it continues where the last transaction ended",
            )
        if ended.code == Fenced.exit_code and crashes.in_a_row >= self.fenced_in_a_row:
            return GiveUp(
                ended.exit_code,
                f"crashed {crashes.in_a_row} times without a good run in between, the last time another worker had "
                "taken its place",
                "look for two workers with one WORKER_INSTANCE_ID, or pauses longer than "
                "WORKER_SESSION_TIMEOUT_SECONDS",
            )
        # The exponent is bounded before the power: 2.0**1024 is an OverflowError.
        delay = self.shortest_delay_seconds * 2.0 ** min(crashes.in_a_row - 1, 64)
        return Restart(min(delay, self.longest_delay_seconds), crashes)
