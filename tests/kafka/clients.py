"""Small clients for these tests: create a topic as somebody else would, send, read back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic


def unique(name: str) -> str:
    """A name no other test uses on the shared broker."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def create_topic(
    bootstrap_servers: str,
    name: str,
    *,
    partitions: int = 1,
    replication_factor: int = 1,
    configs: dict[str, str] | None = None,
) -> None:
    """Create one topic, past the worker's own declarations."""

    async def create() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        await admin.start()
        try:
            answer = await admin.create_topics([NewTopic(name, partitions, replication_factor, topic_configs=configs)])
            assert [code for _, code, _ in answer.topic_errors] == [0], answer
        finally:
            await admin.close()

    asyncio.run(create())


def send(bootstrap_servers: str, topic: str, values: Sequence[bytes]) -> None:
    """Send to partition 0 in one transaction, so that the coordinators are exercised too."""

    async def produce() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=unique("sender"))
        await producer.start()
        try:
            async with producer.transaction():
                for value in values:
                    await producer.send(topic, value, partition=0)
        finally:
            await producer.stop()

    asyncio.run(produce())


def read(bootstrap_servers: str, topic: str, count: int) -> list[bytes | None]:
    """Read `count` committed records from the start, as a member of a new group."""

    async def consume() -> list[bytes | None]:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap_servers,
            group_id=unique("reader"),
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        await consumer.start()
        try:
            async with asyncio.timeout(60):
                return [(await consumer.getone()).value for _ in range(count)]
        finally:
            await consumer.stop()

    return asyncio.run(consume())
