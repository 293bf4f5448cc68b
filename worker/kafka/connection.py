"""How to reach the brokers of the settings, and what they turn out to be."""

from __future__ import annotations

import asyncio
import logging
import queue
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from worker.errors import BrokerUnreachable, BrokerUnsuitable, SettingsError
from worker.kafka.handshake import BrokerApis, ask_api_versions
from worker.kafka.patience import ANSWER_SECONDS
from worker.settings import Settings, env_name

T = TypeVar("T")

LOGIN_SECONDS: Final = 5.0

INIT_PRODUCER_ID: Final = 22
END_TXN: Final = 26
END_TXN_OF_KAFKA_4: Final = 5
"""EndTxn version 5 came with KIP-890's second part, in 4.0.0: a 3.9.1 broker offers 4, 4.0.0 to 4.4.0 offer 5 (asked of
each). It is what the software can do: whatever features an operator has finalized, it does not change."""
# Highest `metadata.version` that a release's software supports, as asked of real brokers of each release.
RELEASE_BY_METADATA_VERSION: Final = (
    (19, "3.7"),
    (20, "3.8"),
    (21, "3.9"),
    (25, "4.0"),
    (27, "4.1"),
    (29, "4.2"),
    (30, "4.3"),
    (33, "4.4"),
)


@dataclass(frozen=True)
class Verdict:
    """What a broker's list of APIs says about exactly-once."""

    release: str
    """For people, such as "4.4", "3.6 or older", "newer than 4.4"."""
    transactions: bool
    at_least_kafka_4: bool


@dataclass(frozen=True)
class BrokerFacts:
    """A cluster that answered and let us in."""

    cluster_id: str | None
    brokers: dict[int, str]
    """node id -> host:port, as advertised."""
    release: str
    warnings: tuple[str, ...]


def judge(apis: BrokerApis) -> Verdict:
    """Judge a broker by what it offers, never by a version it claims: Kafka's protocol has no such field."""
    level = apis.supported.get("metadata.version", 0)
    at_least_kafka_4 = apis.max_versions.get(END_TXN, -1) >= END_TXN_OF_KAFKA_4
    if level:
        release = next((name for highest, name in RELEASE_BY_METADATA_VERSION if level <= highest), "newer than 4.4")
        if release == "3.7" and level < 19:
            release = "3.6 or older"
    else:
        # Brokers on ZooKeeper, and other implementations of the protocol, do not say.
        release = "4.0 or newer" if at_least_kafka_4 else "older than 4.0"
    return Verdict(release, {INIT_PRODUCER_ID, END_TXN} <= apis.max_versions.keys(), at_least_kafka_4)


def client_settings(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for AIOKafkaConsumer, AIOKafkaProducer and AIOKafkaAdminClient.

    They hold the password in plain text: never log them. Raises SettingsError naming the setting whose
    file is missing or unusable.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "security_protocol": settings.security_protocol,
        "ssl_context": _tls(settings),
    }
    if settings.security_protocol.startswith("SASL"):
        assert settings.sasl_password is not None  # the settings are refused without it
        arguments |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    return arguments


async def probe(settings: Settings) -> BrokerFacts:
    """Reach the cluster and learn what it is, within about 8 s at worst and 3 s when nothing answers.

    Raises BrokerUnreachable (no answer, no login, or the advertised addresses do not answer) and
    BrokerUnsuitable (no transactions).
    """
    arguments = client_settings(settings)
    apis = await asyncio.to_thread(_first_answer, settings, arguments["ssl_context"])
    verdict = judge(apis)
    if not verdict.transactions:
        raise BrokerUnsuitable(
            f"the broker at {settings.bootstrap_servers} has no transactions (no InitProducerId or EndTxn)",
            "use Apache Kafka 4.0 or newer, or another broker with transactions: without them nothing is exactly once.",
        )
    cluster_id, brokers = await _log_in(settings, arguments)
    warnings = () if verdict.at_least_kafka_4 else (_too_old(verdict),)
    return BrokerFacts(cluster_id, brokers, verdict.release, warnings)


def _too_old(verdict: Verdict) -> str:
    return (
        f"the broker is Kafka {verdict.release}: its transaction protocol has known holes, closed in 4.0 (KIP-890). "
        "A record delayed on the network can join a later transaction or hang one, so exactly-once does not hold in "
        "every failure. Upgrade the brokers to 4.0 or newer."
    )


