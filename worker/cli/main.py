"""The commands. Each is a few lines: it reads its settings, calls the room that does the work, shows the result."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from worker import __version__
from worker.cli import tables
from worker.cli.flags import with_settings
from worker.errors import EXIT_DIFFERENCE, EXIT_OK, EngineFailure, WorkerError
from worker.settings import Settings

EXIT_CODES = (
    "Exit codes: 0 fine · 1 a comparison found a difference, or a worker is not ready · 2 settings or topics are off · "
    "3 no suitable broker, or no login · 4 the state directory cannot be used · 5 input is gone from Kafka · 6 a right "
    "(ACL) is missing on the broker · 70 a transaction failed · 71 another worker took over · 72 a stall. After 70 and "
    "above a restart continues without loss or repetition."
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Session updates in, enriched sessions out: exactly once, on Kafka.",
    epilog=EXIT_CODES,
)
topics_app = typer.Typer(no_args_is_help=True, help="The topics the worker needs.", epilog=EXIT_CODES)
app.add_typer(topics_app, name="topics")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of a table.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit(EXIT_OK)


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command of `sys.argv`. A WorkerError ends as its text on stderr and its exit code, never a traceback."""
    try:
        app(prog_name="python -m worker")
    except WorkerError as error:
        stderr = Console(stderr=True, soft_wrap=True, highlight=False)
        stderr.print(error.problem, style="bold red", markup=False)
        stderr.print(f"What to do: {error.remedy}", markup=False)
        raise SystemExit(error.exit_code) from None
    except Exception:  # noqa: BLE001
        # Python's own code for this is 1, which here means that a comparison found a difference.
        traceback.print_exc()
        raise SystemExit(EngineFailure.exit_code) from None


@app.command(epilog=EXIT_CODES)
@with_settings
def run(
    settings: Settings,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            max=100,
            help="Worker processes in one consumer group, one per CPU core; they share the partitions.",
        ),
    ] = 1,
) -> None:
    """Run the worker until SIGTERM or Ctrl-C.

    With --processes N a parent keeps N workers running, each with its own directory worker-1 … worker-N in the state
    directory. One that crashes is started again, after 0.5 s to 30 s. All stop, and the parent exits with the code of
    the one to blame (128 + n for signal n), when a code is 2 to 9, or when one crashes 5 times within 60 s.
    """
    if processes == 1:
        from worker.app import run_worker

        raise typer.Exit(run_worker(settings))
    from worker.operate.supervisor import run_supervised

    raise typer.Exit(run_supervised(settings, processes))


@topics_app.command("create", epilog=EXIT_CODES)
@with_settings
def topics_create(settings: Settings) -> None:
    """Create the topics that are missing. Existing ones are never changed, only compared."""
    from worker.kafka import connection, rights, topics

    asyncio.run(connection.probe(settings))
    asyncio.run(rights.require(settings, rights.of_topics_create(settings)))
    for name, created in asyncio.run(topics.create(settings)).items():
        typer.echo(f"{'created' if created else 'exists '}  {name}")
    report = asyncio.run(topics.check(settings))
    if not report.as_declared:
        tables.show_topics(report)
        raise typer.Exit(2)


@topics_app.command("check", epilog=EXIT_CODES)
@with_settings
def topics_check(settings: Settings, as_json: AsJson = False) -> None:
    """Compare the live topics with what is declared; exit code 2 when something is off."""
    from worker.kafka import connection, rights, topics

    asyncio.run(connection.probe(settings))
    asyncio.run(rights.require(settings, rights.of_topics_check(settings)))
    report = asyncio.run(topics.check(settings))
    if as_json:
        typer.echo(json.dumps(tables.topics_as_json(report), indent=2))
    else:
        tables.show_topics(report)
    raise typer.Exit(EXIT_OK if report.as_declared else 2)


@app.command(epilog=EXIT_CODES)
@with_settings
def check(settings: Settings, as_json: AsJson = False) -> None:
    """Check settings, broker, rights, topics, state directory and schemas; exit code 2 when something is off."""
    from worker.operate import check as checks

    rows = asyncio.run(checks.run(settings))
    if as_json:
        typer.echo(json.dumps([row.as_json() for row in rows], indent=2))
    else:
        tables.show_check(rows)
    raise typer.Exit(EXIT_OK if all(row.ok for row in rows) else 2)


@app.command(epilog=EXIT_CODES)
@with_settings
def health(
    settings: Settings,
    processes: Annotated[int, typer.Option(min=1, max=100, help="As many as `run` was given.")] = 1,
) -> None:
    """Say whether the worker of this state directory is ready and at work; exit code 1 when not.

    Asks no broker: it reads what the worker wrote there in the last seconds. For a container's health check.
    """
    from worker.operate import health as checks

    names = [f"worker-{number}" for number in range(1, processes + 1)] if processes > 1 else [""]
    problems = {name: checks.problem(settings.state_dir / name, time.monotonic()) for name in names}
    for name, problem in problems.items():
        typer.echo(f"{name}: " * bool(name) + (problem or "ready"))
    raise typer.Exit(EXIT_DIFFERENCE if any(problems.values()) else EXIT_OK)


