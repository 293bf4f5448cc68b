"""Results as tables for people, and as plain values for `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # what they import takes half a second, and `--help` needs none of it
    from worker.kafka.topics import TopicsReport
    from worker.operate.check import CheckRow

SHORT_NAMES = {
    "cleanup.policy": "cleanup",
    "retention.ms": "retention",
    "retention.bytes": "kept bytes",
    "min.insync.replicas": "min in-sync",
    "max.message.bytes": "max message",
    "message.timestamp.type": "timestamps",
    "message.timestamp.after.max.ms": "timestamps ahead",
}
DAY_MS = 86_400_000


def show_topics(report: TopicsReport) -> None:
    """One row per topic with what the broker has; what differs is red and says what is declared."""
    properties = list(dict.fromkeys(name for topic in report.topics for name in topic.cells))
    table = Table("topic", *(SHORT_NAMES.get(name, name) for name in properties))
    for topic in report.topics:
        if topic.missing:
            table.add_row(Text(topic.declaration.name, "red"), Text("missing", "bold red"))
            continue
        row = [Text(topic.declaration.name)]
        for name in properties:
            cell = topic.cells.get(name)
            if cell is None:
                row.append(Text(""))
            elif cell.differs:
                row.append(Text(f"{_short(name, cell.live)}, declared {_short(name, cell.declared)}", "bold red"))
            else:
                row.append(Text(_short(name, cell.live)))
        table.add_row(*row)
    console = Console()
    console.print(table)
    if any(topic.missing for topic in report.topics):
        console.print("What to do: create the missing topics with `python -m worker topics create`.")


def topics_as_json(report: TopicsReport) -> dict[str, Any]:
    """{"as_declared", "topics": [{"topic", "missing", "properties": {name: {"declared", "live"}}}]}."""
    return {
        "as_declared": report.as_declared,
        "topics": [
            {
                "topic": topic.declaration.name,
                "purpose": topic.declaration.purpose,
                "missing": topic.missing,
                "properties": {
                    name: {"declared": cell.declared, "live": cell.live} for name, cell in topic.cells.items()
                },
            }
            for topic in report.topics
        ],
    }


def show_check(rows: Sequence[CheckRow]) -> None:
    """One row per thing checked: whether it is fine, what was found, what to do."""
    table = Table("", "what", "found", show_lines=False)
    for row in rows:
        mark = Text("ok", "green") if row.ok else Text("OFF", "bold red")
        if row.ok and row.warning:
            mark = Text("warn", "yellow")
        found = Text(row.found)
        if row.warning:
            found.append(f"\n{row.warning}", "yellow")
        if row.remedy:
            found.append(f"\nWhat to do: {row.remedy}", "bold")
        table.add_row(mark, row.what, found)
    Console().print(table)


def _short(name: str, value: str) -> str:
    """A broker's number as people say it: milliseconds as days when they are whole days."""
    if name.endswith(".ms") and value.isdigit():
        if int(value) >= 2**62:
            return "any"
        if int(value) % DAY_MS == 0:
            return f"{int(value) // DAY_MS} d"
    return value
