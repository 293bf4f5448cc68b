"""`run --processes N`: several workers of one app on this machine, kept running by a parent that does nothing else.

Each is an ordinary `python -m worker run`, a member of the same consumer group, with a state directory, an
instance id and an HTTP port of its own. They share stderr; `process` on each log line says whose it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from worker.child_process import PROCESS_NAME_VARIABLE, dies_with_parent, environment, hear_no_more_stops
from worker.errors import EXIT_OK, EngineFailure, StateDirectoryError
from worker.operate import preconditions
from worker.operate.check import require_usable_state
from worker.operate.restart_policy import Ended, GiveUp, History, Restart, RestartPolicy
from worker.settings import Settings, load_settings

logger = structlog.get_logger(__name__)

WORKER_COMMAND: Final = (sys.executable, "-m", "worker", "run")
STOP_SECONDS: Final = 10.0
"""A worker needs 8 s at most, without a broker (worker/app.py)."""
_LOCK_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Child:
    """One worker process: its name in the logs, and all it is told."""

    name: str
    environment: Mapping[str, str]


def run_supervised(settings: Settings, processes: int) -> int:
    """Runs `processes` workers until SIGTERM or SIGINT; returns the exit code.

    0 when asked to stop; else that of the worker no restart could help. Raises WorkerError before the first
    start when none of them could work: settings, broker, topics, state directories.
    """
    # Not uvloop: children are to be forked by this thread, whose end is theirs (child_process.py).
    return asyncio.run(_run(settings, processes))


async def _run(settings: Settings, processes: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    each = [child_settings(settings, number) for number in range(1, processes + 1)]
    await _require_startable(settings, [child.state_dir for child in each], stop)
    logger.info("supervisor_starting", processes=processes, state_dir=str(settings.state_dir))
    if processes > settings.partitions:
        logger.warning("idle_processes", processes=processes - settings.partitions, partitions=settings.partitions)
    children = [
        Child(child.state_dir.name, environment(child) | {PROCESS_NAME_VARIABLE: child.state_dir.name})
        for child in each
    ]
    code = await Supervisor(children).run(stop)
    hear_no_more_stops()
    return code


def child_settings(settings: Settings, number: int) -> Settings:
    """What process `number` (from 1) is told. Raises SettingsError, such as for a port beyond 65535."""
    own: dict[str, object] = {"state_dir": settings.state_dir / f"worker-{number}"}
    if settings.instance_id is not None:
        own["instance_id"] = f"{settings.instance_id}-{number}"
    if settings.http_port:
        own["http_port"] = settings.http_port + number - 1
    return load_settings({field: getattr(settings, field) for field in settings.model_fields_set} | own)


async def _require_startable(settings: Settings, directories: Sequence[Path], stop: asyncio.Event) -> None:
    """Ask once what every child would ask, so that a mistake is one error and not N of them."""
    broker = await preconditions.require(settings, stop)
    if broker is None:
        return
    deadline = time.monotonic() + STOP_SECONDS
    for directory in directories:
        holder = require_usable_state(directory, settings.app_id, broker.cluster_id).holder
        if holder:
            # The children of a supervisor that was killed are still stopping.
            logger.info("waiting_for_state_directory", path=str(directory), in_use_by_pid=holder)
        while holder and not await _set_within(stop, _LOCK_POLL_SECONDS):
            if time.monotonic() > deadline:
                raise StateDirectoryError(
                    f"{directory} is in use by another worker (process {holder})",
                    "stop that worker, or give this one its own WORKER_STATE_DIR",
                )
            holder = require_usable_state(directory, settings.app_id, broker.cluster_id).holder


class Supervisor:
    """Keeps one process per child running. Use once: `run`."""

    def __init__(
        self,
        children: Sequence[Child],
        command: Sequence[str] = WORKER_COMMAND,
        policy: RestartPolicy = RestartPolicy(),  # noqa: B008 - frozen
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self._children = children
        self._command = command
        self._policy = policy
        self._stop_seconds = stop_seconds
        self._exit_code = EXIT_OK

    async def run(self, stop: asyncio.Event) -> int:
        """Until `stop` is set, or set by the first child that is given up; no process is left then."""
        async with asyncio.TaskGroup() as tasks:
            for child in self._children:
                tasks.create_task(self._keep_running(child, stop), name=child.name)
        logger.info("supervisor_stopped", exit_code=self._exit_code)
        return self._exit_code

    async def _keep_running(self, child: Child, stop: asyncio.Event) -> None:
        history = History()
        while not stop.is_set():
            started_at = time.monotonic()
            try:
                process = await self._start(child)
            except OSError as error:
                remedy = "free memory or raise the limit of processes, then start again"
                problem = f"could not be started: {error}"
                self._give_up(child, GiveUp(EngineFailure.exit_code, problem, remedy), stop)
                return
            code = await _ended_unasked(process, stop)
            if code is None:
                await self._stop(child, process)
                return
            ended = Ended(code, started_at, time.monotonic())
            match self._policy.after(history, ended):
                case Restart(delay_seconds, history):
                    log = logger.bind(child=child.name, how=ended.how, ran_seconds=round(ended.at - started_at, 1))
                    log.warning("child_crashed", crashes_in_a_row=history.in_a_row, restart_in_seconds=delay_seconds)
                    await _set_within(stop, delay_seconds)
                case GiveUp() as verdict:
                    self._give_up(child, verdict, stop)

    async def _start(self, child: Child) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env=child.environment,
            stdin=DEVNULL,
            # Ctrl-C in a terminal must reach the parent alone: it says when everybody stops.
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGTERM),
        )
        logger.info("child_started", child=child.name, pid=process.pid)
        return process

    async def _stop(self, child: Child, process: Process) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
            process.terminate()
        try:
            async with asyncio.timeout(self._stop_seconds):
                await process.wait()
        except TimeoutError:
            logger.error("child_killed", child=child.name, pid=process.pid, waited_seconds=self._stop_seconds)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        logger.info("child_stopped", child=child.name, exit_code=process.returncode)

    def _give_up(self, child: Child, verdict: GiveUp, stop: asyncio.Event) -> None:
        logger.critical(
            "supervisor_gives_up",
            problem=f"{child.name} {verdict.problem}",
            what_to_do=verdict.remedy,
            exit_code=verdict.exit_code,
        )
        self._exit_code = self._exit_code or verdict.exit_code  # two at once: the first is the reason
        stop.set()


async def _ended_unasked(process: Process, stop: asyncio.Event) -> int | None:
    """The code of the process when it ends; None when everything is to stop first."""
    exiting, stopping = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
    await asyncio.wait({exiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    exiting.cancel()
    stopping.cancel()
    return None if stop.is_set() else process.returncode


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set, waiting so long for it at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
