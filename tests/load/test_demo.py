"""The demo as a stranger runs it: a report that adds up, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from confluent_kafka.admin import AdminClient

from tests.patience import PATIENCE_SECONDS
from worker.kafka.embedded import EmbeddedKafka

PROJECT = Path(__file__).parents[2]
INVOICES = """\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536370,22728,ALARM CLOCK BAKELIKE PINK,24,2010-12-01 08:45:00,3.75,12583.0,France
536370,22727,ALARM CLOCK BAKELIKE RED ,24,2010-12-01 08:45:00,3.75,12583.0,France
536370,POST,POSTAGE,3,2010-12-01 08:45:00,18.0,12583.0,France
536589,21777,,-10,2010-12-01 16:50:00,0.0,,United Kingdom
C536391,22556,PLASTERS IN TIN CIRCUS PARADE ,-12,2010-12-01 10:24:00,1.65,17548.0,United Kingdom
"""


@contextmanager
def demo(*arguments: str, temporary: Path, bootstrap: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """`python -m worker demo` with temporary files in `temporary`; killed when the test leaves it running."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    environment |= {"TMPDIR": str(temporary), "COLUMNS": "80", "PYTHONUNBUFFERED": "1"}
    if bootstrap is not None:
        environment["WORKER_BOOTSTRAP_SERVERS"] = bootstrap
    command = [sys.executable, "-m", "worker", "demo", *arguments]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests that a shell runs in the background ignore Ctrl-C, and so would it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_until(output: IO[str] | None, text: str) -> str:
    """What is printed up to the line with `text`; fails at the end of the output."""
    assert output is not None
    lines: list[str] = []
    for line in output:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"{text!r} was never printed:\n{''.join(lines)}")


def processes_using(directory: Path) -> list[str]:
    """Command lines of processes whose arguments or environment name that directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            if str(directory).encode() in command + (entry / "environ").read_bytes():
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def topics(kafka: EmbeddedKafka) -> set[str]:
    listed = AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics(timeout=10)
    return {name for name in listed.topics if not name.startswith("__")}


@pytest.mark.timeout(600)
def test_it_reports_what_came_out_and_deletes_its_topics_on_a_given_broker(
    kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    before = topics(kafka)
    with demo("--sessions", "300", temporary=tmp_path, bootstrap=kafka.bootstrap_servers) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    balance = re.search(r"✓ ([\d,]+) in = ([\d,]+) enriched \+ ([\d,]+) .*\+ ([\d,]+) dead letters", output)
    assert balance is not None, output
    sent, *parts = (int(number.replace(",", "")) for number in balance.groups())
    assert sent == sum(parts) > 1_500
    assert "lag 0" in output
    assert all(len(line) <= 80 for line in output.splitlines())
    assert not topics(kafka) - before, "it left topics behind"
    assert not list(tmp_path.iterdir())


@pytest.mark.timeout(600)
def test_it_plays_real_invoices_and_knows_their_countries(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    invoices = tmp_path / "day.csv"
    invoices.write_text(INVOICES)
    with demo("--csv", str(invoices), temporary=tmp_path, bootstrap=kafka.bootstrap_servers) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    # Two updates of the sale are accepted; the dirt, its close and the unknown cancellation are not.
    assert "✓ 5 in = 2 enriched + 0 unchanged or repeated + 3 dead letters" in output
    assert re.search(r"14 France +1 +180 +54 +234", output), output


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.timeout(600)
def test_with_keep_it_goes_on_until_ctrl_c_and_then_leaves_nothing(tmp_path: Path) -> None:
    with demo("--sessions", "50", "--keep", temporary=tmp_path) as process:
        shown = read_until(process.stdout, "Ctrl-C stops everything")
        assert re.search(r"export WORKER_BOOTSTRAP_SERVERS=127\.0\.0\.1:\d+", shown)
        assert len(processes_using(tmp_path)) == 3, "the demo, the broker and the worker"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, rest
    assert not processes_using(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.timeout(600)
def test_ctrl_c_while_it_works_leaves_nothing(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    before = topics(kafka)
    with demo(temporary=tmp_path, bootstrap=kafka.bootstrap_servers) as process:
        read_until(process.stdout, "Worker, process")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 130, rest
        assert "nothing is left running" in rest
    assert not processes_using(tmp_path)
    assert not list(tmp_path.iterdir())
    assert not topics(kafka) - before, "it left topics behind"


@pytest.mark.skipif(sys.platform != "linux", reason="a process that ends with its parent is a matter of Linux")
@pytest.mark.timeout(600)
def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    with demo(temporary=tmp_path) as process:
        read_until(process.stdout, "Worker, process")
        process.kill()
        process.wait()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := processes_using(tmp_path):
        assert time.monotonic() < deadline, left
