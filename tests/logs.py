"""What the oracle reads: every topic of one worker, as plain records, and where they come from.

Reading uses confluent-kafka, a client that shares no code with the worker's aiokafka, and always
read_committed: what an aborted transaction wrote does not exist here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from rocksdict import AccessType, Options, Rdict

from tests.patience import PATIENCE_SECONDS

Headers = tuple[tuple[str, bytes], ...]
Answer = TypeVar("Answer")


class Record(NamedTuple):
    """One record as it lies in a topic; `timestamp` in ms."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


ByPartition = dict[int, list[Record]]


class TopicNames(NamedTuple):
    """The topics of one worker."""

    updates: str
    enriched: str
    dead_letters: str
    ledger: str
    changelog: str
    profiles: str
    claims: str
    answers: str

    @classmethod
    def of(cls, app_id: str) -> TopicNames:
        """Names no other test uses; the changelog's name follows from the app id."""
        return cls(
            f"{app_id}.updates",
            f"{app_id}.enriched",
            f"{app_id}.dead-letters",
            f"{app_id}.ledger",
            f"{app_id}-sessions-changelog",
            f"{app_id}-profiles-changelog",
            f"{app_id}-profile-claims",
            f"{app_id}-profile-answers",
        )


@dataclass
class Logs:
    """Input I, output O, dead letters D, changelog C, ledger L, committed offsets K (engine page, section 6), and the
    profiles' part: claims, answers, changelog of profiles, committed offsets of the claims and of the answers.

    `starts` holds the offset each partition's work began at, when that is not 0. `stores` holds the rows
    of a stopped worker's local store per partition, `worker_logs` what the workers wrote, where asked.
    """

    input_topic: str
    input: ByPartition
    output: ByPartition
    dead_letters: ByPartition
    changelog: ByPartition
    ledger: ByPartition
    committed: dict[int, int]
    claims: ByPartition = field(default_factory=dict)
    answers: ByPartition = field(default_factory=dict)
    profiles: ByPartition = field(default_factory=dict)
    committed_claims: dict[int, int] = field(default_factory=dict)
    committed_answers: dict[int, int] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    stores: list[Mapping[int, Mapping[bytes, bytes]]] = field(default_factory=list)
    profile_stores: list[Mapping[int, Mapping[bytes, bytes]]] = field(default_factory=list)
    worker_logs: list[str] = field(default_factory=list)


def read_logs(bootstrap: str, names: TopicNames, group: str) -> Logs:
    """Everything the worker `group` read and wrote, as of now."""
    return Logs(
        input_topic=names.updates,
        input=read_topic(bootstrap, names.updates),
        output=read_topic(bootstrap, names.enriched),
        dead_letters=read_topic(bootstrap, names.dead_letters),
        changelog=read_topic(bootstrap, names.changelog),
        ledger=read_topic(bootstrap, names.ledger),
        committed=committed_offsets(bootstrap, group, names.updates),
        claims=read_topic(bootstrap, names.claims),
        answers=read_topic(bootstrap, names.answers),
        profiles=read_topic(bootstrap, names.profiles),
        committed_claims=committed_offsets(bootstrap, group, names.claims),
        committed_answers=committed_offsets(bootstrap, group, names.answers),
    )


@cache
def admin_of(bootstrap: str) -> AdminClient:
    """One connection for all questions to a broker: making one takes longer than asking."""
    # Quiet: it outlives the broker of a test run, and would report that for ever.
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})


@cache
def partitions_of(bootstrap: str, topic: str) -> list[int]:
    """Partition numbers of `topic`; raises KafkaException when it does not exist."""

    def ask() -> list[int]:
        found = admin_of(bootstrap).list_topics(topic, timeout=20).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return sorted(found.partitions)

    return from_coordinator(ask)


def committed_offsets(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """The group's committed next offset per partition; partitions without one are left out."""
    asked = [TopicPartition(topic, p) for p in partitions_of(bootstrap, topic)]
    answer = from_coordinator(lambda: _member_of(bootstrap, group).committed(asked, timeout=20))
    return {tp.partition: tp.offset for tp in answer if tp.offset >= 0 and tp.error is None}


def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """High watermarks: cheap to ask while events keep coming, and beyond the last record when markers follow it."""
    return {partition: end for partition, (_, end) in _watermarks(bootstrap, topic).items()}


def beginning_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """Where the partitions begin: beyond 0 when the broker has deleted what was before."""
    return {partition: beginning for partition, (beginning, _) in _watermarks(bootstrap, topic).items()}


def _watermarks(bootstrap: str, topic: str) -> dict[int, tuple[int, int]]:
    reader = _member_of(bootstrap, "oracle")
    partitions = [TopicPartition(topic, partition) for partition in partitions_of(bootstrap, topic)]
    return {tp.partition: from_coordinator(partial(reader.get_watermark_offsets, tp, timeout=2)) for tp in partitions}


def open_records(bootstrap: str, topics: Iterable[str]) -> int:
    """Records that lie in transactions nobody has ended yet, counted from the first of them in each partition."""
    reader = _reader(bootstrap)
    try:
        return sum(
            end_offsets(bootstrap, topic)[partition]
            - reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)[1]
            for topic in topics
            for partition in partitions_of(bootstrap, topic)
        )
    finally:
        reader.close()