@app.command(epilog=EXIT_CODES)
@with_settings
def verify(
    settings: Settings,
    show_payload: Annotated[
        bool,
        typer.Option(
            "--show-payload", help="Show what customers sent in the records that differ; else digests and field names."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fold the input once more with the pure rules and compare all that the workers wrote; exit code 1 when a record
    differs, 2 when the input no longer reaches back to where the work began.

    Reads only, also beside running workers. Give it the settings the workers run with: they decide what is expected.
    """
    from worker.app import sessions_config
    from worker.cli import verification

    raise typer.Exit(verification.run(settings, sessions_config(settings), show_payload=show_payload, as_json=as_json))


@app.command(epilog=EXIT_CODES)
def kafka(
    nodes: Annotated[int, typer.Option(min=1, max=3, help="Brokers in the cluster.")] = 1,
    port: Annotated[
        int, typer.Option(min=1, max=65_533, help="Port of the first broker; the others follow it.")
    ] = 9092,
    data: Annotated[
        Path | None, typer.Option(help="Directory to keep the data in; forgotten at the end without.")
    ] = None,
) -> None:
    """Run an embedded Apache Kafka in the foreground, for development, until Ctrl-C."""
    from worker.kafka.embedded import EmbeddedKafka

    # Both unwind: brokers stop, temporary data goes. Set for SIGINT too: a shell's background job ignores it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt), EmbeddedKafka(nodes, port=port, data_directory=data) as cluster:
        typer.echo(f"Kafka is up: WORKER_BOOTSTRAP_SERVERS={cluster.bootstrap_servers} (Ctrl-C stops it)")
        threading.Event().wait()


Rate = Annotated[
    float | None, typer.Option(min=0.1, help="Events per second, evenly; as fast as it goes when not given.")
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same events.")]


@app.command(epilog=EXIT_CODES)
@with_settings
def load(
    settings: Settings,
    sessions: Annotated[
        int | None,
        typer.Option(min=1, help="Sessions to play to their end, about 5.6 events each; endless when not given."),
    ] = None,
    rate: Rate = None,
    seed: Seed = 1,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Stop after so many seconds.")] = None,
    as_json: AsJson = False,
) -> None:
    """Play seeded synthetic traffic into the updates topic; Ctrl-C ends it in order.

    Ids of sessions and events depend on the seed alone: the same seed again is the same traffic again.
    """
    from worker.load import console, generator
    from worker.load.mix import Mix
    from worker.load.player import Pace

    expected = None if sessions is None else round(Mix.of(sessions).all_events)
    if rate is not None and duration is not None:
        expected = min(round(rate * duration), expected or sys.maxsize)
    console.send(settings, generator.generate(sessions, seed), Pace(rate, duration), expected, as_json=as_json)


@app.command("replay-retail", epilog=EXIT_CODES)
@with_settings
def replay_retail(
    settings: Settings,
    files: Annotated[list[Path], typer.Argument(help="UCI Online Retail CSV files, or directories of them.")],
    rate: Rate = None,
    lines: Annotated[int, typer.Option(min=1, help="Invoice lines added to the cart by each update.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Play real invoices (UCI Online Retail CSV) as session updates; Ctrl-C ends it in order."""
    from worker.load import console, retail
    from worker.load.player import Pace

    # Read once beforehand: a bad file is refused before anything is sent, and the bar knows its end.
    expected = sum(1 for _ in retail.replay(files, lines_per_update=lines))
    events = retail.replay(files, lines_per_update=lines)
    console.send(settings, events, Pace(rate), expected, as_json=as_json)


@app.command(epilog=EXIT_CODES)
@with_settings
def demo(
    settings: Settings,
    sessions: Annotated[int, typer.Option(min=1, help="Synthetic sessions (about 5.6 events each).")] = 9_000,
    seed: Seed = 1,
    csv: Annotated[
        list[Path] | None,
        typer.Option(
            help="Play real invoices instead: a UCI Online Retail CSV file, or a directory of them; repeatable."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
) -> None:
    """Broker, topics, worker and traffic in one go, then what came out; leaves nothing running.

    Uses the brokers of WORKER_BOOTSTRAP_SERVERS when that is set, with topics of its own that it deletes
    at the end; else an embedded Kafka.
    """
    from worker.load import demo as show

    raise typer.Exit(show.run(settings, show.Plan(sessions, seed, tuple(csv or ()), keep)))
