"""A Kafka that lets in who has a password or a certificate, and lets nobody do what no ACL allows."""

from __future__ import annotations

from collections.abc import Iterable
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

from tests.broker.authority import Authority, Identity
from tests.logs import admin_of
from worker.kafka.embedded import EmbeddedKafka
from worker.kafka.rights import Resource, Right

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
        return self

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

    def add_user(self, user: str, password: str) -> None:
        """Set the password of a user."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        asked = UserScramCredentialUpsertion(user, info, password.encode())
        for done in admin_of(self.open_servers).alter_user_scram_credentials([asked]).values():
            done.result(20)

    def grant(self, user: str, rights: Iterable[Right]) -> None:
        """Allow `user` exactly this, and what it had before."""
        bindings = [AclBinding(*_acl(user, right)) for right in rights]
        for done in admin_of(self.open_servers).create_acls(bindings).values():
            done.result(20)

    def take(self, user: str, rights: Iterable[Right]) -> None:
        """Take rights away that were granted."""
        filters = [AclBindingFilter(*_acl(user, right)) for right in rights]
        for done in admin_of(self.open_servers).delete_acls(filters).values():
            assert len(done.result(20)) == 1, "this right was not granted"


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