def _first_answer(settings: Settings, tls: ssl.SSLContext | None) -> BrokerApis:
    """Ask every bootstrap address at once. Threads, because name resolution cannot be given a time limit."""
    answers: queue.Queue[BrokerApis | OSError] = queue.Queue()
    addresses = settings.addresses()

    def ask(address: tuple[str, int]) -> None:
        try:
            answers.put(ask_api_versions(address, tls, ANSWER_SECONDS))
        except OSError as error:
            answers.put(error)

    for address in addresses:
        threading.Thread(target=ask, args=(address,), daemon=True).start()
    reasons: list[str] = []
    for _ in addresses:
        try:
            answer = answers.get(timeout=ANSWER_SECONDS + 0.5)
        except queue.Empty:
            reasons.append(f"no answer within {ANSWER_SECONDS:.0f} s")
            break
        if isinstance(answer, BrokerApis):
            return answer
        reasons.append(str(answer) or type(answer).__name__)
    hint = "" if tls is not None else " A broker that expects TLS closes such connections without an answer."
    raise BrokerUnreachable(
        f"no broker answers at {settings.bootstrap_servers} ({'; '.join(dict.fromkeys(reasons))})",
        _tls_remedy(reasons)
        or f"check that Kafka runs there, or set {env_name('bootstrap_servers')} and {env_name('security_protocol')} "
        f"(now {settings.security_protocol}).{hint} `python -m worker kafka` starts an embedded broker.",
    )


def _tls_remedy(reasons: list[str]) -> str:
    """What to do when one side refused the other's certificate; empty when that is not what the reasons tell."""
    text = " ".join(reasons).upper()
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            f"the broker's certificate must be signed by the authority in {env_name('ssl_cafile')}, be in date, and "
            f"name the host as {env_name('bootstrap_servers')} does: correct whichever of them is wrong."
        )
    if "ALERT" in text and ("CERTIFICATE" in text or "UNKNOWN_CA" in text):
        return (
            f"the broker wants a certificate of this worker, signed by an authority it trusts: set "
            f"{env_name('ssl_certfile')} and {env_name('ssl_keyfile')}."
        )
    return ""


async def _log_in(settings: Settings, arguments: dict[str, Any]) -> tuple[str | None, dict[int, str]]:
    """The cluster's id and brokers, asked with the worker's credentials at an advertised address."""
    client = AIOKafkaClient(**arguments, request_timeout_ms=int(ANSWER_SECONDS * 1000))
    logger, reasons = logging.getLogger("aiokafka"), _Collected()
    logger.addFilter(reasons)
    try:
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                await client.bootstrap()
        except (KafkaError, TimeoutError) as error:
            user = f", user {settings.sasl_username!r}" if settings.sasl_username else ""
            raise BrokerUnreachable(
                f"a broker answers at {settings.bootstrap_servers} but does not let this worker in "
                f"({settings.security_protocol}{user}): {'; '.join(reasons.messages) or 'no answer'}",
                f"check {env_name('security_protocol')}, {env_name('sasl_mechanism')}, {env_name('sasl_username')} and "
                f"{env_name('sasl_password')} against the broker's listener.",
            ) from error
        brokers = {broker.nodeId: f"{broker.host}:{broker.port}" for broker in client.cluster.brokers()}
        return await _cluster_id(client, brokers, settings), brokers
    finally:
        logger.removeFilter(reasons)
        await client.close()


async def _cluster_id(client: AIOKafkaClient, brokers: Mapping[int, str], settings: Settings) -> str | None:
    """As any of the brokers tells it at its advertised address: some of them may be down."""
    failure: Exception | None = None
    with suppress(TimeoutError):
        async with asyncio.timeout(LOGIN_SECONDS):
            for node in brokers:
                try:
                    answer = await client.send(node, MetadataRequest([]))
                except KafkaError as error:
                    failure = error
                else:
                    cluster_id: str | None = answer.to_object()["cluster_id"]
                    return cluster_id
    raise BrokerUnreachable(
        f"a broker answers at {settings.bootstrap_servers}, but none at what it advertises: "
        f"{', '.join(brokers.values())}",
        "set the broker's advertised.listeners to addresses that this machine can reach.",
    ) from failure


class _Collected(logging.Filter):
    """aiokafka logs why a broker refused, and raises only that it did: keep the text for our error."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        self.messages.append(record.getMessage())
        return False


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.security_protocol.endswith("SSL"):
        return None
    for field in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        path: Path | None = getattr(settings, field)
        if path is not None and not path.is_file():
            raise SettingsError(
                f"{env_name(field)}={path}: there is no such file", "correct the path or mount the file."
            )
    context = _usable("ssl_cafile", settings.ssl_cafile, lambda: ssl.create_default_context(cafile=settings.ssl_cafile))
    certificate = settings.ssl_certfile
    if certificate is not None:
        _usable("ssl_certfile", certificate, lambda: context.load_cert_chain(certificate, settings.ssl_keyfile))
    return context


def _usable(field: str, path: Path | None, load: Callable[[], T]) -> T:
    try:
        return load()
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{env_name(field)}={path}: not usable: {error}",
            "give readable, unencrypted PEM files, and the key that belongs to the certificate.",
        ) from error
