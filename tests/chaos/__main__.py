"""`python -m tests.chaos`: every fault in its long form, and a table of what came of it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.chaos.catalogue import scenarios
from tests.chaos.play import Brokers, Played, play


def main(
    seed: Annotated[int | None, typer.Option(help="Repeats a run's choices; a new one each time without it.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Scenarios whose name contains this; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(help="Play everything so often, each round with the next seed.")] = 1,
    short: Annotated[bool, typer.Option("--short", help="The short forms: seconds each instead of minutes.")] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Name the scenarios and end.")] = False,
) -> None:
    """Plays fault scenarios in their long form. Exit code 1 when one of them fails."""
    console = Console()
    chosen = [each for each in scenarios() if not only or any(part in each.name for part in only)]
    if short:
        chosen = [each for each in chosen if each.has_short_form]
    if list_only:
        for each in chosen:
            console.print(f"[bold]{each.name}[/bold]  {each.about}", highlight=False)
        return
    first = int(time.time()) % 1_000_000 if seed is None else seed
    directory = Path(tempfile.mkdtemp(prefix="session-worker-chaos-"))
    console.print(f"{len(chosen)} scenarios, seed {first}; logs of what fails stay in {directory}")
    played: list[Played] = []
    with Brokers() as brokers:
        for number in range(rounds):
            for each in chosen:
                console.print(f"… {each.name}: {each.about}", highlight=False)
                done = play(each, brokers, directory / f"{each.name}-{number}", first + number, long=not short)
                if done.failure is not None:
                    console.print(f"[red]FAILED[/red] {each.name}, seed {first + number}")
                    console.print(done.failure, markup=False, highlight=False)
                else:
                    console.print(_told(done), highlight=False)
                played.append(done)
    console.print(_table(played))
    failed = sum(done.failure is not None for done in played)
    console.print(f"{len(played) - failed} passed, {failed} failed, seed {first}")
    raise typer.Exit(1 if failed else 0)


def _table(played: list[Played]) -> Table:
    table = Table(title="Chaos: what was lost and what was doubled")
    for name, right in (("scenario", False), ("events", True), ("faults injected", False), ("duplicates", True)):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for name in ("lost", "resumed after s, median / most", "took s"):
        table.add_column(name, justify="right")
    for done in played:
        table.add_row(*_row(done), style="red" if done.failure else None)
    return table


def _told(done: Played) -> str:
    """A passed scenario in a line, as soon as it is played: what a long run shows before its table."""
    _, events, faults, duplicates, lost, resumed, seconds = _row(done)
    return (
        f"  {events} events, {faults}; {duplicates} doubled, {lost} lost"
        + (f"; resumed after {resumed} s" if resumed else "")
        + f"; took {seconds} s"
    )


def _row(done: Played) -> tuple[str, ...]:
    verdict = done.verdict
    events, duplicates, lost = (
        ("FAILED",) * 3 if verdict is None else (str(verdict.events), str(verdict.duplicated), str(verdict.lost))
    )
    return (done.scenario.name, events, done.faults, duplicates, lost, done.resumed, f"{done.seconds:.0f}")


if __name__ == "__main__":
    typer.run(main)
