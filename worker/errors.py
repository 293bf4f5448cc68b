"""Every way the worker refuses to start or stops, as types: what happened, and what to do next.

The exit code tells a supervisor whether a restart can help. 70 and above: the next start continues
without loss or repetition. 2 to 9: a restart meets the same obstacle until somebody acts.
"""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_OK: Final = 0
EXIT_DIFFERENCE: Final = 1
"""A command that compares (`verify`) found a difference, or one that asks (`health`) hears no."""


class WorkerError(Exception):
    """Root of all errors the worker raises on purpose.

    The text has two parts: what is wrong (naming topic, partition, offset, path or setting) and the
    remedy, a sentence that tells the reader what to do.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n  What to do: {remedy}")
        self.problem = problem
        self.remedy = remedy


class SettingsError(WorkerError):
    """A setting is missing, unknown or out of range."""

    exit_code = 2


class TopicsError(WorkerError):
    """A topic is missing or differs from what is declared (partition counts above all)."""

    exit_code = 2


class NotVerifiable(WorkerError):
    """The input cannot be folded once more: its oldest records are gone, or a transaction stays open."""

    exit_code = 2


class BrokerUnreachable(WorkerError):
    """No broker answered within the connection timeout, or it refused the credentials."""

    exit_code = 3


class BrokerUnsuitable(WorkerError):
    """The broker answered but cannot give exactly-once (no transactions)."""

    exit_code = 3


class StateDirectoryError(WorkerError):
    """The state directory is locked by another process, belongs to another app, or cannot be used."""

    exit_code = 4


class InputLost(WorkerError):
    """Records this worker has not processed are gone from the input topic."""

    exit_code = 5


class AccessDenied(WorkerError):
    """The broker let this user in, but refuses what it asks for: an ACL is missing."""

    exit_code = 6


class StateLost(WorkerError):
    """Stored sessions are gone from the changelog, and with them what the outputs so far were built on."""

    exit_code = 5


class UnknownFormat(WorkerError):
    """Stored state that this version of the worker cannot read: another version wrote it, or something else did."""

    exit_code = 4


class EngineFailure(WorkerError):
    """A transaction failed, or an invariant broke. Nothing was acknowledged; a restart continues."""

    exit_code = 70


class Fenced(WorkerError):
    """Another worker took over this partition. Nothing was written; a restart joins the group anew."""

    exit_code = 71


class Stalled(WorkerError):
    """The worker had work and got nothing done for too long. A restart continues."""

    exit_code = 72
