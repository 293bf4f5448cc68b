"""What a user must be allowed to do on a Kafka with ACLs, by command, and which of it is missing.

The broker itself is asked, before any work begins: it tells with a topic and with a group what the asking user
may do there. So all that is missing is named at once, instead of one refusal after another from deep inside a
client. Of transactional ids it tells only whether they may be seen; the rest shows when the first producer opens.
Without an authorizer everything is allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from worker.errors import AccessDenied, BrokerUnreachable
from worker.kafka.authorized_operations import (
    contains,
    group_operations,
    may_see_transactional_ids,
    topic_operations,
)
from worker.kafka.connection import client_settings
from worker.kafka.patience import ANSWER_SECONDS as ONE_ANSWER_SECONDS
from worker.settings import Settings, env_name

ANSWER_SECONDS: Final = 20.0
"""For all answers together: twice as long as a cluster counts on a broker that hangs."""


class Resource(StrEnum):
    """What a right is about, in Kafka's words."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional id"


class Right(NamedTuple):
    """One ACL: `operation` allowed on a resource, or with `prefixed` on all whose names begin so."""

    operation: str
    resource: Resource
    name: str
    prefixed: bool = False

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}{'*' if self.prefixed else ''}"


def of_worker(settings: Settings) -> list[Right]:
    """All that `run` needs, and `check` with it. READ and WRITE each contain DESCRIBE."""
    return [
        _topic("READ", settings.topic_updates),
        _topic("WRITE", settings.topic_enriched),
        _topic("WRITE", settings.topic_dead_letters),
        _topic("WRITE", settings.topic_ledger),
        *(
            _topic(operation, name)
            for name in (
                settings.topic_changelog,
                settings.topic_profiles_changelog,
                settings.topic_claims,
                settings.topic_answers,
            )
            for operation in ("READ", "WRITE")
        ),
        *(_topic("DESCRIBE_CONFIGS", name) for name in settings.topic_names().values()),
        Right("READ", Resource.GROUP, settings.app_id),
        Right("WRITE", Resource.TRANSACTIONAL_ID, f"{settings.app_id}-{settings.topic_updates}-", prefixed=True),
    ]


def of_topics_create(settings: Settings) -> list[Right]:
    """All that `topics create` needs."""
    return [_topic("CREATE", name) for name in settings.topic_names().values()] + of_topics_check(settings)


def of_topics_check(settings: Settings) -> list[Right]:
    """All that `topics check` needs."""
    names = settings.topic_names().values()
    return [_topic(operation, name) for name in names for operation in ("DESCRIBE", "DESCRIBE_CONFIGS")]


def of_verify(settings: Settings) -> list[Right]:
    """All that `verify` needs: it reads without a group."""
    names = settings.topic_names().values()
    return [_topic(operation, name) for name in names for operation in ("READ", "DESCRIBE_CONFIGS")]


def of_load(settings: Settings) -> list[Right]:
    """All that `load` and `replay-retail` need, as any producer of updates."""
    return [_topic("WRITE", settings.topic_updates)]


async def require(settings: Settings, rights: Sequence[Right]) -> None:
    """Raises AccessDenied naming every right that is missing, as far as the broker tells: of topics that are not
    there it does not, so ask for those first. Raises BrokerUnreachable when it does not answer."""
    lacking = await missing(settings, rights)
    if lacking:
        raise AccessDenied(
            f"this user{_called(settings)} lacks rights on the broker: {', '.join(map(str, lacking))}",
            "have the broker's administrator add an ACL for each; the README lists what every command needs.",
        )


async def missing(settings: Settings, rights: Sequence[Right]) -> list[Right]:
    """Those of `rights` that the broker says this user has not, in their order."""
    names = {right.name for right in rights if right.resource is Resource.TOPIC}
    try:
        async with asyncio.timeout(ANSWER_SECONDS), _client(settings) as client:
            topics = await topic_operations(client, names)

            async def allowed(right: Right) -> bool:
                match right.resource:
                    case Resource.TOPIC:
                        return contains(topics[right.name], right.operation)
                    case Resource.GROUP:
                        return contains(await group_operations(client, right.name), right.operation)
                    case Resource.TRANSACTIONAL_ID:
                        ids = (f"{right.name}{partition}" for partition in range(settings.partitions))
                        return await may_see_transactional_ids(client, ids)

            return [right for right in rights if not await allowed(right)]
    except (KafkaError, TimeoutError) as error:
        raise BrokerUnreachable(
            f"the broker at {settings.bootstrap_servers} does not tell what this user may do: "
            f"{type(error).__name__} {error}".rstrip(),
            "try again; if it repeats, look at the brokers' logs.",
        ) from error


def _topic(operation: str, name: str) -> Right:
    return Right(operation, Resource.TOPIC, name)


def _called(settings: Settings) -> str:
    return f" ({env_name('sasl_username')}={settings.sasl_username})" if settings.sasl_username else ""


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(**client_settings(settings), request_timeout_ms=int(ONE_ANSWER_SECONDS * 1000))
    try:
        await client.bootstrap()
        yield client
    finally:
        await client.close()
