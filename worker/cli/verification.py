"""What `verify` shows: a bar while it folds, then a table of what was compared, and the first difference."""

from __future__ import annotations

import asyncio
import json

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from worker.agents.sessions import SessionsConfig
from worker.errors import EXIT_DIFFERENCE, EXIT_OK
from worker.operate import verify
from worker.operate.verify.report import Difference, Report
from worker.settings import Settings

ALSO_TOLD = 9
"""Differences told in a line each, behind the first; `--json` has more."""


def run(settings: Settings, config: SessionsConfig, *, show_payload: bool, as_json: bool) -> int:
    """Verify and show the result on stdout; the bar goes to stderr. Returns the exit code."""
    report = asyncio.run(_verify(settings, config, show_payload=show_payload))
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        show(report, Console(highlight=False))
    return EXIT_OK if report.agrees else EXIT_DIFFERENCE


async def _verify(settings: Settings, config: SessionsConfig, *, show_payload: bool) -> Report:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("folding", total=None)

        def note(partition: int, done: int, of: int) -> None:
            bar.update(
                task, description=f"partition {partition + 1} of {settings.partitions}", completed=done, total=of
            )

        return await verify.run(settings, config, show_payload=show_payload, note_progress=note)


def show(report: Report, console: Console) -> None:
    """The result for people."""
    outcomes = ", ".join(f"{count:,} {name}" for name, count in report.outcomes.items())
    console.print(
        f"{report.updates:,} updates of {report.input_topic} folded, {len(report.partitions)} partitions"
        + (f": {outcomes}" if outcomes else "")
    )
    table = Table("topic", "holds")
    table.add_column("compared", justify="right")
    table.add_column("differ", justify="right")
    table.add_column("rightly not there")
    for topic in report.topics.values():
        left_out = ", ".join(f"{count:,} {why}" for why, count in topic.left_out.items() if count)
        differ = Text(f"{topic.differences:,}", "bold red" if topic.differences else "green")
        table.add_row(topic.topic, topic.holds, f"{topic.compared:,}", differ, left_out)
    console.print(table)
    if report.agrees:
        console.print("All agree.", style="green")
        return
    first, *others = report.differences
    console.print(f"{report.differing_records:,} records differ. The first:", style="bold red")
    _show_whole(first, console)
    for difference in others[:ALSO_TOLD]:
        console.print(f"  {difference.headline}", markup=False, soft_wrap=True)
    if len(others) > ALSO_TOLD:
        console.print(f"  … and more: --json tells {len(report.differences)} of them.")
    console.print(
        "Settings decide what is expected: if many records differ, see first that limits, OUTPUT_CASE and the "
        "worker's version are those that wrote them.",
        style="dim",
    )


def _show_whole(difference: Difference, console: Console) -> None:
    lines = [f"  {difference.headline}"]
    if difference.differs_in:
        lines.append(f"    differs in  {', '.join(difference.differs_in)}")
    expected = difference.expected or ("nothing" if difference.kind == "unexpected" else None)
    found = difference.found or ("nothing" if difference.kind == "missing" else None)
    lines += [f"    expected    {expected}"] if expected else []
    lines += [f"    found       {found}"] if found else []
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
