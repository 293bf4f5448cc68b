"""Everything a worker needs, checked before it starts: one row each, with what to do when it is off.

Changes nothing: no topic is created, no directory made, no lock kept.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from aiokafka.errors import KafkaError

from worker.engine.state_dir import LOCK, check_owner, read_owner
from worker.errors import StateDirectoryError, WorkerError
from worker.kafka import rights, topics
from worker.kafka.connection import BrokerFacts, probe
from worker.settings import Settings, env_name

SCHEMAS: Final = Path(__file__).resolve().parents[2] / "schemas"
SCHEMA_FILES: Final = (
    "asyncapi.json",
    "session-update.v1.schema.json",
    "enriched-session.v1.schema.json",
    "enriched-session.v1.camel.schema.json",
    "enriched-headers.v1.schema.json",
    "dead-letter.v1.schema.json",
    "ledger.v1.schema.json",
)


@dataclass(frozen=True)
class CheckRow:
    """One thing that was checked. `warning` does not make it off; `details` are for `--json`."""

    what: str
    ok: bool
    found: str
    remedy: str = ""
    warning: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return asdict(self)


async def run(settings: Settings) -> list[CheckRow]:
    """Check settings, broker, rights, topics, state directory and schemas, in this order. Raises nothing."""
    broker, facts = await _broker(settings)
    cluster_id = facts.cluster_id if facts is not None else None
    return [
        _settings(settings),
        broker,
        await _rights(settings) if facts is not None else CheckRow("rights", False, "not checked: no broker"),
        await _topics(settings) if facts is not None else CheckRow("topics", False, "not checked: no broker"),
        await asyncio.to_thread(_state_directory, settings, cluster_id),
        _schemas(SCHEMAS),
    ]


def _settings(settings: Settings) -> CheckRow:
    values = settings.redacted()
    fields = type(settings).model_fields
    changed = [env_name(name) for name in fields if getattr(settings, name) != fields[name].default]
    lines = [f"{name}={values[name]}" for name in changed]
    return CheckRow("settings", True, "\n".join(lines) or "all at their defaults", details=dict(values))


async def _broker(settings: Settings) -> tuple[CheckRow, BrokerFacts | None]:
    try:
        facts = await probe(settings)
    except WorkerError as error:
        return _off("broker", error), None
    found = f"Kafka {facts.release}, cluster {facts.cluster_id}, {len(facts.brokers)} broker(s)"
    warning = "\n".join(facts.warnings)
    return CheckRow("broker", True, found, warning=warning, details=asdict(facts)), facts


async def _rights(settings: Settings) -> CheckRow:
    needed = rights.of_worker(settings)
    try:
        missing = await rights.missing(settings, needed)
    except WorkerError as error:
        return _off("rights", error)
    if missing:
        lines = "\n".join(f"missing: {right}" for right in missing)
        return CheckRow("rights", False, lines, "have the broker's administrator add an ACL for each.")
    return CheckRow("rights", True, f"all {len(needed)} that a worker needs, as far as the broker tells")


async def _topics(settings: Settings) -> CheckRow:
    try:
        report = await topics.check(settings)
    except WorkerError as error:
        return _off("topics", error)
    except KafkaError as error:
        return CheckRow("topics", False, f"could not be read: {error}", "try again; the broker answered a moment ago.")
    if report.as_declared:
        return CheckRow("topics", True, f"{len(report.topics)} topics with {settings.partitions} partitions each")
    off = [f"{topic}: {name} is {live}, declared {wanted}" for topic, name, live, wanted in report.differences()]
    return CheckRow(
        "topics",
        False,
        "\n".join(off),
        "`python -m worker topics create` makes the missing ones; change the others on the broker or in the settings.",
    )


@dataclass(frozen=True)
class StateFacts:
    """A state directory this worker may use. `instance_id` and `holder` (a process id) are empty when there is none."""

    instance_id: str
    holder: str


def require_usable_state(path: Path, app_id: str, cluster_id: str | None) -> StateFacts:
    """What is in a state directory, and who holds it. Raises StateDirectoryError when this app cannot use it.

    `cluster_id` None compares no cluster. A holder is no error here: it may be about to end.
    """
    _require_writable(path)
    owner = read_owner(path)
    if owner is not None:
        check_owner(path, owner, app_id, cluster_id or owner.cluster_id)
    return StateFacts(owner.instance_id if owner is not None else "", _lock_holder(path))


def _state_directory(settings: Settings, cluster_id: str | None) -> CheckRow:
    path = settings.state_dir
    try:
        facts = require_usable_state(path, settings.app_id, cluster_id)
    except StateDirectoryError as error:
        return _off("state directory", error)
    warning = f"in use by a running worker (process {facts.holder}); a second one needs its own" if facts.holder else ""
    found = f"{path} does not exist yet, and can be made"
    if path.is_dir():
        found = f"{path}, instance {facts.instance_id}" if facts.instance_id else f"{path}, empty"
    return CheckRow("state directory", True, found, warning=warning)


def _require_writable(path: Path) -> None:
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if os.path.lexists(parent))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise StateDirectoryError(
            f"{path} cannot be used as state directory: {existing} is not a directory this user may write",
            "set WORKER_STATE_DIR to a directory this user may write.",
        )


def _lock_holder(path: Path) -> str:
    """The process that holds the directory's lock; empty when nobody does."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StateDirectoryError(f"{path / LOCK} cannot be opened: {error.strerror}", "correct the rights.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return ""


def _schemas(directory: Path) -> CheckRow:
    remedy = "run from a whole checkout or image: the contracts belong to the worker's version."
    missing = [name for name in SCHEMA_FILES if not (directory / name).is_file()]
    if missing:
        return CheckRow("schemas", False, f"missing in {directory}: {', '.join(missing)}", remedy)
    for name in SCHEMA_FILES:
        try:
            json.loads((directory / name).read_bytes())
        except ValueError as error:
            return CheckRow("schemas", False, f"{directory / name} is not JSON: {error}", remedy)
    return CheckRow("schemas", True, f"{len(SCHEMA_FILES)} files in {directory}")


def _off(what: str, error: WorkerError) -> CheckRow:
    return CheckRow(what, False, error.problem, error.remedy)