_members: dict[tuple[str, str], Consumer] = {}


def forget_group(bootstrap: str, group: str) -> None:
    """Closes what asked for the offsets of a group that is done with: it has threads and connections of its own."""
    member = _members.pop((bootstrap, group), None)
    if member is not None:
        member.close()


def _member_of(bootstrap: str, group: str) -> Consumer:
    """Asks for a group's offsets and never joins it. Not the AdminClient: its answer while a broker that has just
    started still loads its groups has ended the test process with a segmentation fault."""
    if (bootstrap, group) not in _members:
        _members[bootstrap, group] = _new_member(bootstrap, group)
    return _members[bootstrap, group]


def _new_member(bootstrap: str, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 0,  # it outlives the broker, and would say so without end
            "group.id": group,
            "enable.auto.commit": False,
            # Committed offsets only, but without waiting for a transaction that a killed worker left open.
            "isolation.level": "read_uncommitted",
            "topic.metadata.refresh.interval.ms": 1000,  # a partition's leader may have died
        }
    )


_A_BROKER_IS_COMING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,  # created a moment ago, and not yet told to every broker
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    -137,  # _DESTROY_BROKER, which confluent-kafka does not name: it was asked while it died
)


def from_coordinator(ask: Callable[[], Answer], patience_seconds: float = PATIENCE_SECONDS) -> Answer:
    """`ask()`, again while a broker that has just started loads its groups, or takes over from one that died."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _A_BROKER_IS_COMING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def read_topic(
    bootstrap: str, topic: str, *, isolation: str = "read_committed", patience_seconds: float = PATIENCE_SECONDS
) -> ByPartition:
    """All records of `topic` up to its high watermarks, as `isolation` shows them.

    A transaction left open hides the records behind it; when nothing comes for `patience_seconds` that is a
    TimeoutError, because a healed worker leaves none.
    """
    consumer = _reader(bootstrap, isolation)
    try:
        partitions = partitions_of(bootstrap, topic)
        ends = {
            p: from_coordinator(partial(consumer.get_watermark_offsets, TopicPartition(topic, p), timeout=20))
            for p in partitions
        }
        found: ByPartition = {p: [] for p in partitions}
        open_ends = {p: high for p, (low, high) in ends.items() if high > low}
        consumer.assign([TopicPartition(topic, p, ends[p][0]) for p in open_ends])
        deadline = time.monotonic() + patience_seconds
        while open_ends:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: not readable up to {open_ends}; is a transaction still open?")
            for message in consumer.consume(20_000, timeout=0.2):
                deadline = time.monotonic() + patience_seconds
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                partition, offset = message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                if error is None:
                    found[partition].append(
                        Record(
                            partition,
                            offset,
                            message.timestamp()[1],
                            _bytes(message.key()),
                            _bytes(message.value()),
                            tuple(message.headers() or ()),  # type: ignore[arg-type]
                        )
                    )
                if offset + (error is None) >= open_ends.get(partition, 1 << 62):
                    del open_ends[partition]
        return found
    finally:
        consumer.close()


def _reader(bootstrap: str, isolation: str = "read_committed") -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 4,
            "group.id": "oracle",  # never joined: partitions are assigned by hand and nothing is committed
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
            "fetch.max.bytes": 64 << 20,
            "message.max.bytes": 32 << 20,
            "receive.message.max.bytes": 128 << 20,
            "max.partition.fetch.bytes": 32 << 20,
            "queued.max.messages.kbytes": 512 << 10,
            "check.crcs": True,
        }
    )


def _bytes(raw: str | bytes | None) -> bytes | None:
    assert raw is None or isinstance(raw, bytes)
    return raw


def ordered(log: Mapping[int, Sequence[Record]]) -> list[Record]:
    """The records of all partitions, one partition after another."""
    return [record for partition in sorted(log) for record in log[partition]]


def read_stores(state_dir: Path, table: str = "sessions") -> dict[int, dict[bytes, bytes]]:
    """The rows of every partition a stopped worker keeps in RocksDB, read without the worker's code."""
    stores = {int(path.name): _read_rocksdb(path) for path in (state_dir / table).iterdir()}
    assert stores, f"{state_dir} holds no store"
    return stores


def _read_rocksdb(path: Path) -> dict[bytes, bytes]:
    database = Rdict(str(path), options=Options(raw_mode=True), access_type=AccessType.read_only())
    try:
        return {_raw(key): _raw(value) for key, value in database.items()}
    finally:
        database.close()


def _raw(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value
