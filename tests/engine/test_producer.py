"""A partition's producer beside what aiokafka's gives up at: a broker that does not know itself, one that is gone while
it is asked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka.protocol import metadata

from tests.broker.pipeline import Pipeline
from tests.chaos.proxy import FIND_COORDINATOR, HOST, Proxy
from worker.app import engine_config
from worker.engine.producer import TransactionalProducer
from worker.engine.state_dir import StateDirectory
from worker.kafka.embedded import EmbeddedKafka
from worker.kafka.handshake import METADATA
from worker.kafka.node import free_ports

FORGETS = 3


class Forgetful:
    """A way to a broker on which it names no brokers, not even itself, in its first answers about the cluster.

    Only what is asked through here is changed: who has been told of a broker goes there directly."""

    def __init__(self, target: str, *, drops: bool) -> None:
        """drops: the connection ends after each such answer."""
        self._host, port = target.split(":")
        self._port = int(port)
        self._drops = drops
        self.forgot = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection(self._host, self._port)
        with suppress(EOFError, OSError):
            while True:
                request = await _frame(reader)
                broker_writer.write(len(request).to_bytes(4, "big") + request)
                answer = await _frame(broker_reader)
                forgets = int.from_bytes(request[:2], "big") == METADATA and self.forgot < FORGETS
                if forgets:
                    self.forgot += 1
                    answer = _without_brokers(answer, version=int.from_bytes(request[2:4], "big"))
                writer.write(len(answer).to_bytes(4, "big") + answer)
                await writer.drain()
                if forgets and self._drops:
                    break
        for each in (writer, broker_writer):
            each.close()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


def _without_brokers(answer: bytes, version: int) -> bytes:
    kind: Any = getattr(metadata, f"MetadataResponse_v{version}")
    told = kind.decode(answer[4:])
    fields = {name: getattr(told, name) for name in kind.SCHEMA.names} | {"brokers": []}
    return answer[:4] + bytes(kind(**fields).encode())


def producer_of(pipeline: Pipeline, directory: Path, servers: str) -> TransactionalProducer:
    settings = pipeline.settings.model_copy(update={"bootstrap_servers": servers})
    state = StateDirectory.open(directory / "state", app_id="any", cluster_id="any", instance_id=None)
    return TransactionalProducer(engine_config(settings, state), 0)


@pytest.mark.parametrize("drops", [False, True], ids=["it-stays", "its-connection-ends"])
def test_it_waits_until_a_broker_is_known(pipeline: Pipeline, tmp_path: Path, *, drops: bool) -> None:
    pipeline.create_topics()
    way = Forgetful(pipeline.bootstrap, drops=drops)

    async def opened() -> None:
        server = await asyncio.start_server(way.serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        producer = producer_of(pipeline, tmp_path, f"{host}:{port}")
        await producer.open()
        await producer.begin()
        await producer.commit({pipeline.names.updates: 0})
        await producer.close()
        server.close()

    asyncio.run(opened())
    assert way.forgot == FORGETS
    pipeline.wait_until(lambda: pipeline.committed() == {0: 0}, "the offset is committed")


@pytest.mark.broker
def test_it_asks_again_when_the_connection_ends_while_it_asks_who_coordinates(tmp_path: Path) -> None:
    port, behind = free_ports(2)
    with EmbeddedKafka(port=behind, advertised_port=port) as kafka, Proxy(port, behind) as proxy:
        pipeline = Pipeline(kafka.internal_servers, "cut", tmp_path)
        pipeline.create_topics()

        async def worked() -> None:
            producer = producer_of(pipeline, tmp_path, f"{HOST}:{port}")
            proxy.cut_at(FIND_COORDINATOR, answered=True)  # of its transactions
            await producer.open()
            assert not proxy.is_armed()
            proxy.cut_at(FIND_COORDINATOR, answered=True)  # of the group, for the first offsets it commits
            await producer.begin()
            await producer.commit({pipeline.names.updates: 0})
            await producer.close()

        asyncio.run(worked())
        assert not proxy.is_armed()
        pipeline.wait_until(lambda: pipeline.committed() == {0: 0}, "the offset is committed")
