"""What a broker says of itself before any authentication, asked over a plain blocking socket.

Two questions are not in aiokafka's reach: the features of ApiVersions v3 and later, and a blocking
"do you answer yet?" for the embedded broker. Everything else uses aiokafka.
"""

from __future__ import annotations

import io
import socket
import ssl
import struct
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.protocol.types import (
    Array,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

API_VERSIONS: Final = 18
METADATA: Final = 3
UNSUPPORTED_VERSION: Final = 35
CLIENT_ID: Final = "session-worker"
LARGEST_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""An answer claiming more is not from a Kafka broker (an HTTP server's "HTTP" reads as 1.2 GB)."""

# ApiVersions v3 is flexible (KIP-482); its fields: ApiVersionsResponse.json among Kafka's message definitions.
_VERSIONS_V0 = Schema(
    ("error_code", Int16), ("api_keys", Array(("key", Int16), ("min_version", Int16), ("max_version", Int16)))
)
_VERSIONS_V3 = Schema(
    ("error_code", Int16),
    (
        "api_keys",
        CompactArray(("key", Int16), ("min_version", Int16), ("max_version", Int16), ("tags", TaggedFields)),
    ),
    ("throttle_time_ms", Int32),
    ("tags", TaggedFields),
)
_FEATURES = CompactArray(("name", CompactString("utf-8")), ("first", Int16), ("second", Int16), ("tags", TaggedFields))
_SUPPORTED_FEATURES_TAG: Final = 0
_FINALIZED_FEATURES_TAG: Final = 2
_METADATA_V2 = Schema(
    (
        "brokers",
        Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8"))),
    ),
    ("cluster_id", String("utf-8")),
    ("controller_id", Int32),
)


@dataclass(frozen=True)
class BrokerApis:
    """Versions of each request the broker takes, by API key, and its features (empty before Kafka 2.4).

    `supported` is what the broker's software can do, `finalized` what the cluster has switched on.
    """

    max_versions: dict[int, int]
    supported: dict[str, int] = field(default_factory=dict)
    finalized: dict[str, int] = field(default_factory=dict)


class NotKafka(OSError):
    """Something answered, but not as a Kafka broker does."""


def ask_api_versions(address: tuple[str, int], tls: ssl.SSLContext | None, timeout_seconds: float) -> BrokerApis:
    """Ask one broker what it can do. Raises OSError (TimeoutError, ssl.SSLError, NotKafka, …) when it does not say."""
    name = CompactString("utf-8").encode
    answer = _ask(
        address, tls, timeout_seconds, API_VERSIONS, 3, flexible=True, body=name(CLIENT_ID) + name("0") + b"\0"
    )
    if struct.unpack(">h", answer[:2])[0] == UNSUPPORTED_VERSION:
        answer = _ask(address, tls, timeout_seconds, API_VERSIONS, 0, flexible=False, body=b"")
        _, keys = _decode(_VERSIONS_V0, answer)
        return BrokerApis({key: highest for key, _, highest in keys})
    _, keys, _, tags = _decode(_VERSIONS_V3, answer)
    return BrokerApis(
        {key: highest for key, _, highest, _ in keys},
        # A supported feature is (name, min, max), a finalized one (name, max, min).
        supported={name: highest for name, _, highest, _ in _features(tags, _SUPPORTED_FEATURES_TAG)},
        finalized={name: level for name, level, _, _ in _features(tags, _FINALIZED_FEATURES_TAG)},
    )


def ask_brokers(address: tuple[str, int], timeout_seconds: float) -> dict[int, tuple[str, int]]:
    """The live brokers by node id, as a PLAINTEXT broker sees them. Raises OSError when it does not answer."""
    answer = _ask(address, None, timeout_seconds, METADATA, 2, flexible=False, body=Int32.encode(0))
    # v2 starts without a throttle time; the topics that follow are none, because none were asked for.
    brokers, _cluster_id, controller_id = _decode(_METADATA_V2, answer)
    return {node: (host, port) for node, host, port, _ in brokers} if controller_id >= 0 else {}


def _features(tags: dict[int, bytes], tag: int) -> list[Any]:
    return _FEATURES.decode(io.BytesIO(tags[tag])) or [] if tag in tags else []


def _ask(
    address: tuple[str, int],
    tls: ssl.SSLContext | None,
    timeout_seconds: float,
    api_key: int,
    version: int,
    *,
    flexible: bool,
    body: bytes,
) -> bytes:
    """One request on a connection of its own; the answer's body. Answers to both requests have header v0."""
    header = struct.pack(">hhi", api_key, version, 1) + String("utf-8").encode(CLIENT_ID)
    request = header + (b"\0" if flexible else b"") + body
    with socket.create_connection(address, timeout=timeout_seconds) as plain:
        connection = tls.wrap_socket(plain, server_hostname=address[0]) if tls else plain
        with connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _read(connection, 4))
            if not 6 <= size <= LARGEST_ANSWER_BYTES:
                raise NotKafka(f"{address[0]}:{address[1]} does not answer as a Kafka broker")
            return _read(connection, size)[4:]


def _read(connection: socket.socket, size: int) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        chunk = connection.recv(size - len(chunks))
        if not chunk:
            raise NotKafka("the connection was closed before the answer was complete")
        chunks += chunk
    return bytes(chunks)


def _decode(schema: Schema, data: bytes) -> tuple[Any, ...]:
    try:
        fields: tuple[Any, ...] = schema.decode(io.BytesIO(data))
        return fields
    except (ValueError, struct.error, UnicodeDecodeError) as error:
        raise NotKafka(f"an answer that Kafka's protocol does not have: {error}") from error
