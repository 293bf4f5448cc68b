"""Logs: one stream, JSON for machines, libraries kept quiet and secrets out."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS
from worker import logs

ROOT = Path(__file__).parents[1]

PROGRAM = """
import logging, sys
import structlog
from worker import logs
from worker.settings import load_settings
logs.configure(load_settings({{"log_level": "{level}", "log_format": "{format}"}}))
log = structlog.get_logger("worker.example")
log.debug("quiet_detail")
log.info("partition_recovered", partition=3, path=sys.prefix and __import__("pathlib").Path("/x"))
logging.getLogger("somebody").warning("plain %s", "text")
logging.getLogger("aiokafka.conn").debug("sasl_auth_bytes=secret")
logging.getLogger("aiokafka.conn").info("library insides")
logging.getLogger("aiokafka.producer.sender").warning("Got error produce response on %s, retrying. Error: %s", "t", "e")
logging.getLogger("aiokafka.producer.sender").error("real trouble")
for node in range(500):
    logging.getLogger("aiokafka.conn").error("Unable connect to node with id %s", node)
try:
    customers_record = "jane" + "@example"
    1 / 0
except ZeroDivisionError:
    log.exception("went_wrong")
"""


def logged(level: str, log_format: str) -> str:
    """What a process with these settings writes to stderr; stdout stays empty."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(level=level, format=log_format)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert ended.stdout == ""
    return ended.stderr


@pytest.mark.usefixtures("no_settings")
def test_json_is_one_object_per_line_with_the_same_keys_for_every_logger_and_repeats_are_left_out() -> None:
    lines = [json.loads(line) for line in logged("Info", "json").splitlines()]
    assert [line["event"] for line in lines] == [
        "partition_recovered",
        "plain text",
        "real trouble",
        "Unable connect to node with id 0",
        "went_wrong",
    ]
    assert all({"timestamp", "level", "logger"} <= line.keys() for line in lines)
    assert (lines[0]["partition"], lines[0]["path"]) == (3, "/x")
    assert lines[4]["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_a_retry_is_told_of_when_it_goes_on_for_longer_than_usual() -> None:
    retries = logs._HarmlessRetries()

    def told(second: float, error: str) -> bool:
        record = logging.makeLogRecord(
            {"msg": "on %s, retrying. Error: %s", "args": ("t[0]", error), "created": second}
        )
        record.levelno = logging.WARNING
        return retries.filter(record)

    assert [told(second / 2, "NotEnoughReplicas") for second in range(10)] == [False] * 7 + [True] * 3
    assert not told(5.0, "NotLeader")
    assert not told(60.0, "NotEnoughReplicas"), "another one, long after"


@pytest.mark.usefixtures("no_settings")
def test_debug_lets_libraries_speak_but_never_their_requests() -> None:
    text = logged("DEBUG", "console")
    assert "quiet_detail" in text
    assert "library insides" in text
    assert "secret" not in text
    assert "retrying" not in text
    assert "ZeroDivisionError" in text
    assert "jane@example" not in text + logged("DEBUG", "json"), "a traceback shows no local variables"
