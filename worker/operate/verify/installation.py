"""All partitions verified, one after another, and their differences told."""

from __future__ import annotations

from typing import Final

from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from worker.agents.sessions import SessionsConfig
from worker.errors import BrokerUnreachable, NotVerifiable
from worker.kafka import connection, rights, topics
from worker.operate.verify.describe import describe
from worker.operate.verify.fold import Fold
from worker.operate.verify.partition import RETENTION_REMEDY, NoteProgress, PartitionVerification, TopicNames
from worker.operate.verify.reading import Reader
from worker.operate.verify.recall import Recalls, recall
from worker.operate.verify.report import PartitionResult, Report, TopicResult
from worker.settings import Settings

HOLDS: Final = ("enriched sessions", "dead letters", "ledger records", "changelog records")


async def run(settings: Settings, config: SessionsConfig, *, show_payload: bool, note_progress: NoteProgress) -> Report:
    """Verify the installation of the settings. `config` is what its workers run with.

    Holds the sessions of one partition at a time in memory, twice (folded, and read from the changelog), and some
    20 bytes for each output. Raises AccessDenied, TopicsError, NotVerifiable and BrokerUnreachable.
    """
    await connection.probe(settings)
    await rights.require(settings, rights.of_verify(settings))
    (await topics.check(settings)).require_usable()
    names = TopicNames(
        settings.topic_updates,
        settings.topic_answers,
        settings.topic_enriched,
        settings.topic_dead_letters,
        settings.topic_ledger,
        settings.topic_changelog,
    )
    results = {topic: TopicResult(topic, holds) for topic, holds in zip(names.written, HOLDS, strict=True)}
    report = Report(settings.topic_updates, results)
    try:
        async with Reader.open(settings, names) as reader:
            for partition in range(settings.partitions):
                verification = PartitionVerification(reader, names, config, partition, note_progress)
                await verification.run()
                recalls = await _recall(reader, names, config, verification)
                _add(report, names, verification, recalls, show_payload=show_payload)
    except OffsetOutOfRangeError as error:
        raise NotVerifiable(f"records were deleted while they were read: {error}", RETENTION_REMEDY) from error
    except KafkaError as error:
        raise BrokerUnreachable(
            f"reading from Kafka failed: {error}",
            "verify again; `python -m worker check` tells whether broker, login and topics are fine",
        ) from error
    return report


async def _recall(
    reader: Reader, names: TopicNames, config: SessionsConfig, verification: PartitionVerification
) -> Recalls:
    """What was expected, of the records that are told and of which only digests are known."""

    def wanted(topic: str) -> set[int]:
        return {suspect.recall for suspect in verification.findings[topic].suspects if suspect.recall is not None}

    outputs, letters = wanted(names.enriched), wanted(names.dead_letters)
    if not outputs and not letters:
        return Recalls({}, {})
    partition = verification.partition
    begin = await reader.beginning(names.answers, partition)
    end = await reader.decided_end(names.answers, partition)
    asked = (names.updates, verification.first_offset, verification.next_offset)
    source, answers = reader.open_logs(partition, asked, (names.answers, begin, end))
    fold = Fold(config, names.updates, partition)
    return await recall(source, answers, verification.transactions, fold, config, outputs, letters)


def _add(
    report: Report, names: TopicNames, verification: PartitionVerification, recalls: Recalls, *, show_payload: bool
) -> None:
    """One partition's result, added to that of all."""
    partition = verification.partition
    placed = []
    for topic, findings in verification.findings.items():
        result = report.topics[topic]
        result.compared += findings.compared
        result.differences += findings.differences
        result.left_out.update(findings.left_out)
        known = {names.enriched: recalls.outputs, names.dead_letters: recalls.letters}.get(topic, {})
        for suspect in findings.suspects:
            recalled = None if suspect.recall is None else known.get(suspect.recall)
            is_public = show_payload or topic == names.ledger
            difference = describe(topic, partition, suspect, recalled, show_payload=is_public)
            source = suspect.source_offset if recalled is None else recalled.source_offset
            placed.append((source is None, source or 0, difference))
    placed.sort(key=lambda one: one[:2])
    report.differences += [difference for _, _, difference in placed]
    report.outcomes.update(verification.outcomes)
    report.reasons.update(verification.reasons)
    report.written_by.update(verification.written_by)
    report.partitions.append(
        PartitionResult(partition, verification.first_offset, verification.next_offset, verification.outcomes.total())
    )
