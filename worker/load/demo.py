"""The demo: broker, topics, worker and traffic in one go, then a report; nothing is left running.

1. Bring a broker up, or use the one that is set. 2. Create the topics. 3. Start the worker. 4. Play the
traffic. 5. Wait for lag 0. 6. Read the topics and report. 7. Take everything down, on Ctrl-C too.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console

from worker.errors import EXIT_DIFFERENCE, EXIT_OK, WorkerError
from worker.kafka import connection, topics
from worker.kafka.embedded import EmbeddedKafka
from worker.load import report, retail
from worker.load.console import progress_bar
from worker.load.event import StreamEvent
from worker.load.generator import generate
from worker.load.lag import InputLag
from worker.load.player import Pace, Sent, play
from worker.load.producers import PRODUCERS
from worker.load.readout import read
from worker.load.worker_process import WorkerProcess
from worker.settings import Settings, env_name

EXIT_INTERRUPTED: Final = 130
TOPIC_FIELDS: Final = ("topic_updates", "topic_enriched", "topic_dead_letters", "topic_ledger")
POLL_SECONDS: Final = 0.1
STALLED_SECONDS: Final = 60.0
"""A worker that commits nothing for so long will not: its group session would have timed out by then."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to play. `files` are real invoices to play instead of synthetic sessions; `keep` leaves all running."""

    sessions: int
    seed: int
    files: tuple[Path, ...] = ()
    keep: bool = False


def run(settings: Settings, plan: Plan) -> int:
    """The exit code: 0, 1 when what came out does not add up to what went in, 130 after Ctrl-C."""
    console = Console(highlight=False)
    # SIGTERM and a closed terminal unwind as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as running:
            return _run(settings, plan, console, running)
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is left running.")
        return EXIT_INTERRUPTED


def _run(given: Settings, plan: Plan, console: Console, running: ExitStack) -> int:
    events = list(retail.replay(plan.files) if plan.files else generate(plan.sessions, plan.seed))
    directory = Path(tempfile.mkdtemp(prefix="session-worker-demo-"))
    running.callback(shutil.rmtree, directory, ignore_errors=True)

    # Step 1
    settings = given.model_copy(update={"state_dir": directory / "state", "http_port": 0})
    if "bootstrap_servers" in given.model_fields_set:
        settings = _with_names_of_its_own(settings)
        running.callback(_delete_topics, settings)
        with _step(console, f"Kafka at {settings.bootstrap_servers}") as done:
            done(f"Kafka {asyncio.run(connection.probe(settings)).release}")
    else:
        with _step(console, "An embedded Apache Kafka") as done:
            broker = running.enter_context(EmbeddedKafka())
            settings = settings.model_copy(update={"bootstrap_servers": broker.bootstrap_servers})
            done(f"Apache Kafka {asyncio.run(connection.probe(settings)).release} at {broker.bootstrap_servers}")
    # Step 2
    with _step(console, "Topics") as done:
        created = asyncio.run(topics.create(settings))
        done(f"{len(created)} topics of {settings.partitions} partitions")
    # Step 3
    with _step(console, "The worker") as done:
        worker = WorkerProcess(settings, directory / "worker.log")
        running.callback(worker.stop)
        asyncio.run(_until_assigned(settings, worker))
        done(f"Worker, process {worker.pid}, store {settings.store}")
    # Steps 4 and 5
    sent, seconds = asyncio.run(_traffic(settings, worker, events, console))
    # Step 6
    with _step(console, "Reading the output topics") as done:
        readout = asyncio.run(read(settings, sent.events))
        done(f"Read {readout.enriched_records:,} enriched records, read_committed")
    console.print()
    name = _country if plan.files else _producer
    report.show(console, readout, report.Run(sent.events, seconds, lag=0, application_name=name))
    if plan.keep:
        _keep(settings, worker, console)
    return EXIT_OK if readout.adds_up_to(sent.events) else EXIT_DIFFERENCE


async def _until_assigned(settings: Settings, worker: WorkerProcess) -> None:
    """Return when the worker's group has all partitions assigned."""
    async with InputLag.of(settings) as lag:
        while not await lag.group_is_stable():
            worker.require_running()
            await asyncio.sleep(POLL_SECONDS)


