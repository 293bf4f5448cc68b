"""Every setting of the worker, once: environment `WORKER_<NAME>` or the flag `--<name>`.

The CLI builds its flags from this model, so a field added here is a flag, a line in `--help` and a row in
`check` without further code. A name that starts with `WORKER_` and is not listed here is an error: a typo
must not silently run the worker with a default. `WORKER_TEST_*` is left to the tests.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import SettingsError

ENV_PREFIX: Final = "WORKER_"
TEST_ENV_PREFIX: Final = "WORKER_TEST_"
"""Names with this prefix steer the project's own tests and are never settings."""


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _level(value: object) -> object:
    return {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(str(value).upper(), str(value).upper())


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
SecurityProtocol = Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_upper)]
SaslMechanism = Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(_upper)]
Compression = Annotated[Literal["none", "gzip", "snappy", "lz4", "zstd"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_level)]

BROKER = {"group": "Broker"}
TOPICS = {"group": "Topics"}
ENGINE = {"group": "Worker"}
LIMITS = {"group": "Limits of an update"}
OUTSIDE = {"group": "Logs and HTTP"}


def _setting(default: Any, description: str, group: Mapping[str, str], **bounds: Any) -> Any:
    """A field with its help text; `group` is the heading it stands under in `--help` and `check`."""
    return Field(default=default, description=description, json_schema_extra=dict(group), **bounds)


