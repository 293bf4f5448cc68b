"""What `load` and `replay-retail` show: a progress bar while they send, then what was sent by kind."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from worker.load.event import StreamEvent
from worker.load.player import Pace, Sent, play
from worker.settings import Settings


class RateColumn(ProgressColumn):
    """Events per second over the last moments, or over all when the task is finished."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


def progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def send(
    settings: Settings, events: Iterable[StreamEvent], pace: Pace, expected_events: int | None, *, as_json: bool
) -> None:
    """Send a stream with a progress bar, then say what was sent. Ctrl-C ends it early and in order.

    `expected_events` is the end of the bar and may be a guess; None = unknown. With `as_json` the last
    line on stdout is `{"events", "seconds", "by_kind"}`, and the bar goes to stderr.
    """
    console = Console(stderr=as_json)
    sent = asyncio.run(_send(settings, events, pace, expected_events, console))
    if as_json:
        print(json.dumps({"events": sent.events, "seconds": round(sent.seconds, 3), "by_kind": sent.by_kind}))
    else:
        console.print(sent_by_kind(sent))


async def _send(
    settings: Settings, events: Iterable[StreamEvent], pace: Pace, expected_events: int | None, console: Console
) -> Sent:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        stop.set()
        # The second Ctrl-C is the default one, for a broker that no longer answers.
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, interrupted)
    with progress_bar(console) as bar:
        task = bar.add_task("sending", total=expected_events)
        sent = await play(settings, events, pace, stop=stop, on_sent=lambda number: bar.advance(task, number))
        bar.update(task, total=sent.events, completed=sent.events)
    return sent


def sent_by_kind(sent: Sent) -> Table:
    """What was sent by kind; the kinds of broken records are summed by the way they are broken."""
    groups: Counter[str] = Counter()
    members: Counter[str] = Counter()
    for kind, number in sent.by_kind.items():
        group, _, member = kind.partition(":")
        groups[group] += number
        members[group] += bool(member)
    table = Table(box=None, pad_edge=False)
    table.add_column("sent by kind")
    table.add_column("events", justify="right")
    table.add_column("share", justify="right")
    for group, number in groups.most_common():
        of_kinds = f" ({members[group]} kinds)" if members[group] else ""
        table.add_row(group.replace("_", " ") + of_kinds, f"{number:,}", f"{number / sent.events:.2%}")
    table.add_row("all", f"{sent.events:,}", f"{sent.per_second:,.0f}/s", style="bold")
    return table
