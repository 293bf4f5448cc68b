"""All topics, declared in one place; created and compared with what a broker really has.

The worker never lets a broker create topics by itself: a topic with another partition count than its
siblings would put a session's outputs where nobody looks for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    NodeNotReadyError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from worker.errors import AccessDenied, BrokerUnreachable, TopicsError
from worker.kafka.connection import client_settings
from worker.kafka.patience import ANSWER_SECONDS as ONE_ANSWER_SECONDS
from worker.settings import Settings

DAY_MS: Final = 86_400_000
MIB: Final = 1024 * 1024
DEAD_LETTER_MAX_BYTES: Final = 64 * MIB
"""A dead letter is the rejected record as it came plus the reason. A broker limits batches as they are compressed,
so an input of 1 MiB may hold far more once it is read; whatever fits a client's memory should fit here."""
DEAD_LETTERS_KEPT_BYTES: Final = 1024 * MIB
"""Per partition, then the oldest go."""
BROKER_DEFAULT_MAX_BYTES: Final = 1_048_588
BATCH_OVERHEAD_BYTES: Final = 4_096
"""What a batch holding a single record adds to it, generously: the batch header and the record's varints."""
LEADERS_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 10.0
COMPARED_CONFIGS: Final = (
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "min.insync.replicas",
    "max.message.bytes",
    "message.timestamp.type",
    "message.timestamp.after.max.ms",
)
"""What correctness rests on. The other declared configs are tuning: set at creation, then the operator's."""
ANY_TIMESTAMP: Final = str(2**63 - 1)


@dataclass(frozen=True)
class TopicDeclaration:
    """A topic as it must be. `configs` are the broker's own names and texts; others stay as the broker has them."""

    name: str
    purpose: str
    partitions: int
    replication_factor: int
    configs: dict[str, str]


def declared(settings: Settings) -> list[TopicDeclaration]:
    """All topics, the input first. All have the same number of partitions: outputs keep their input's."""
    on_input = {
        "min.insync.replicas": "2" if settings.replication_factor >= 3 else "1",
        # Outputs carry their input's timestamp, and a producer's clock may run ahead.
        "message.timestamp.after.max.ms": ANY_TIMESTAMP,
    }
    # What is written carries the time of the input it comes of: it is part of what is compared.
    shared = on_input | {"message.timestamp.type": "CreateTime"}
    compacted = shared | {
        "cleanup.policy": "compact",
        # How long a reader may take to see a tombstone before it is gone.
        "delete.retention.ms": str(DAY_MS),
        # The cleaner never touches the open segment; 64 MiB keeps a restore from reading a gigabyte of old rows.
        "segment.bytes": str(64 * MIB),
        # A record of the largest size that `apply` lets pass must be one the topic takes.
        "max.message.bytes": str(max(BROKER_DEFAULT_MAX_BYTES, settings.max_record_bytes + BATCH_OVERHEAD_BYTES)),
    }

    # A row may hold outputs that wait for an answer: at least one, so up to a record of the largest size more.
    row_bytes = BROKER_DEFAULT_MAX_BYTES + 2 * settings.max_record_bytes + BATCH_OVERHEAD_BYTES

    def kept(days: int) -> dict[str, str]:
        return {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}

    # What the worker says of old input must not be old at once: a broker would delete it unread. So it ages from when
    # it was written. Dead letters keep their input's timestamp, and are bounded by size instead.
    written = shared | kept(days=30) | {"message.timestamp.type": "LogAppendTime", "retention.bytes": "-1"}
    letters = shared | {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": str(DEAD_LETTERS_KEPT_BYTES),
        "segment.bytes": str(2 * DEAD_LETTER_MAX_BYTES),  # whole segments are deleted, never the open one
        "max.message.bytes": str(DEAD_LETTER_MAX_BYTES),
    }

    def topic(name: str, purpose: str, configs: dict[str, str]) -> TopicDeclaration:
        return TopicDeclaration(name, purpose, settings.partitions, settings.replication_factor, configs)

    return [
        topic(settings.topic_updates, "input: session updates", on_input | kept(days=7)),
        topic(settings.topic_enriched, "output: enriched sessions", compacted),
        topic(settings.topic_dead_letters, "rejected updates with the reason", letters),
        topic(settings.topic_ledger, "counts per transaction", written),
        topic(settings.topic_changelog, "stored sessions", compacted | {"max.message.bytes": str(row_bytes)}),
        topic(settings.topic_profiles_changelog, "who owns each profile", compacted),
        topic(settings.topic_claims, "sessions bound to profiles", written),
        topic(settings.topic_answers, "who owns the profile", written),
    ]