class Settings(BaseSettings):
    """The settings of one process. Frozen; made by `load_settings`, which turns errors into sentences."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, validate_default=True
    )

    # Broker
    bootstrap_servers: str = _setting("127.0.0.1:9092", "Kafka brokers to ask first: host:port,…", BROKER)
    security_protocol: SecurityProtocol = _setting("PLAINTEXT", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.", BROKER)
    sasl_mechanism: SaslMechanism | None = _setting(None, "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.", BROKER)
    sasl_username: str | None = _setting(None, "User name for SASL.", BROKER)
    sasl_password: SecretStr | None = _setting(
        None, "Password for SASL; better in the environment than as a flag, never shown.", BROKER
    )
    ssl_cafile: Path | None = _setting(
        None, "PEM file of the authorities that may sign the broker's certificate.", BROKER
    )
    ssl_certfile: Path | None = _setting(None, "PEM file with this worker's own certificate.", BROKER)
    ssl_keyfile: Path | None = _setting(None, "PEM file with the key of that certificate.", BROKER)

    # Topics
    topic_updates: TopicName = _setting("sessions.updates.v1", "Input: session updates.", TOPICS)
    topic_enriched: TopicName = _setting("sessions.enriched.v1", "Output: enriched sessions.", TOPICS)
    topic_dead_letters: TopicName = _setting(
        "sessions.updates.v1.dead-letters", "Rejected updates, untouched, with the reason in headers.", TOPICS
    )
    topic_ledger: TopicName = _setting("sessions.ledger.v1", "One record of counts per transaction.", TOPICS)
    partitions: int = _setting(
        4, "Partitions of every topic (`topics create`, `topics check`).", TOPICS, ge=1, le=10_000
    )
    replication_factor: int = _setting(1, "Replicas of every topic; 3 in production.", TOPICS, ge=1, le=32)

    # Worker
    app_id: str = _setting(
        "session-worker",
        "Consumer group, and prefix of transactional ids and of the changelog topic.",
        ENGINE,
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
    )
    instance_id: str | None = _setting(
        None,
        "This worker among those of the same app; made once and kept in the state directory when not given.",
        ENGINE,
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
    )
    state_dir: Path = _setting(
        Path("var/state"), "Directory of the local store; one per worker, on a local disk.", ENGINE
    )
    store: Annotated[Literal["rocksdb", "memory"], BeforeValidator(_lower)] = _setting(
        "rocksdb", "rocksdb, or memory (restored from the changelog at each start).", ENGINE
    )
    accepted_topic_ids: str = _setting(
        "",
        "Ids of input topics that were deleted and restored with the same records at the same offsets, id,id,…; the "
        "worker refuses them else, and says their ids. Keep it set.",
        ENGINE,
        pattern=r"^([0-9a-f]{32}(,[0-9a-f]{32})*)?$",
    )
    batch_max_records: int = _setting(2000, "Records in one transaction, at most.", ENGINE, ge=1, le=100_000)
    transaction_pause_ms: int = _setting(
        20,
        "Pause between two transactions of a partition: more saves broker CPU, less saves latency.",
        ENGINE,
        ge=0,
        le=10_000,
    )
    transaction_timeout_seconds: float = _setting(
        30,
        "The broker aborts a transaction of a frozen worker after so long; consumers wait behind it until then.",
        ENGINE,
        ge=1,
        le=900,
    )
    session_timeout_seconds: float = _setting(
        10, "After this long without a heartbeat a worker's partitions go to others.", ENGINE, ge=1, le=1800
    )
    watchdog_seconds: float = _setting(
        120,
        "A worker that has work and commits nothing for so long ends itself, with all stacks in the log.",
        ENGINE,
        ge=5,
    )
    # Per MB of outputs, measured: snappy 1.7 ms (4 times smaller), zstd 5 ms (10 times), lz4 16 ms (6 times: aiokafka
    # uses its slowest levels), gzip 29 ms. lz4 took a quarter of the worker's time.
    compression: Compression = _setting("snappy", "Compression of outputs: none, gzip, snappy, lz4 or zstd.", ENGINE)
    output_case: Annotated[Literal["snake", "camel"], BeforeValidator(_lower)] = _setting(
        "snake", "Spelling of field names in enriched sessions: snake or camel.", ENGINE
    )
    duplicate_window: int = _setting(
        32, "Event ids remembered per session to recognise duplicates; 0 remembers none.", ENGINE, ge=0, le=10_000
    )
    retention_days: int = _setting(0, "Drop sessions untouched for so many days. Only 0 (never) for now.", ENGINE, ge=0)

    # Limits of an update
    max_record_bytes: int = _setting(
        1_000_000, "Largest output or stored row in bytes, key and headers included.", LIMITS, ge=1_000, le=100_000_000
    )
    allow_negative_prices: bool = _setting(False, "Accept cart items with a price below zero.", LIMITS)
    max_cart_items: int = _setting(1000, "Items in a cart.", LIMITS, ge=1)
    max_cart_quantity: int = _setting(10_000, "Sum of the quantities in a cart.", LIMITS, ge=1)
    max_identifiers: int = _setting(5, "Identifiers of a session.", LIMITS, ge=0)
    max_coupon_code_length: int = _setting(100, "Characters of a coupon code.", LIMITS, ge=1)
    max_referral_code_length: int = _setting(100, "Characters of a referral code.", LIMITS, ge=1)
    max_integration_id_length: int = _setting(1000, "Characters of an integration id.", LIMITS, ge=1)
    max_event_id_length: int = _setting(255, "Characters of an event id.", LIMITS, ge=1)

    # Logs and HTTP
    log_level: LogLevel = _setting("INFO", "debug, info, warning, error or critical, in any case.", OUTSIDE)
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = _setting(
        "console", "json (one object per line) or console.", OUTSIDE
    )
    http_host: str = _setting("127.0.0.1", "Address of the HTTP API (not served yet).", OUTSIDE)
    http_port: int = _setting(6066, "Port of the HTTP API, 0 = off (not served yet).", OUTSIDE, ge=0, le=65_535)
    http_token: SecretStr | None = _setting(None, "Token for what changes things over HTTP (not served yet).", OUTSIDE)

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        addresses = [part.strip() for part in value.split(",") if part.strip()]
        if not addresses:
            raise ValueError("at least one host:port is needed")
        for address in addresses:
            match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):(\d{1,5})", address)
            if match is None or not 0 < int(match[2]) <= 65_535:
                raise ValueError(f"{address!r} is not host:port")
        return ",".join(addresses)

    @field_validator("retention_days")
    @classmethod
    def _retention_is_not_available(cls, value: int) -> int:
        if value != 0:
            raise ValueError("dropping old sessions is not available yet; only 0 (never) is accepted")
        return value

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Settings:
        if self.security_protocol.startswith("SASL"):
            for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
                if getattr(self, name) is None:
                    raise ValueError(
                        f"{env_name(name)} is needed with {env_name('security_protocol')}={self.security_protocol}"
                    )
        return self

    @model_validator(mode="after")
    def _security_is_used(self) -> Settings:
        """Credentials beside a protocol that ignores them mean a forgotten setting, never a wish."""
        ignored = (
            [] if self.security_protocol.startswith("SASL") else ["sasl_mechanism", "sasl_username", "sasl_password"]
        )
        ignored += [] if self.security_protocol.endswith("SSL") else ["ssl_cafile", "ssl_certfile", "ssl_keyfile"]
        for name in ignored:
            if getattr(self, name) is not None:
                protocol = f"{env_name('security_protocol')}={self.security_protocol}"
                raise ValueError(f"{env_name(name)} is given, but {protocol} does not use it")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError(f"{env_name('ssl_keyfile')} needs {env_name('ssl_certfile')} too")
        return self

    @model_validator(mode="after")
    def _topics_are_distinct(self) -> Settings:
        seen: dict[str, str] = {}
        for field, topic in self.topic_names().items():
            if topic in seen:
                raise ValueError(f"{field} and {seen[topic]} are the same topic {topic!r}")
            seen[topic] = field
        return self

    @property
    def topic_changelog(self) -> str:
        """The topic that holds the stored sessions: compacted, written in the same transactions as the outputs."""
        return f"{self.app_id}-sessions-changelog"

    @property
    def topic_profiles_changelog(self) -> str:
        """The topic that holds which session owns each profile, compacted."""
        return f"{self.app_id}-profiles-changelog"

    @property
    def topic_claims(self) -> str:
        """From the sessions to the profiles: this session was bound to that profile. Its order decides who is first."""
        return f"{self.app_id}-profile-claims"

    @property
    def topic_answers(self) -> str:
        """Back from the profiles, to each session's own partition: who owns the profile."""
        return f"{self.app_id}-profile-answers"

    def topic_names(self) -> dict[str, str]:
        """All topics by the setting they come from, the input first."""
        fields = ("topic_updates", "topic_enriched", "topic_dead_letters", "topic_ledger")
        app = env_name("app_id")
        return {env_name(field): getattr(self, field) for field in fields} | {
            f"the changelog of {app}": self.topic_changelog,
            f"the profiles of {app}": self.topic_profiles_changelog,
            f"the claims of {app}": self.topic_claims,
            f"the answers of {app}": self.topic_answers,
        }

    def addresses(self) -> list[tuple[str, int]]:
        """`bootstrap_servers` as (host, port); IPv6 hosts without their brackets."""
        pairs = (address.rsplit(":", 1) for address in self.bootstrap_servers.split(","))
        return [(host.strip("[]"), int(port)) for host, port in pairs]

    def redacted(self) -> dict[str, str]:
        """Every setting by its environment name, as text; secrets are `********`, or empty when not set."""
        return {env_name(field): _shown(getattr(self, field)) for field in type(self).model_fields}


