"""How far the worker's group is through its input, asked of the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from worker.kafka.connection import client_settings
from worker.settings import Settings


class InputLag:
    """Committed offsets of the group `app_id` against the ends of the updates topic.

    The ends of a topic that transactional producers write to lie behind commit markers, which nobody
    commits beyond: there the lag never reads 0. The player's producer is not transactional.
    """

    def __init__(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, settings: Settings) -> None:
        self._admin = admin
        self._consumer = consumer
        self._group = settings.app_id
        self._partitions = [TopicPartition(settings.topic_updates, number) for number in range(settings.partitions)]

    @classmethod
    @asynccontextmanager
    async def of(cls, settings: Settings) -> AsyncIterator[InputLag]:
        """Connected for as long as the context lasts."""
        admin = AIOKafkaAdminClient(**client_settings(settings))
        consumer = AIOKafkaConsumer(**client_settings(settings))
        try:
            await admin.start()
            await consumer.start()
            yield cls(admin, consumer, settings)
        finally:
            await consumer.stop()
            await admin.close()

    async def committed(self) -> int:
        """The sum of the committed offsets: on a topic that was new, the number of events processed."""
        offsets = await self._admin.list_consumer_group_offsets(self._group, partitions=self._partitions)
        return sum(max(0, int(offsets[partition].offset)) for partition in self._partitions if partition in offsets)

    async def remaining(self) -> int:
        """Events in the topic that are not processed yet."""
        ends = await self._consumer.end_offsets(self._partitions)
        return int(sum(ends.values())) - await self.committed()

    async def group_is_stable(self) -> bool:
        """Whether the group has members, all with their partitions assigned."""
        try:
            (answer,) = await self._admin.describe_consumer_groups([self._group])
        except KafkaError as error:
            # The group's coordinator is made when the first member asks for it.
            if not error.retriable:
                raise
            return False
        groups = answer.to_object()["groups"]
        return all(group["state"] == "Stable" and group["members"] for group in groups)
