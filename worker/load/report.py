"""The demo's report: what the worker made of the traffic, on one screen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Final

import msgspec
from rich.console import Console, Group, RenderableType
from rich.highlighter import JSONHighlighter
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from worker.load.readout import DeadLetter, Enriched, Readout

SHOWN_APPLICATIONS: Final = 8
SHOWN_DEAD_LETTERS: Final = 5
SHOWN_SESSIONS: Final = 5

STATE_STYLES: Final = {"open": "green", "closed": "blue", "cancelled": "yellow"}
OUTCOME_STYLES: Final = {"accepted": "green", "unchanged": "cyan", "duplicate": "cyan", "rejected": "yellow"}


@dataclass(frozen=True, slots=True)
class Run:
    """What the demo knows beside the topics. `seconds`: from the first event sent to lag 0."""

    sent: int
    seconds: float
    lag: int
    application_name: Callable[[int], str]


def show(console: Console, readout: Readout, run: Run) -> None:
    """Print the report; it fits 80 columns. Nothing is rounded: sums have all their digits."""
    sessions = list(readout.latest())
    side_by_side = Table.grid(padding=(0, 5))
    side_by_side.add_row(
        _counts("sessions", Counter(session.state for session in sessions), STATE_STYLES),
        _counts("events", readout.outcomes, OUTCOME_STYLES),
        _counts("rejected because", readout.reasons, dict.fromkeys(dict(readout.reasons.most_common()), "yellow")),
    )
    sections: list[tuple[str, RenderableType]] = [
        ("Sessions by state, events by outcome", side_by_side),
        ("Exact totals by application", _totals(sessions, run.application_name)),
        ("A few enriched sessions", _samples(sessions)),
        ("A few dead letters", _dead_letters(readout.dead_letters)),
    ]
    for title, content in sections:
        console.print(_heading(title))
        console.print(Padding(content, (0, 0, 1, 2)))
    console.print(_balance(readout, run))


def _heading(title: str) -> Text:
    return Text(title, "bold underline")


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return table


def _counts(title: str, counts: Counter[str], styles: Mapping[str, str]) -> Table:
    table = _table(title, "", right=[""])
    for name, style in styles.items():
        table.add_row(Text(name, style), f"{counts[name]:,}")
    table.add_row("all", f"{counts.total():,}", style="bold")
    return table


def _totals(sessions: Sequence[Enriched], application_name: Callable[[int], str]) -> Table:
    table = _table(
        "application",
        "sessions",
        "cart items",
        "additional costs",
        "total",
        right=["sessions", "cart items", "additional costs", "total"],
    )
    by_application: dict[int, list[Enriched]] = defaultdict(list)
    for session in sessions:
        by_application[session.application_id].append(session)
    largest = sorted(by_application.items(), key=lambda item: -len(item[1]))
    groups = [(application_name(number), members) for number, members in largest[:SHOWN_APPLICATIONS]]
    if rest := [session for _, members in largest[SHOWN_APPLICATIONS:] for session in members]:
        groups.append((f"{len(largest) - SHOWN_APPLICATIONS} others", rest))
    groups.append(("all", list(sessions)))
    sums = [
        (
            _sum(session.cart_item_total for session in members),
            _sum(session.additional_cost_total for session in members),
            _sum(session.total for session in members),
        )
        for _, members in groups
    ]
    columns = [_aligned(column) for column in zip(*sums, strict=True)]
    for row, (name, members) in enumerate(groups):
        style = "bold" if name == "all" else ""
        table.add_row(name, f"{len(members):,}", *(column[row] for column in columns), style=style)
    return table


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    # The default context rounds to 28 digits; an amount alone may have 35.
    with localcontext(prec=100):
        return sum(amounts, Decimal(0))


def _aligned(amounts: Sequence[Decimal]) -> list[str]:
    """The amounts with all their digits, and as many zeros more as put the points below each other."""
    fractions = [f"{amount:f}".partition(".")[2].rstrip("0") for amount in amounts]
    digits = max(map(len, fractions))
    return [f"{amount:,.{digits}f}" for amount in amounts]


def _samples(sessions: Sequence[Enriched]) -> RenderableType:
    """The sessions that changed most often, first one for each type of last event; and one record in full."""
    busiest = sorted(sessions, key=lambda each: (-each.revision, each.integration_id))
    by_type = {session.type: session for session in reversed(busiest)}
    chosen = sorted(busiest, key=lambda each: by_type[each.type] is not each)[:SHOWN_SESSIONS]
    table = _table(
        "session", "last event", "rev", "profile", "first", "items", "total", right=["rev", "items", "total"]
    )
    table.padding = (0, 1, 0, 0)  # seven columns must leave an exact total its digits
    for session in chosen:
        table.add_row(
            _cut(session.integration_id, 13),
            Text(session.type, STATE_STYLES[session.state]),
            str(session.revision),
            Text(_cut(session.profile_id, 13)) if session.profile_id else Text("anonymous", "dim"),
            "yes" if session.first_session else "no",
            str(session.items),
            f"{session.total:,f}",
        )
    return Group(table, Text(), _in_full(sessions)) if sessions else table


def _in_full(sessions: Sequence[Enriched]) -> Text:
    """The shortest record that shows something of everything, as JSON."""

    def emptiness(session: Enriched) -> tuple[int, int]:
        shown = (session.items, session.additional_cost_total, session.profile_id, b'["' in session.value)
        return (-sum(map(bool, shown)), len(session.value))

    # Spaces after commas, so that lines break between fields; the digits stay as they are.
    text = msgspec.json.format(min(sessions, key=emptiness).value, indent=0).decode()
    return JSONHighlighter()(Text(text))


def _dead_letters(dead_letters: Sequence[DeadLetter]) -> Table:
    """One of each of the most frequent codes, rather one that points into its record."""
    table = _table("code", "message, and where in which record")
    table.columns[1].no_wrap = False
    examples: dict[str, DeadLetter] = {}
    for letter in dead_letters:
        if letter.code not in examples or (letter.pointer.count("/") > examples[letter.code].pointer.count("/")):
            examples[letter.code] = letter
    frequent = [code for code, _ in Counter(letter.code for letter in dead_letters).most_common(SHOWN_DEAD_LETTERS)]
    for letter in (examples[code] for code in frequent):
        table.add_row(Text(letter.code, "yellow"), Text(letter.message))
        table.add_row("", Text(f"{letter.pointer or 'the whole record'}  {_cut(letter.key, 40)}", "dim"))
    return table


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _balance(readout: Readout, run: Run) -> Text:
    """The line that matters: everything that went in is accounted for."""
    balanced = readout.adds_up_to(run.sent) and run.lag == 0
    line = Text()
    line.append("✓ " if balanced else "✗ ", "bold green" if balanced else "bold red")
    line.append(f"{run.sent:,} in", "bold")
    accepted, rejected = readout.outcomes["accepted"], readout.outcomes["rejected"]
    quiet = readout.outcomes["unchanged"] + readout.outcomes["duplicate"]
    line.append(f" = {accepted:,} enriched + {quiet:,} unchanged or repeated + {rejected:,} dead letters")
    if not balanced:
        line.append(
            f"\n  but the topics hold {readout.enriched_records:,} enriched records and "
            f"{len(readout.dead_letters):,} dead letters,\n  and the ledger counts {readout.events:,} events",
            "bold red",
        )
    line.append(f"\n  lag {run.lag:,} · {readout.transactions:,} transactions · ")
    line.append(f"{run.sent / run.seconds:,.0f} events/s", "bold")
    line.append(f", first sent to last committed ({run.seconds:.1f} s)")
    return line
