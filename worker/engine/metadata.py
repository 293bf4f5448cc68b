"""What the broker says of topics: their ids; of a changelog how long it keeps tombstones, where it begins and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest

from worker.engine.checkpoint import ChangelogPartition
from worker.kafka.patience import ANSWER_SECONDS
from worker.kafka.topic_metadata import TopicMetadata

_RETRY_SECONDS: Final = 0.1
_DELETE_RETENTION: Final = "delete.retention.ms"


async def describe_changelog(
    reader: AIOKafkaConsumer, topic: str, partitions: Iterable[int]
) -> dict[int, ChangelogPartition]:
    """The changelog's partitions as they are now. `reader` reads whatever is there, committed or not: its ends are
    behind a transaction that somebody left open, where those of a read_committed one are before it."""
    client: AIOKafkaClient = reader._client
    changelog_id = await topic_id(client, topic)
    delete_retention_ms = await _delete_retention_ms(client, topic)
    tps = [TopicPartition(topic, partition) for partition in partitions]
    begins, ends = await reader.beginning_offsets(tps), await reader.end_offsets(tps)
    return {tp.partition: ChangelogPartition(changelog_id, delete_retention_ms, begins[tp], ends[tp]) for tp in tps}


async def topic_id(client: AIOKafkaClient, topic: str) -> str:
    """The broker's own id of a topic, in hex: another one after it was deleted and created again."""
    while True:
        answer = await _of_any_broker(client, TopicMetadata([topic]))
        (described,) = answer.to_object()["topics"]
        if not described["error_code"]:
            return str(described["topic_id"].hex())
        error = for_code(described["error_code"])
        if not error.retriable:
            raise error(topic)
        await asyncio.sleep(_RETRY_SECONDS)  # a broker that does not know the topic yet, or no longer


async def _delete_retention_ms(client: AIOKafkaClient, topic: str) -> int:
    request = DescribeConfigsRequest([(ConfigResourceType.TOPIC, topic, [_DELETE_RETENTION])])
    (resource,) = (await _of_any_broker(client, request)).to_object()["resources"]
    if resource["error_code"]:
        raise for_code(resource["error_code"])(topic)
    return next(int(each["config_value"]) for each in resource["config_entries"])


async def _of_any_broker(client: AIOKafkaClient, request: object) -> Any:
    """The answer of a broker that answers: any of several may be down, or hang. A rebalance or the watchdog ends
    the wait."""
    while True:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await client.send(client.get_random_node(), request)
        except (NodeNotReadyError, KafkaConnectionError, RequestTimedOutError, TimeoutError):
            await asyncio.sleep(_RETRY_SECONDS)
