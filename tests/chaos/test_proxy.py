"""The proxy does the harm it is told to do, and no other."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.chaos.proxy import END_TRANSACTION, HOST, PRODUCE, Proxy
from worker.kafka.node import free_ports

PATIENCE_SECONDS = 10.0


class Broker(socketserver.ThreadingTCPServer):
    """Answers each request with itself, and keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        self.received: list[bytes] = []
        super().__init__((HOST, 0), Echo)


class Echo(socketserver.StreamRequestHandler):
    server: Broker

    def handle(self) -> None:
        try:
            while size := self.rfile.read(4):
                body = self.rfile.read(struct.unpack(">i", size)[0])
                self.server.received.append(body)
                self.wfile.write(size + body)
        except OSError:
            pass  # the proxy reset the connection, which is what is tested


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as broker:
        threading.Thread(target=broker.serve_forever, daemon=True).start()
        yield broker
        broker.shutdown()


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    with Proxy(free_ports(1)[0], broker.server_address[1]) as proxy:
        yield proxy


@contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, proxy.port), PATIENCE_SECONDS) as client:
        yield client


def request(kind: int, payload: bytes = b"") -> bytes:
    body = struct.pack(">hhi", kind, 0, 1) + payload
    return struct.pack(">i", len(body)) + body


def ask(client: socket.socket, kind: int, payload: bytes = b"") -> bytes:
    """The answer; ConnectionResetError when the proxy cuts, TimeoutError when it swallows."""
    asked = request(kind, payload)
    client.sendall(asked)
    answer = b""
    while len(answer) < len(asked):
        piece = client.recv(1 << 20)
        if not piece:
            raise EOFError
        answer += piece
    assert answer == asked
    return answer


def test_it_forwards_requests_and_answers_of_any_size(proxy: Proxy) -> None:
    with connected(proxy) as client:
        for size in (0, 1, 70_000, 3_000_000):
            ask(client, PRODUCE, bytes(size))


def test_a_cut_resets_every_connection_and_the_next_one_works(proxy: Proxy) -> None:
    with connected(proxy) as one, connected(proxy) as other:
        ask(one, PRODUCE)
        ask(other, PRODUCE)
        assert proxy.connections == 2
        assert proxy.cut() == 2
        for client in (one, other):
            with pytest.raises(ConnectionResetError):
                ask(client, PRODUCE)
    with connected(proxy) as again:
        ask(again, PRODUCE)


def test_refused_connections_are_reset_until_healed(proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises((ConnectionResetError, EOFError)), connected(proxy) as client:
        ask(client, PRODUCE)
    proxy.heal()
    with connected(proxy) as client:
        ask(client, PRODUCE)


def test_a_half_open_connection_stays_silent_even_when_the_network_is_healed(proxy: Proxy, broker: Broker) -> None:
    with connected(proxy) as client:
        ask(client, PRODUCE)
        proxy.swallow()
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ask(client, PRODUCE)
        assert len(broker.received) == 1
        proxy.heal()
        with pytest.raises(TimeoutError):
            ask(client, PRODUCE)
    with connected(proxy) as fresh:
        ask(fresh, PRODUCE)


@pytest.mark.parametrize("answered", [False, True])
def test_a_cut_at_a_kind_of_request_comes_before_the_broker_or_before_the_answer(
    proxy: Proxy, broker: Broker, answered: bool
) -> None:
    with connected(proxy) as client:
        ask(client, PRODUCE)
        proxy.cut_at(END_TRANSACTION, answered=answered)
        ask(client, PRODUCE)
        assert proxy.is_armed()
        with pytest.raises((ConnectionResetError, EOFError)):
            ask(client, END_TRANSACTION)
    assert not proxy.is_armed()
    assert len(broker.received) == 2 + answered
    with connected(proxy) as client:
        ask(client, END_TRANSACTION)


@pytest.mark.parametrize("harm", ["delay", "throttle"])
def test_a_slow_network_brings_everything_late_and_whole(proxy: Proxy, harm: str) -> None:
    with connected(proxy) as client:
        if harm == "delay":
            proxy.delay(0.1)
        else:
            proxy.throttle(1_000_000)
        began = time.monotonic()
        ask(client, PRODUCE, bytes(100_000))
        assert time.monotonic() - began >= 0.2, "a lower bound: both directions take 0.1 s"
