"""`verify` on what a real worker left in a real Kafka: silent when all is right, and it names every kind of damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.cimpl import NewTopic

from tests.broker.administration import write_back
from tests.broker.pipeline import Pipeline
from tests.broker.processes import PROJECT, WorkerProcess
from tests.logs import ByPartition, Record, admin_of, ordered, read_topic
from tests.operate.verify.damages import DAMAGES, Damage
from tests.patience import PATIENCE_SECONDS
from worker.app import sessions_config
from worker.cli import verification
from worker.engine.position import POSITION_KEY
from worker.errors import NotVerifiable
from worker.kafka.embedded import EmbeddedKafka
from worker.kafka.topics import declared
from worker.load.generator import generate
from worker.settings import Settings

PARTITION = 1
"""Where the damage is done; every partition has hundreds of records."""


class Installation(NamedTuple):
    """What a worker left behind, and all of it as read by another client."""

    pipeline: Pipeline
    updates: int
    topics: dict[str, ByPartition]


@pytest.fixture(scope="module")
def installation(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One run of one worker, in small transactions."""
    pipeline = Pipeline(kafka.bootstrap_servers, f"verify-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("verify"))
    pipeline.create_topics()
    sent = pipeline.send(generate(sessions=300, seed=51))
    work_off(pipeline, batch_max_records=200).stop()
    yield Installation(pipeline, sent, {topic: read_topic(pipeline.bootstrap, topic) for topic in pipeline.names})
    pipeline.destroy()


def work_off(pipeline: Pipeline, *, batch_max_records: int = 2000) -> WorkerProcess:
    """A worker that has worked off what was sent. The ledger tells so: on a broker as fresh as this one may be, the
    group's coordinator does not answer yet."""
    worker = pipeline.worker(batch_max_records=batch_max_records)
    pipeline.wait_until(lambda: "ready" in worker.output(), "the worker is ready")
    pipeline.wait_until(lambda: pipeline.ledger_reached() == pipeline.targets(), "all updates are in the ledger")
    pipeline.wait_until(lambda: pipeline.held() == 0, "no output waits for an answer")
    return worker


def verify(settings: Settings, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """The command's exit code and what it prints with --json."""
    code = verification.run(settings, sessions_config(settings), show_payload=False, as_json=True)
    return code, json.loads(capsys.readouterr().out)


def command(pipeline: Pipeline, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command as people run it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    given = {f"WORKER_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "worker", "verify", *arguments],
        cwd=PROJECT,
        env=kept | pipeline.environment | given | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


# ---------------------------------------------------------------------- nothing is wrong


def test_a_run_agrees_and_the_counts_are_those_of_the_topics(installation: Installation) -> None:
    pipeline, names = installation.pipeline, installation.pipeline.names
    ended = command(pipeline, "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert told["agrees"] is True
    assert told["first"] is None
    assert told["updates"] == installation.updates
    compared = {topic["topic"]: (topic["compared"], topic["differences"]) for topic in told["topics"]}
    assert compared == {topic: (len(ordered(installation.topics[topic])), 0) for topic in names[1:5]}
    assert told["outcomes"]["rejected"] == sum(told["reasons"].values()) > 0
    after = {topic: read_topic(pipeline.bootstrap, topic, isolation="read_uncommitted") for topic in names}
    assert after == installation.topics, "verify wrote something"


def test_an_installation_that_never_ran_agrees(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.create_topics()
    pipeline.send(generate(sessions=20, seed=52))
    code, told = verify(pipeline.settings, capsys)
    assert (code, told["updates"], told["agrees"]) == (0, 0, True)


def test_it_agrees_under_load_while_compaction_removes_old_revisions(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    _create_topics_compacted_eagerly(pipeline)
    sent = pipeline.send(generate(sessions=100, seed=55))
    work_off(pipeline, batch_max_records=100)
    runs: list[dict[str, int]] = []
    with _load(pipeline):
        deadline = time.monotonic() + 2 * PATIENCE_SECONDS
        while len(runs) < 3 or "compacted" not in runs[-1]:
            assert time.monotonic() < deadline, f"nothing was compacted: {runs}"
            code, told = verify(pipeline.settings, capsys)
            assert code == 0, told["first"]
            runs.append({"updates": told["updates"]} | told["topics"][0]["left_out"])
    assert runs[0]["updates"] >= sent
    assert [run["updates"] for run in runs] == sorted({run["updates"] for run in runs}), "no load between the runs"


def _create_topics_compacted_eagerly(pipeline: Pipeline) -> None:
    """The declared topics; segments of a second, cleaned at every pass of the cleaner."""
    eager = {"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01"}
    topics = [
        NewTopic(topic.name, topic.partitions, topic.replication_factor, config=topic.configs | eager)
        for topic in declared(pipeline.settings)
    ]
    for created in admin_of(pipeline.bootstrap).create_topics(topics, operation_timeout=20).values():
        created.result(timeout=20)


class _load:  # noqa: N801  # read as a verb: with _load(pipeline):
    """Updates without end from another thread, some hundred a second, for as long as the block runs."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _send(self) -> None:
        producer = self._pipeline.producer()
        for event in generate(sessions=None, seed=53):
            self._pipeline.send_one(producer, event)
            if self._stop.wait(0.01):
                break
        producer.flush(20)


# ---------------------------------------------------------------------- something is


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_the_record_named(
    installation: Installation, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage = DAMAGES[name]
    settings, culprit, topic = damaged_copy(installation, damage)
    code, told = verify(settings, capsys)
    assert code == 1
    first = told["first"]
    assert (first["kind"], first["topic"], first["partition"]) == (damage.kind, topic, PARTITION), first
    assert damage.says in first["text"]
    assert told["differing_records"] == len(told["differences"]) == damage.differences(culprit), told["differences"]
    assert {one["topic"] for one in told["topics"] if one["differences"]} == {topic}
    if damage.names_offset:
        in_copy = read_topic(installation.pipeline.bootstrap, topic)[PARTITION]
        found = next(record for record in in_copy if record.offset == first["offset"])
        assert (found.key, found.value, found.headers) == (culprit.key, culprit.value, culprit.headers)
    if culprit.key is not None and culprit.key != POSITION_KEY:
        assert first["key"] == repr(culprit.key.decode())
    if first["expected"] is not None and damage.topic != "ledger":
        assert "order-" not in first["expected"] + str(first["found"]), "payload is shown without being asked for"


def damaged_copy(installation: Installation, damage: Damage) -> tuple[Settings, Record, str]:
    """The installation with one topic copied, damaged in one place. Also: the damaged record, the copy's name."""
    pipeline = installation.pipeline
    original = getattr(pipeline.names, damage.topic)
    suffix = uuid.uuid4().hex[:8]
    copy = f"{original}-{suffix}"
    settings = pipeline.settings.model_copy(update={f"topic_{damage.topic}": copy})
    if damage.topic == "changelog":  # its name follows from the app id, and so do those of others
        settings = _elsewhere(pipeline.settings, copy)
    records, culprit = damage.do(installation.topics[original][PARTITION])
    _write(pipeline, copy, installation.topics[original] | {PARTITION: records})
    return settings, culprit, copy


def _elsewhere(settings: Settings, changelog: str) -> Settings:
    """The settings of an installation whose changelog has another name."""

    class Elsewhere(Settings):
        @property
        def topic_changelog(self) -> str:
            return changelog

    return Elsewhere.model_construct(**settings.model_dump())


def _write(pipeline: Pipeline, topic: str, records: ByPartition) -> None:
    policy = "compact" if "changelog" in topic or "enriched" in topic else "delete"
    configs = {"cleanup.policy": policy, "message.timestamp.after.max.ms": str(2**63 - 1)}
    new = NewTopic(topic, num_partitions=pipeline.partitions, replication_factor=1, config=configs)
    admin_of(pipeline.bootstrap).create_topics([new], operation_timeout=20)[topic].result(timeout=20)
    write_back(pipeline, topic, ordered(records))


def test_the_command_tells_people_which_record_and_payload_only_when_asked(installation: Installation) -> None:
    settings, culprit, topic = damaged_copy(installation, DAMAGES["a changed byte in an output"])
    assert culprit.key is not None
    quiet = command(installation.pipeline, topic_enriched=topic)
    assert quiet.returncode == 1, quiet.stderr
    assert f"{topic}[{PARTITION}] offset" in quiet.stdout
    assert f"key {culprit.key.decode()!r}" in quiet.stdout
    assert "differs in  value /customer_session/first_session, value /customer_session/first_Session" in quiet.stdout
    assert '"cart_items"' not in quiet.stdout
    telling = command(installation.pipeline, "--show-payload", topic_enriched=settings.topic_enriched)
    assert telling.returncode == 1
    assert '"cart_items"' in telling.stdout


def test_input_that_is_partly_deleted_is_refused_with_partition_and_offsets(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.create_topics()
    pipeline.send(generate(sessions=100, seed=54))
    work_off(pipeline)
    target = TopicPartition(pipeline.names.updates, PARTITION, 10)
    for deleted in admin_of(pipeline.bootstrap).delete_records([target]).values():
        deleted.result(timeout=20)
    with pytest.raises(NotVerifiable, match=rf"updates\[{PARTITION}\].* records 0 to 9 .*no longer there") as refused:
        verify(pipeline.settings, capsys)
    assert refused.value.exit_code == 2
    assert "retention" in refused.value.remedy
