"""What a worker asks of the brokers before it starts, and a supervisor before its children do."""

from __future__ import annotations

import asyncio

from worker.kafka import connection, rights, topics
from worker.kafka.connection import BrokerFacts
from worker.settings import Settings


async def require(settings: Settings, stop: asyncio.Event) -> BrokerFacts | None:
    """The brokers, reached and found fit; None when `stop` came first: a broker that hangs takes half a minute.

    Raises WorkerError for what keeps a worker from working: the brokers, a right, the topics.
    """
    asking = asyncio.create_task(_ask(settings), name="preconditions")
    stopping = asyncio.create_task(stop.wait(), name="stop-signal")
    try:
        await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await asking if asking.done() else None
    finally:
        asking.cancel()
        stopping.cancel()


async def _ask(settings: Settings) -> BrokerFacts:
    broker = await connection.probe(settings)
    await rights.require(settings, rights.of_worker(settings))
    (await topics.check(settings)).require_usable()
    return broker
