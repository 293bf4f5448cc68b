"""`load` and `replay-retail` as a person or a script runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.logs import read_topic
from tests.patience import PATIENCE_SECONDS
from worker.kafka.embedded import EmbeddedKafka
from worker.load.generator import generate
from worker.load.mix import Mix

PROJECT = Path(__file__).parents[2]
INVOICE = """\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536365,71053,WHITE METAL LANTERN,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom
"""


def new_topic(kafka: EmbeddedKafka) -> str:
    """A topic that can be read: a broker answers that it made one a moment before it leads its partitions."""
    name = f"load-{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for created in admin.create_topics([NewTopic(name, 4, 1)]).values():
        created.result(20)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            assert arrived(kafka, name) == 0
        except KafkaException:
            assert time.monotonic() < deadline
        else:
            return name


@contextmanager
def worker(kafka: EmbeddedKafka, topic: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m worker …`, killed when the test leaves it running."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    environment |= {"WORKER_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "WORKER_TOPIC_UPDATES": topic}
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def arrived(kafka: EmbeddedKafka, topic: str) -> int:
    return sum(map(len, read_topic(kafka.bootstrap_servers, topic).values()))


def test_load_says_in_json_what_it_sent_by_kind(kafka: EmbeddedKafka) -> None:
    topic = new_topic(kafka)
    with worker(kafka, topic, "load", "--sessions", "60", "--seed", "4", "--json") as process:
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    sent = json.loads(output)
    expected = list(generate(60, seed=4))
    assert sent["events"] == len(expected) == arrived(kafka, topic)
    assert sent["by_kind"]["created"] == Mix.of(60).sessions + 1, "the hot key is a session too"
    assert set(sent["by_kind"]) == {event.kind for event in expected}


def test_ctrl_c_ends_an_endless_load_in_order(kafka: EmbeddedKafka) -> None:
    topic = new_topic(kafka)
    with worker(kafka, topic, "load", "--rate", "300", "--json") as process:
        while arrived(kafka, topic) == 0:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    assert json.loads(output)["events"] == arrived(kafka, topic)


def test_replay_retail_shows_a_table_of_kinds(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    topic = new_topic(kafka)
    invoices = tmp_path / "day.csv"
    invoices.write_text(INVOICE)
    with worker(kafka, topic, "replay-retail", str(invoices), "--lines", "1") as process:
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    assert arrived(kafka, topic) == 3
    rows = [line.split()[:2] for line in output.splitlines()]
    assert ["cart", "2"] in rows
    assert ["closed", "1"] in rows


def test_a_missing_file_is_an_error_that_names_it(kafka: EmbeddedKafka) -> None:
    with worker(kafka, "unused", "replay-retail", "/no/such.csv") as process:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 2
    assert "/no/such.csv" in errors
    assert "What to do:" in errors
