"""One app on the broker: its own topics, the updates sent to it, its workers, and the oracle's verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic

from tests.broker.processes import WorkerProcess
from tests.logs import (
    TopicNames,
    admin_of,
    committed_offsets,
    forget_group,
    from_coordinator,
    ordered,
    read_logs,
    read_stores,
    read_topic,
)
from tests.model import WorkerRules
from tests.oracle import judge
from tests.patience import PATIENCE_SECONDS
from tests.verdict import Verdict
from worker.kafka.topics import declared
from worker.load.event import StreamEvent
from worker.settings import Settings

POLL_SECONDS = 0.05


class Pipeline:
    """Topics, workers and judgement of one `app_id`."""

    def __init__(self, bootstrap: str, app_id: str, directory: Path, partitions: int = 4, replicas: int = 1) -> None:
        self.bootstrap, self.app_id, self.directory, self.partitions = bootstrap, app_id, directory, partitions
        self.names = TopicNames.of(app_id)
        self.workers: list[WorkerProcess] = []
        self._admin = admin_of(bootstrap)
        self._targets: dict[int, int] | None = None
        self.environment = {
            "WORKER_BOOTSTRAP_SERVERS": bootstrap,
            "WORKER_APP_ID": app_id,
            "WORKER_PARTITIONS": str(partitions),
            "WORKER_REPLICATION_FACTOR": str(replicas),
            "WORKER_TOPIC_UPDATES": self.names.updates,
            "WORKER_TOPIC_ENRICHED": self.names.enriched,
            "WORKER_TOPIC_DEAD_LETTERS": self.names.dead_letters,
            "WORKER_TOPIC_LEDGER": self.names.ledger,
            "WORKER_HTTP_PORT": "0",
            # The broker's smallest: a killed worker's partitions are free again this much later.
            "WORKER_SESSION_TIMEOUT_SECONDS": "6",
        }

    # ------------------------------------------------------------------ topics and input

    @property
    def settings(self) -> Settings:
        """What the workers of this pipeline get from their environment, defaults included."""
        given = {name.removeprefix("WORKER_").lower(): value for name, value in self.environment.items()}
        return Settings.model_validate(given)

    def create_topics(
        self,
        *,
        only: str | None = None,
        skip: Collection[str] = (),
        partitions: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """The declared topics, or one of them; `skip` and `partitions` make the mistakes an operator can make."""
        # Compaction may not eat outputs before the oracle has read them: a ratio of 1 is never exceeded.
        extra = {self.names.enriched: {"min.cleanable.dirty.ratio": "1"}}
        topics = [
            NewTopic(
                topic.name,
                num_partitions=partitions.get(topic.name, topic.partitions),
                replication_factor=topic.replication_factor,
                config=topic.configs | extra.get(topic.name, {}),
            )
            for topic in declared(self.settings)
            if topic.name not in skip and only in (None, topic.name)
        ]
        for created in self._admin.create_topics(topics, operation_timeout=20).values():
            created.result(timeout=20)

    def send(self, events: Iterable[StreamEvent], *, compression: str = "none", stamped: bool = False) -> int:
        """Deliver `events` in order; returns how many. `stamped` with their own time, else that of sending."""
        producer = self.producer(compression=compression)
        count = 0
        for event in events:
            self.send_one(producer, event, stamped=stamped)
            count += 1
        self.flush(producer)
        return count

    def producer(self, *, compression: str = "none", transactional_id: str | None = None) -> Producer:
        config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap,
            "log_level": 4,
            "enable.idempotence": True,  # a retry may not change the order within a partition
            "compression.type": compression,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "message.max.bytes": 4_000_000,
            "queue.buffering.max.messages": 1_000_000,
        }
        if transactional_id:
            # Longer than any test: what is left open is left open until the test ends it.
            config |= {"transactional.id": transactional_id, "transaction.timeout.ms": 600_000}
        return Producer(config)

    def send_one(self, producer: Producer, event: StreamEvent, *, stamped: bool = False) -> None:
        """Hand one event over; its partition is murmur2 of the key, as with Java's producers."""
        producer.produce(
            self.names.updates,
            event.value,
            event.key,
            headers=list(event.headers),
            timestamp=event.timestamp_ms if stamped else 0,
            on_delivery=_delivered,
        )
        producer.poll(0)

    def flush(self, producer: Producer) -> None:
        left = producer.flush(60)
        assert left == 0, f"{left} updates were not delivered"
        self.forget_targets()

    def forget_targets(self) -> None:
        """After the input changed: read anew where it ends."""
        self._targets = None

    # ------------------------------------------------------------------ workers and their progress

    def destroy(self) -> None:
        """End every worker, whatever its state, and have the topics deleted: a broker with the partitions of hundreds
        of ended tests is slow for all that follow. Nobody waits for that."""
        for worker in self.workers:
            worker.destroy()
        self._admin.delete_topics(list(self.names))
        forget_group(self.bootstrap, self.app_id)

    def worker(self, name: str = "one", **settings: object) -> WorkerProcess:
        """A started worker; `settings` by their names in lower case."""
        return self.prepared(name, **settings).start()

    def prepared(self, name: str = "one", **settings: object) -> WorkerProcess:
        """A worker for the test to start."""
        extra = {f"WORKER_{setting.upper()}": str(value) for setting, value in settings.items()}
        process = WorkerProcess(name, self.environment | extra, self.directory)
        self.workers.append(process)
        return process

    def committed(self) -> dict[int, int]:
        return committed_offsets(self.bootstrap, self.app_id, self.names.updates)

    def targets(self) -> dict[int, int]:
        """The offset each partition's group must reach: behind its last real record."""
        if self._targets is None:
            log = read_topic(self.bootstrap, self.names.updates)
            self._targets = {partition: records[-1].offset + 1 for partition, records in log.items() if records}
        return self._targets

    def remaining(self) -> int:
        """Offsets still to go, all partitions together."""
        committed = self.committed()
        return sum(max(0, target - committed.get(partition, 0)) for partition, target in self.targets().items())

    def wait_until(self, reached: Callable[[], bool], what: str, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Poll until `reached`; fails at once when a worker that should run has ended."""
        deadline = time.monotonic() + timeout_seconds
        while not reached():
            for worker in self.workers:
                if worker.expected_up:
                    worker.require_running()
            if time.monotonic() > deadline:
                tails = "\n".join(worker.tail() for worker in self.workers)
                raise AssertionError(f"not within {timeout_seconds} s: {what}; committed {self.committed()}\n{tails}")
            time.sleep(POLL_SECONDS)

    def wait_drained(self, timeout_seconds: float = 2 * PATIENCE_SECONDS) -> None:
        self.targets()
        self.wait_until(lambda: self.remaining() == 0, f"lag 0 (targets {self.targets()})", timeout_seconds)
        self.wait_until(self._is_all_emitted, "the ledger is whole, and no output waits for an answer", timeout_seconds)

    def _is_all_emitted(self) -> bool:
        # The group's offsets may show before the other topics of the same transaction do.
        reached = self.ledger_reached()
        return all(reached.get(p, 0) >= target for p, target in self.targets().items()) and self.held() == 0

    def wait_progress(self, events: int, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until `events` more offsets are committed than now."""
        goal = max(0, self.remaining() - events)
        self.wait_until(lambda: self.remaining() <= goal, f"{events} more committed", timeout_seconds)

    def ledger_reached(self) -> dict[int, int]:
        """Behind the last offset of the last ledger record, per partition."""
        ledger = read_topic(self.bootstrap, self.names.ledger)
        reached = {
            p: json.loads(entries[-1].value or b"")["last_offset"] + 1 for p, entries in ledger.items() if entries
        }
        return {partition: offset for partition, offset in reached.items() if offset}

    def held(self, before: Mapping[int, int] | None = None) -> int:
        """Outputs that wait for an answer, as the ledger adds up: all of it, or what is `before` these offsets."""
        records = ordered(read_topic(self.bootstrap, self.names.ledger))
        entries = [
            json.loads(each.value or b"") for each in records if before is None or each.offset < before[each.partition]
        ]
        return sum(entry["outcomes"]["accepted"] - entry["enriched"] for entry in entries)

    # ------------------------------------------------------------------ what operators do to a group

    def group_members(self) -> int:
        return len(self.group().members)

    def wait_group_empty(self) -> None:
        """A stopped static member stays in the group until its session times out."""
        self.wait_until(lambda: self.group().state == ConsumerGroupState.EMPTY, "the group is empty")

    def delete_group(self) -> None:
        from_coordinator(lambda: self._admin.delete_consumer_groups([self.app_id])[self.app_id].result(timeout=20))

    def set_group_offsets(self, offsets: dict[int, int]) -> None:
        partitions = [TopicPartition(self.names.updates, partition, offset) for partition, offset in offsets.items()]
        asked = ConsumerGroupTopicPartitions(self.app_id, partitions)
        from_coordinator(lambda: self._admin.alter_consumer_group_offsets([asked])[self.app_id].result(timeout=20))
        assert self.committed() == offsets

    def group(self) -> Any:  # ConsumerGroupDescription, which confluent-kafka does not export
        """Its state, members and coordinator, as the coordinator tells them."""
        return from_coordinator(
            lambda: self._admin.describe_consumer_groups([self.app_id], request_timeout=5)[self.app_id].result(20)
        )

    # ------------------------------------------------------------------ judgement

    def written(self, *, isolation: str) -> dict[str, int]:
        """How many records each topic the worker writes to holds, as `isolation` shows it."""
        outputs = (self.names.enriched, self.names.dead_letters, self.names.ledger, self.names.changelog)
        return {topic: len(ordered(read_topic(self.bootstrap, topic, isolation=isolation))) for topic in outputs}

    def verdict(self, *stopped: WorkerProcess, schema_every: int = 1) -> Verdict:
        """The oracle's judgement of all this app has done; the RocksDB stores of the `stopped` workers included.
        Every n-th record is held against its schema."""
        logs = read_logs(self.bootstrap, self.names, self.app_id)
        logs.worker_logs = [worker.complaints() for worker in self.workers]
        for worker in stopped:
            assert not worker.running
            for directory, owned in worker.owned().items():
                for table, kept in (("sessions", logs.stores), ("profiles", logs.profile_stores)):
                    # What moved to another worker stays where it was left, for the case that it comes back.
                    stores = read_stores(directory, table) if owned != set() else {}
                    kept.append(stores if owned is None else {p: stores[p] for p in owned})
        return judge(logs, WorkerRules(self.settings, schema_every))


def _delivered(error: object, _message: object) -> None:
    if error is not None:
        raise KafkaException(error)
