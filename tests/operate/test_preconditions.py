"""What is asked before a start: given up for a stop, told when it fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from worker.errors import BrokerUnreachable
from worker.operate import preconditions
from worker.settings import Settings


@pytest.fixture
def silent() -> Iterator[Settings]:
    """A broker that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Settings(bootstrap_servers=f"127.0.0.1:{server.getsockname()[1]}")


def test_a_stop_is_heard_while_a_broker_hangs(silent: Settings) -> None:
    async def stopped_meanwhile() -> object:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, stop.set)
        return await preconditions.require(silent, stop)

    assert asyncio.run(stopped_meanwhile()) is None


def test_a_broker_that_hangs_is_unreachable(silent: Settings) -> None:
    with pytest.raises(BrokerUnreachable):
        asyncio.run(preconditions.require(silent, asyncio.Event()))
