"""A Kafka that lets in who has a password or a certificate, and lets nobody do what no ACL allows."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it re-exports them without saying so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.logs import admin_of
from tests.patience import PATIENCE_SECONDS
from tests.secured.authority import Authority, Identity
from worker.errors import BrokerUnreachable
from worker.kafka.connection import probe
from worker.kafka.embedded import EmbeddedKafka
from worker.kafka.rights import Resource, Right
from worker.settings import Settings

RESOURCE_TYPES = {
    Resource.TOPIC: ResourceType.TOPIC,
    Resource.GROUP: ResourceType.GROUP,
    Resource.TRANSACTIONAL_ID: ResourceType.TRANSACTIONAL_ID,
}
PROPERTIES = {
    "listener.name.client.ssl.keystore.type": "PEM",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    # Who comes through the listeners without a login: the nodes to each other, and these tests.
    "super.users": "User:ANONYMOUS",
}
PASSWORDS = {
    "sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.client.scram-sha-512.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
}
CERTIFICATES = {
    "listener.name.client.ssl.client.auth": "required",
    "listener.name.client.ssl.truststore.type": "PEM",
}


class SecuredKafka:
    """One node with ACLs. Clients come over TLS: with user and password (SCRAM), or with a certificate (mTLS).

    `bootstrap_servers` is the address for workers, `open_servers` a plaintext one where the tests may do all.
    """

    def __init__(self, directory: Path, *, mutual_tls: bool = False) -> None:
        self.authority = Authority(directory / "certificates")
        self.mutual_tls = mutual_tls
        protocol = "SSL" if mutual_tls else "SASL_SSL"
        properties = PROPERTIES | (CERTIFICATES if mutual_tls else PASSWORDS)
        properties["listener.security.protocol.map"] = f"CLIENT:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
        properties["listener.name.client.ssl.keystore.location"] = str(self.authority.identity("broker").both)
        if mutual_tls:
            properties["listener.name.client.ssl.truststore.location"] = str(self.authority.certificate)
        self._kafka = EmbeddedKafka(properties=properties)

    def __enter__(self) -> Self:
        self._kafka.__enter__()
        wait_until(self._greets)
        return self

    def _greets(self) -> bool:
        """The first handshake takes longer than later ones, and than a worker waits: the JVM loads what it needs."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if self.mutual_tls:
            known = self.authority.identity("first")
            context.load_cert_chain(known.certificate, known.key)
        host, port = self.bootstrap_servers.split(":")
        try:
            with socket.create_connection((host, int(port)), PATIENCE_SECONDS) as connection:
                context.wrap_socket(connection, server_hostname=host).close()
        except OSError:
            return False
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kafka.__exit__(kind, error, trace)

    @property
    def bootstrap_servers(self) -> str:
        return self._kafka.bootstrap_servers

    @property
    def open_servers(self) -> str:
        return self._kafka.internal_servers

    def login(self, user: str, password: str) -> dict[str, str]:
        """The settings, as environment, of a worker with this user and password."""
        return {
            "WORKER_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "WORKER_SECURITY_PROTOCOL": "SASL_SSL",
            "WORKER_SASL_MECHANISM": "SCRAM-SHA-512",
            "WORKER_SASL_USERNAME": user,
            "WORKER_SASL_PASSWORD": password,
            "WORKER_SSL_CAFILE": str(self.authority.certificate),
        }

    def certified(self, identity: Identity) -> dict[str, str]:
        """The settings, as environment, of a worker with this certificate."""
        return {
            "WORKER_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "WORKER_SECURITY_PROTOCOL": "SSL",
            "WORKER_SSL_CAFILE": str(self.authority.certificate),
            "WORKER_SSL_CERTFILE": str(identity.certificate),
            "WORKER_SSL_KEYFILE": str(identity.key),
        }

    def add_user(self, user: str, password: str, rights: Iterable[Right]) -> None:
        """A user with exactly these rights, who can log in when this returns."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        asked = UserScramCredentialUpsertion(user, info, password.encode())
        for done in admin_of(self.open_servers).alter_user_scram_credentials([asked]).values():
            done.result(20)
        self.grant(user, rights)
        wait_until(lambda: self._lets_in(user, password))

    def grant(self, user: str, rights: Iterable[Right]) -> None:
        """Allow `user` these, and what it had before."""
        acls = [_acl(user, right) for right in rights]
        admin = admin_of(self.open_servers)
        for created in admin.create_acls([AclBinding(*acl) for acl in acls]).values() if acls else ():
            created.result(20)
        wait_until(lambda: all(admin.describe_acls(AclBindingFilter(*acl)).result(20) for acl in acls))

    def take(self, user: str, right: Right) -> None:
        """Take a right away that was granted."""
        wanted = AclBindingFilter(*_acl(user, right))
        admin = admin_of(self.open_servers)
        (deleted,) = admin.delete_acls([wanted]).values()
        assert len(deleted.result(20)) == 1, f"{user} had no {right}"
        wait_until(lambda: not admin.describe_acls(wanted).result(20))

    def _lets_in(self, user: str, password: str) -> bool:
        """Credentials come into force at the broker a moment after the controller has them."""
        given = {name.removeprefix("WORKER_").lower(): value for name, value in self.login(user, password).items()}
        try:
            asyncio.run(probe(Settings.model_validate(given)))
        except BrokerUnreachable:
            return False
        return True


def wait_until(reached: Callable[[], bool]) -> None:
    """What an administrator changes comes into force at the brokers a moment later."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _acl(user: str, right: Right) -> tuple[Any, ...]:
    """The parts of an ACL, in the order in which the client takes them."""
    return (
        RESOURCE_TYPES[right.resource],
        right.name,
        ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        AclOperation[right.operation],
        AclPermissionType.ALLOW,
    )