@dataclass(frozen=True)
class Cell:
    """One property of a topic: as declared, and as the broker has it."""

    declared: str
    live: str

    @property
    def differs(self) -> bool:
        return self.declared != self.live


@dataclass(frozen=True)
class TopicComparison:
    """A declared topic beside the live one. `cells` are by property, and empty when the topic is missing."""

    declaration: TopicDeclaration
    cells: dict[str, Cell]

    @property
    def missing(self) -> bool:
        return not self.cells

    @property
    def as_declared(self) -> bool:
        return not self.missing and not any(cell.differs for cell in self.cells.values())

    def differences(self) -> list[tuple[str, str, str, str]]:
        """(topic, property, live, declared) for everything that is off."""
        if self.missing:
            return [(self.declaration.name, "topic", "missing", f"{self.declaration.partitions} partitions")]
        off = ((name, cell) for name, cell in self.cells.items() if cell.differs)
        return [(self.declaration.name, name, cell.live, cell.declared) for name, cell in off]

    @property
    def unusable(self) -> bool:
        """Whether a worker would put records where nobody looks, or lose stored sessions to retention."""
        if self.missing or self.cells["partitions"].differs:
            return True
        policy = self.cells["cleanup.policy"]
        return policy.declared == "compact" and policy.differs


@dataclass(frozen=True)
class TopicsReport:
    """All declared topics beside the live ones."""

    topics: list[TopicComparison]

    @property
    def as_declared(self) -> bool:
        return all(topic.as_declared for topic in self.topics)

    def differences(self) -> list[tuple[str, str, str, str]]:
        """(topic, property, live, declared) for everything that is off in any topic."""
        return [row for topic in self.topics for row in topic.differences()]

    def require_usable(self) -> None:
        """Raise TopicsError when the worker must not start: a topic missing, miscounted, or not compacted."""
        if any(topic.unusable for topic in self.topics):
            raise TopicsError(
                "the topics are not as declared:\n" + _text_table(self.differences()),
                "create what is missing with `python -m worker topics create`. Partitions of a topic that has data are "
                "never changed in place: set WORKER_PARTITIONS to what is there, or start with new topic names.",
            )


async def create(settings: Settings) -> dict[str, bool]:
    """Create the declared topics that are missing; True for each one created, False for each that was there.

    Never changes an existing topic. Returns when every partition has a leader. Raises AccessDenied without the
    right to create them, TopicsError when the broker refuses for another reason.
    """
    declarations = declared(settings)
    async with _admin(settings) as admin:
        existing = await _live_topics(admin)
        missing = [d for d in declarations if d.name not in existing]
        created: set[str] = set()
        if missing:
            requests = [NewTopic(d.name, d.partitions, d.replication_factor, topic_configs=d.configs) for d in missing]
            answer = await admin.create_topics(requests)
            denied = []
            for name, code, message in answer.topic_errors:
                if code == 0:
                    created.add(name)
                # Two workers may be creating at once: the topic is there, which is what was asked for.
                elif code == TopicAuthorizationFailedError.errno:
                    denied.append(name)
                elif code != TopicAlreadyExistsError.errno:
                    raise TopicsError(
                        f"topic {name} could not be created: {message or for_code(code).__name__}",
                        "set WORKER_REPLICATION_FACTOR to at most the number of brokers.",
                    )
            if denied:
                raise _denied("CREATE", denied)
        await _wait_for_leaders(admin, declarations)
    return {d.name: d.name in created for d in declarations}