def env_name(field: str) -> str:
    """`state_dir` -> `WORKER_STATE_DIR`."""
    return ENV_PREFIX + field.upper()


def load_settings(flags: Mapping[str, object] | None = None) -> Settings:
    """The settings from the environment, overridden by `flags` (field name -> value; None = not given).

    Raises SettingsError naming every unknown or invalid setting at once, never the text of a secret.
    """
    _refuse_unknown_names(os.environ)
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(_sentence(detail) for detail in error.errors(include_url=False))
        raise SettingsError(
            problems, "correct the environment variable or the flag; `python -m worker check --help` lists all of them."
        ) from None


def _refuse_unknown_names(environment: Mapping[str, str]) -> None:
    known = [env_name(field) for field in Settings.model_fields]
    unknown = sorted(
        name
        for name in environment
        if name.upper().startswith(ENV_PREFIX)
        and not name.upper().startswith(TEST_ENV_PREFIX)
        and name.upper() not in known
    )
    if unknown:
        nearest = {name: difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)[0] for name in unknown}
        raise SettingsError(
            "unknown setting " + ", ".join(f"{name} (nearest: {nearest[name]})" for name in unknown),
            "correct or unset it; `python -m worker check --help` lists all settings.",
        )


def _sentence(detail: ErrorDetails) -> str:
    """One validation error as `WORKER_X=value: what is wrong`; the value is left out for secrets."""
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    field = str(detail["loc"][0])
    if field not in Settings.model_fields:
        return f"{env_name(field)}: not a setting"
    secret = SecretStr in get_args(Settings.model_fields[field].annotation)
    return f"{env_name(field)}: {message}" if secret else f"{env_name(field)}={detail['input']}: {message}"


def _shown(value: object) -> str:
    if value is None:
        return ""
    return "********" if isinstance(value, SecretStr) else str(value)
