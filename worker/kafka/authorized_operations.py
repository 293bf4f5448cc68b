"""Asking a broker what the asking user may do (KIP-430), in the two requests that aiokafka has not, or not right.

It speaks Metadata up to version 5, and reads the answer to DescribeGroups 3 as one of version 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final

from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    for_code,
)
from aiokafka.protocol.admin import DescribeConfigsRequest, DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

POLL_SECONDS: Final = 0.1
COORDINATOR_SECONDS: Final = 5.0
"""The first question about a group makes a new cluster create the topic of its coordinators, which takes a second."""
BITS: Final = {"READ": 3, "WRITE": 4, "DESCRIBE": 8, "DESCRIBE_CONFIGS": 10}
"""Kafka's numbers of the operations (AclOperation), which are also their bits in an answer."""
NOT_TOLD: Final = -(2**31)


def contains(operations: int, operation: str) -> bool:
    """Whether the bits say so; what they do not tell (all of it, or CREATE) is taken for allowed."""
    if operations == NOT_TOLD or operation not in BITS:
        return True
    return bool(operations >> BITS[operation] & 1)


async def topic_operations(client: AIOKafkaClient, names: Collection[str]) -> dict[str, int]:
    """Bits of what is allowed, by topic; NOT_TOLD when there is no such topic."""
    if not names:
        return {}
    answer = await _retried(lambda: client.send(client.get_random_node(), _Metadata(sorted(names))))
    operations = {}
    for topic in answer.to_object()["topics"]:
        name, code = topic["topic"], topic["error_code"]
        if code == TopicAuthorizationFailedError.errno:
            # Who may not see a topic may still read its configuration.
            operations[name] = await _may_describe_configs(client, name) << BITS["DESCRIBE_CONFIGS"]
        else:
            operations[name] = NOT_TOLD if code else topic["authorized_operations"]
    return operations


async def group_operations(client: AIOKafkaClient, group: str) -> int:
    """Bits of what is allowed; NOT_TOLD when the group's coordinator does not answer."""

    async def ask() -> Any:
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        (described,) = (await client.send(node, _DescribeGroups(group))).to_object()["groups"]
        if described["error_code"]:
            raise for_code(described["error_code"])
        return described["authorized_operations"]

    try:
        async with asyncio.timeout(COORDINATOR_SECONDS):
            return int(await _retried(ask))
    except GroupAuthorizationFailedError:
        return 0
    except TimeoutError:
        return NOT_TOLD


async def may_see_transactional_ids(client: AIOKafkaClient, ids: Iterable[str]) -> bool:
    """Whether DESCRIBE is allowed on all of them, as it is with WRITE."""

    async def ask(transactional_id: str) -> bool:
        try:
            await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
        except TransactionalIdAuthorizationFailed:
            return False
        except KafkaError as error:
            # The coordinators may not be there yet; the broker looks at the rights before it says so.
            if not error.retriable:
                raise
        return True

    return all(await asyncio.gather(*map(ask, ids)))


async def _may_describe_configs(client: AIOKafkaClient, topic: str) -> bool:
    asked = DescribeConfigsRequest([(ConfigResourceType.TOPIC, topic, [])])
    answer = await _retried(lambda: client.send(client.get_random_node(), asked))
    (resource,) = answer.to_object()["resources"]
    return bool(resource["error_code"] != TopicAuthorizationFailedError.errno)


async def _retried(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The answer, from another broker where one does not answer. Without end: give it a time limit."""
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable:
                raise
        await asyncio.sleep(POLL_SECONDS)


class _MetadataResponseV8(Response):
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", String()), ("port", Int32), ("rack", String()))),
        ("cluster_id", String()),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String()),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _MetadataRequestV8(RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponseV8
    SCHEMA = Schema(
        ("topics", Array(String())),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _Metadata(Request[_MetadataRequestV8]):
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequestV8]) -> Any:
        return request_struct_class(self._topics, False, False, True)


class _DescribeGroupsRequestV3(RequestStruct):
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = DescribeGroupsRequest_v3.SCHEMA


class _DescribeGroups(Request[_DescribeGroupsRequestV3]):
    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_DescribeGroupsRequestV3]) -> Any:
        return request_struct_class([self._group], True)