async def check(settings: Settings) -> TopicsReport:
    """Compare the live topics with the declared. Changes nothing, and never makes a broker create a topic."""
    declarations = declared(settings)
    async with _admin(settings) as admin:
        live = await _live_topics(admin)
        present = [d.name for d in declarations if d.name in live]
        configs = await _live_configs(admin, present)
    return TopicsReport([_compare(d, live.get(d.name), configs.get(d.name, {})) for d in declarations])


def _compare(declaration: TopicDeclaration, live: dict[str, Any] | None, configs: dict[str, str]) -> TopicComparison:
    if live is None:
        return TopicComparison(declaration, {})
    replicas = {len(partition["replicas"]) for partition in live["partitions"]}
    cells = {
        "partitions": Cell(str(declaration.partitions), str(len(live["partitions"]))),
        "replication": Cell(str(declaration.replication_factor), "/".join(map(str, sorted(replicas)))),
    }
    for name in COMPARED_CONFIGS:
        if name in declaration.configs:
            cells[name] = Cell(declaration.configs[name], configs.get(name, "unknown"))
    return TopicComparison(declaration, cells)


class _PatientAdmin(AIOKafkaAdminClient):
    """Asks another broker where one does not answer. aiokafka's own asks one by chance, and any of several may be
    down; those that are stay listed for a while."""

    async def _send_request(self, *args: Any, **kwargs: Any) -> Any:
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return await super()._send_request(*args, **kwargs)
            except (NodeNotReadyError, KafkaConnectionError, RequestTimedOutError) as error:
                if time.monotonic() > deadline:
                    raise BrokerUnreachable(
                        f"no broker answers a question about topics: {type(error).__name__}: {error}",
                        "look at the brokers and the network, and start again.",
                    ) from error
            await asyncio.sleep(0.1)


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = _PatientAdmin(**client_settings(settings), request_timeout_ms=int(ONE_ANSWER_SECONDS * 1000))
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def _live_topics(admin: AIOKafkaAdminClient) -> dict[str, dict[str, Any]]:
    # All topics: asking for one by name creates it on a broker that creates topics by itself.
    return {topic["topic"]: topic for topic in await admin.describe_topics()}


async def _live_configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    configs: dict[str, dict[str, str]] = {}
    denied = []
    for answer in answers:
        for resource in answer.to_object()["resources"]:
            if resource["error_code"] == TopicAuthorizationFailedError.errno:
                denied.append(resource["resource_name"])
                continue
            if resource["error_code"]:
                raise TopicsError(
                    f"the configuration of {resource['resource_name']} cannot be read: "
                    f"{for_code(resource['error_code']).__name__}",
                    "try again; if it repeats, look at the brokers' logs.",
                )
            entries = resource["config_entries"]
            configs[resource["resource_name"]] = {entry["config_names"]: entry["config_value"] for entry in entries}
    if denied:
        raise _denied("DESCRIBE_CONFIGS", denied)
    return configs


def _denied(operation: str, names: list[str]) -> AccessDenied:
    return AccessDenied(
        f"the broker refuses this user: {', '.join(f'{operation} on topic {name}' for name in names)}",
        "have the broker's administrator add an ACL for each; the README lists what every command needs.",
    )


async def _wait_for_leaders(admin: AIOKafkaAdminClient, declarations: list[TopicDeclaration]) -> None:
    deadline = time.monotonic() + LEADERS_SECONDS
    while True:
        live = await _live_topics(admin)
        waiting = [
            d.name
            for d in declarations
            if d.name not in live or any(partition["leader"] < 0 for partition in live[d.name]["partitions"])
        ]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise TopicsError(
                f"no leader after {LEADERS_SECONDS:.0f} s for partitions of {', '.join(waiting)}",
                "look at the brokers' logs: one or more brokers that hold these partitions are not up.",
            )
        await asyncio.sleep(0.1)


def _text_table(rows: list[tuple[str, str, str, str]]) -> str:
    table = [("topic", "property", "live", "declared"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    return "\n".join(
        "    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )
