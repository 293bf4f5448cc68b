"""A TCP proxy in front of a broker's client listener: a network that fails on demand.

It knows just enough of Kafka's protocol (the length and the kind of each request) to fail in the middle of a
transaction. Runs an event loop in a thread of its own; all methods may be called from any other.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

Result = TypeVar("Result")

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 64 << 10
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing then sends RST and drops what was not sent."""

PRODUCE, FIND_COORDINATOR, ADD_PARTITIONS, ADD_OFFSETS, END_TRANSACTION, COMMIT_OFFSETS = 0, 10, 24, 25, 26, 28
"""Kinds of requests by their API key: what a transaction consists of."""


@dataclass(eq=False)
class _Link:
    """One client's connection and the one to the broker behind it."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    swallowing: bool = False
    cut_at_answer: bool = False


Pipe = asyncio.Queue[tuple[float, bytes]]
"""What is on its way: when it arrives, and the bytes."""


class Proxy:
    """Forwards a port of its own to a broker's, and does harm when told. `start`, then `close`."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port, self._target_port = port, target_port
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._delay_seconds = 0.0
        self._bytes_per_second = 0.0
        self._swallowing = False
        self._refusing = False
        self._cut_at: tuple[int, bool] | None = None
        self.cuts = 0
        """Connections that were reset so far."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        self._thread.start()
        self._in_loop(self._listen())

    def close(self) -> None:
        """Resets every connection and listens no more."""
        self.cut()
        self._in_loop(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ------------------------------------------------------------------ what a network does

    def heal(self) -> None:
        """Forwards again, at once and all. Connections that were half open stay dead, as after a NAT forgot them."""

        def heal() -> None:
            self._delay_seconds = self._bytes_per_second = 0.0
            self._swallowing = self._refusing = False
            self._cut_at = None

        self._at_once(heal)

    def cut(self) -> int:
        """Resets every connection (RST to both sides); returns how many there were."""
        return self._at_once(lambda: sum(self._reset(link) for link in list(self._links)))

    def refuse(self) -> None:
        """Until healed, resets every connection, also each new one."""

        def refuse() -> None:
            self._refusing = True
            for link in list(self._links):
                self._reset(link)

        self._at_once(refuse)

    def cut_at(self, kind: int, *, answered: bool) -> None:
        """Resets the connection at the next request of this kind: before the broker sees it, or, `answered`, when
        its answer is on the way, so that the client does not know what became of it."""

        def arm() -> None:
            self._cut_at = (kind, answered)

        self._at_once(arm)

    def delay(self, seconds: float) -> None:
        """Everything arrives so much later, in both directions."""

        def set_delay() -> None:
            self._delay_seconds = seconds

        self._at_once(set_delay)

    def throttle(self, bytes_per_second: float) -> None:
        """Each direction of each connection carries no more."""

        def set_rate() -> None:
            self._bytes_per_second = bytes_per_second

        self._at_once(set_rate)

    def swallow(self) -> None:
        """Half open: connections stay and new ones are accepted, but nothing that is sent ever arrives."""

        def swallow() -> None:
            self._swallowing = True
            for link in self._links:
                link.swallowing = True

        self._at_once(swallow)

    def is_armed(self) -> bool:
        """Whether `cut_at` still waits for its request."""
        return self._cut_at is not None

    @property
    def connections(self) -> int:
        """How many there are now."""
        return self._at_once(lambda: len(self._links))

    # ------------------------------------------------------------------ in the loop

    def _in_loop(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _at_once(self, change: Callable[[], Result]) -> Result:
        async def run() -> Result:
            return change()

        return self._in_loop(run())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link([writer], swallowing=self._swallowing)
        self._links.add(link)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self._refusing:
                await self._connect(link, reader, writer)
        finally:
            self._tasks.discard(task)
            self._reset(link)

    async def _connect(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until either side closes, or the link is cut."""
        with suppress(OSError):
            behind_reader, behind_writer = await asyncio.open_connection(HOST, self._target_port)
            link.writers.append(behind_writer)
            requests: Pipe = asyncio.Queue()
            answers: Pipe = asyncio.Queue()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._take_requests(link, reader, requests))
                    tasks.create_task(self._take_answers(link, behind_reader, answers))
                    tasks.create_task(self._deliver(link, requests, behind_writer))
                    tasks.create_task(self._deliver(link, answers, writer))
            except* (OSError, EOFError):
                pass

    async def _take_requests(self, link: _Link, reader: asyncio.StreamReader, pipe: Pipe) -> None:
        while True:
            size = await reader.readexactly(4)
            request = await reader.readexactly(int.from_bytes(size, "big"))
            kind = int.from_bytes(request[:2], "big")
            if self._cut_at == (kind, False):
                self._cut_at = None
                raise EOFError
            if self._cut_at == (kind, True):
                self._cut_at = None
                link.cut_at_answer = True
            pipe.put_nowait((self._loop.time() + self._delay_seconds, size + request))

    async def _take_answers(self, link: _Link, reader: asyncio.StreamReader, pipe: Pipe) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if link.cut_at_answer:
                raise EOFError
            pipe.put_nowait((self._loop.time() + self._delay_seconds, data))
        raise EOFError

    async def _deliver(self, link: _Link, pipe: Pipe, writer: asyncio.StreamWriter) -> None:
        """What is on its way waits in the pipe, so that a delay does not limit the rate."""
        while True:
            due, data = await pipe.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            for at in range(0, len(data), CHUNK_BYTES):
                chunk = data[at : at + CHUNK_BYTES]
                if self._bytes_per_second:
                    await asyncio.sleep(len(chunk) / self._bytes_per_second)
                if not link.swallowing:
                    writer.write(chunk)
                    await writer.drain()

    def _reset(self, link: _Link) -> int:
        if link not in self._links:
            return 0
        self._links.discard(link)
        self.cuts += 1
        for writer in link.writers:
            raw = writer.get_extra_info("socket")
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        return 1