async def _traffic(
    settings: Settings, worker: WorkerProcess, events: list[StreamEvent], console: Console
) -> tuple[Sent, float]:
    """Play the events and wait for lag 0; also returns the seconds from the first one sent until then."""
    started = time.monotonic()
    with progress_bar(console) as bar:
        sending = bar.add_task("sent", total=len(events))
        processing = bar.add_task("processed", total=len(events))
        playing = asyncio.create_task(
            play(settings, events, Pace(), stop=asyncio.Event(), on_sent=lambda number: bar.advance(sending, number))
        )
        try:
            async with InputLag.of(settings) as lag:
                await _until_processed(lag, playing, worker, lambda done: bar.update(processing, completed=done))
        finally:
            playing.cancel()
        bar.update(processing, completed=len(events))
    return playing.result(), time.monotonic() - started


async def _until_processed(
    lag: InputLag, playing: asyncio.Task[Sent], worker: WorkerProcess, on_progress: Callable[[int], None]
) -> None:
    """Return when all is sent and processed. Raises what sending raised, and WorkerError when the worker is stuck."""
    processed, moved_at = 0, time.monotonic()
    while not playing.done() or playing.exception() is None:
        committed = await lag.committed()
        on_progress(committed)
        if committed > processed or not playing.done():
            processed, moved_at = committed, time.monotonic()
        if playing.done() and await lag.remaining() == 0:
            return
        worker.require_running()
        if time.monotonic() - moved_at > STALLED_SECONDS:
            raise WorkerError(
                f"the worker committed nothing for {STALLED_SECONDS:.0f} s and {await lag.remaining():,} events wait; "
                f"the end of its log:\n{worker.log_tail()}",
                "look for the last thing it logs; `python -m worker check` looks at everything around it.",
            )
        await asyncio.sleep(POLL_SECONDS)
    await playing


@contextmanager
def _step(console: Console, doing: str) -> Iterator[Callable[[str], None]]:
    """Shows `doing` with a spinner, then what was `done` and how long it took."""
    started = time.monotonic()
    result = doing

    def done(text: str) -> None:
        nonlocal result
        result = text

    with console.status(f"{doing} …"):
        yield done
    console.print(f"[green]✓[/] {result} [dim]({time.monotonic() - started:.1f} s)[/]")


def _with_names_of_its_own(settings: Settings) -> Settings:
    """For brokers that others use: an app and topics nobody else has, so that no worker but ours takes part."""
    app_id = f"{settings.app_id}-demo-{secrets.token_hex(3)}"
    names = {field: f"{app_id}.{getattr(settings, field)}" for field in TOPIC_FIELDS}
    return settings.model_copy(update={"app_id": app_id, **names})


def _delete_topics(settings: Settings) -> None:
    asyncio.run(_delete(settings))


async def _delete(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(**connection.client_settings(settings))
    try:
        await admin.start()
        await admin.delete_topics([declaration.name for declaration in topics.declared(settings)])
    finally:
        await admin.close()


def _producer(application_id: int) -> str:
    names = {producer.application_id: producer.name for producer in PRODUCERS}
    return f"{application_id} {names.get(application_id, '')}".rstrip()


def _country(application_id: int) -> str:
    return f"{application_id} {retail.country_of(application_id) or ''}".rstrip()


def _keep(settings: Settings, worker: WorkerProcess, console: Console) -> None:
    """Say how to go on, and wait for Ctrl-C or the worker's end."""
    python = os.path.relpath(sys.executable)
    names = [declaration.name for declaration in topics.declared(settings)]
    console.print(f"\n[bold]Everything is still running.[/] Worker log: {worker.log}")
    console.print(f"  topics: {', '.join(names)}\n  In another terminal:")
    for field in ("bootstrap_servers", "app_id", *TOPIC_FIELDS):
        if (value := getattr(settings, field)) != Settings.model_fields[field].default:
            console.print(f"    export {env_name(field)}={value}", style="cyan")
    console.print(f"    {python} -m worker load --sessions 1000 --seed 2 --rate 500", style="cyan")
    console.print(f"    {python} -m worker topics check", style="cyan")
    with suppress(KeyboardInterrupt):  # before the line that invites it
        console.print("  Ctrl-C stops everything.")
        while True:
            worker.require_running()
            time.sleep(1)
