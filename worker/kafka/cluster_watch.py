"""What happens to the brokers and the topics while a worker runs, said by name.

The Kafka clients retry by themselves, each for itself, and say so in their own words or not at all. So this asks
every broker every two seconds, on connections of its own: one that does not answer is `broker_away`, once, and
`broker_back` when it does; partitions that nobody leads are `partitions_offline`, then `partitions_online`. What no
retry can heal ends the worker: a topic that was deleted, or deleted and created again, or got more partitions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from worker.errors import TopicsError, WorkerError
from worker.kafka.connection import client_settings
from worker.kafka.patience import ANSWER_SECONDS
from worker.kafka.topic_metadata import TopicMetadata
from worker.settings import Settings, env_name

logger = structlog.get_logger(__name__)

ROUND_SECONDS: Final = 2.0
REMIND_SECONDS: Final = 60.0
"""While no broker answers at all it is said again: the rest of the log is silent then."""
SURE_AFTER_ROUNDS: Final = 3
"""A broker that has just started may tell what it knew before, and a new leader takes a moment to be elected."""

Topics = Sequence[Mapping[str, Any]]


class ClusterWatch:
    """Watches the brokers of the settings, and the topics their worker uses."""

    def __init__(self, settings: Settings, end: Callable[[WorkerError], object]) -> None:
        """`end` is called with a TopicsError when the worker must not go on."""
        self._settings = settings
        self._names = sorted(settings.topic_names().values())
        self._end = end
        self._addresses: dict[int, str] = {}
        self._silent_since: dict[int, float] = {}
        self._told_at: dict[int, float] = {}
        self._topic_ids: dict[str, bytes] = {}
        self._rounds_of: dict[str, int] = {}
        self._offline_told: list[str] = []
        self.rounds = 0
        """How often it has asked."""

    @property
    def away_seconds(self) -> float:
        """How long no broker at all has answered; 0 while one does."""
        # A copy at once: the watchdog asks from a thread of its own.
        silent_since = list(self._silent_since.values())
        if not silent_since or len(silent_since) < len(self._addresses):
            return 0.0
        return time.monotonic() - max(silent_since)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watches while the block runs."""
        task = asyncio.create_task(self._watch(), name="cluster-watch")
        task.add_done_callback(_tell_failure)
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        client = AIOKafkaClient(
            **client_settings(self._settings),
            client_id=f"{self._settings.app_id}-watch",
            request_timeout_ms=int(ANSWER_SECONDS * 1000),
        )
        client.set_topics(self._names)  # else it asks for all there are
        try:
            while not self._addresses:
                try:
                    await client.bootstrap()
                except KafkaError:
                    await asyncio.sleep(ROUND_SECONDS)
                self._learn_addresses(client)
            while True:
                started = time.monotonic()
                await self._round(client)
                self.rounds += 1
                await asyncio.sleep(max(0.0, started + ROUND_SECONDS - time.monotonic()))
        finally:
            await client.close()

    def _learn_addresses(self, client: AIOKafkaClient) -> None:
        # None is ever forgotten: the clients forget those that are down, which are the ones to tell of.
        self._addresses |= {broker.nodeId: f"{broker.host}:{broker.port}" for broker in client.cluster.brokers()}

    async def _round(self, client: AIOKafkaClient) -> None:
        self._learn_addresses(client)
        asked_at = time.monotonic()
        answers = dict(
            zip(
                self._addresses,
                await asyncio.gather(*(self._ask(client, node) for node in self._addresses)),
                strict=True,
            )
        )
        answering = [answer for answer in answers.values() if answer is not None]
        for node, answer in answers.items():
            if answer is None:
                self._note_silence(node, asked_at, len(answering))
            else:
                self._note_answer(node)
        if answering:
            self._note_topics([answer["topics"] for answer in answering])

    async def _ask(self, client: AIOKafkaClient, node: int) -> Mapping[str, Any] | None:
        try:
            answer = await client.send(node, TopicMetadata(self._names))
        except (KafkaError, TimeoutError):
            return None
        told: Mapping[str, Any] = answer.to_object()
        return told

    # -- Brokers

    def _note_answer(self, node: int) -> None:
        since = self._silent_since.pop(node, 0.0)
        if self._told_at.pop(node, None) is not None:
            seconds = round(time.monotonic() - since, 1)
            logger.warning("broker_back", broker=self._addresses[node], away_seconds=seconds)

    def _note_silence(self, node: int, asked_at: float, answering: int) -> None:
        now = time.monotonic()
        since = self._silent_since.setdefault(node, asked_at)
        if now - since < ANSWER_SECONDS:
            return
        told_at = self._told_at.get(node)
        if told_at is not None and (answering or now - told_at < REMIND_SECONDS):
            return
        self._told_at[node] = now
        logger.warning(
            "broker_away",
            broker=self._addresses[node],
            silent_seconds=round(now - since, 1),
            brokers_answering=answering,
        )

    # -- Topics

    def _note_topics(self, told: Sequence[Topics]) -> None:
        """`told`: what each answering broker says. Only what all of them say, and go on saying, counts."""
        by_broker = [{text: error for topic in topics for text, error in self._faults(topic)} for topics in told]
        agreed = by_broker[0].keys() & set.intersection(*(set(faults) for faults in by_broker))
        self._rounds_of = {text: self._rounds_of.get(text, 0) + 1 for text in agreed}
        sure = sorted(text for text, rounds in self._rounds_of.items() if rounds >= SURE_AFTER_ROUNDS)
        for text in sure:
            error = by_broker[0][text]
            if error is not None:
                self._end(error)
        offline = [text for text in sure if by_broker[0][text] is None]
        if offline and offline != self._offline_told:
            logger.warning("partitions_offline", partitions=offline)
        elif self._offline_told and not offline and not self._rounds_of:
            logger.warning("partitions_online", partitions=self._offline_told)
        elif self._rounds_of:
            return
        self._offline_told = offline

    def _faults(self, topic: Mapping[str, Any]) -> list[tuple[str, TopicsError | None]]:
        """What is wrong with a topic as one broker tells it, with the error that ends the worker, if it does."""
        name = topic["name"]
        if topic["error_code"] == UnknownTopicOrPartitionError.errno:
            return [(f"{name} is gone", self._gone(name))]
        if topic["error_code"]:
            return []  # such as a right that is missing: who needs it will say
        known = self._topic_ids.setdefault(name, topic["topic_id"])
        if known != topic["topic_id"]:
            return [(f"{name} is another", self._another(name))]
        count = len(topic["partitions"])
        if count != self._settings.partitions:
            return [(f"{name} has {count}", self._partitions_changed(name, count))]
        return [(f"{name}[{each['partition']}]", None) for each in topic["partitions"] if each["leader"] < 0]

    def _gone(self, name: str) -> TopicsError:
        return TopicsError(
            f"topic {name} was deleted while the worker was running",
            f"{self._restored(name)} Nothing was acknowledged that was not committed.",
        )

    def _another(self, name: str) -> TopicsError:
        return TopicsError(
            f"topic {name} was deleted and created again while the worker was running", self._restored(name)
        )

    def _restored(self, name: str) -> str:
        if name == self._settings.topic_updates:
            return (
                "the state belongs to the input that is gone. To begin with a new one, start a new state: another "
                f"{env_name('app_id')} and new output topics. Restored with the same records at the same offsets, it "
                f"is accepted by its id, which the next start says, in {env_name('accepted_topic_ids')}."
            )
        if name in (
            self._settings.topic_changelog,
            self._settings.topic_profiles_changelog,
            self._settings.topic_claims,
            self._settings.topic_answers,
        ):
            return (
                "what is stored, or on its way between sessions and profiles, was in it. Restore the topic from a "
                f"backup; or start a new state: another {env_name('app_id')} and new output topics."
            )
        return "what it held is gone. `python -m worker topics create` makes an empty one; then start the worker again."

    def _partitions_changed(self, name: str, count: int) -> TopicsError:
        return TopicsError(
            f"topic {name} has {count} partitions, it was started with {self._settings.partitions}: sessions whose "
            "keys now hash to other partitions would begin anew there",
            "partitions of a topic that has data are never changed in place. Move to new topics and another "
            f"{env_name('app_id')}, with {env_name('partitions')} as wanted; the records in the added partitions are "
            "not processed.",
        )


def _tell_failure(task: asyncio.Task[None]) -> None:
    """Without the watch the worker works as well, and only says less: no reason to end it."""
    if not task.cancelled() and task.exception() is not None:
        logger.error("cluster_watch_ended", exc_info=task.exception())
