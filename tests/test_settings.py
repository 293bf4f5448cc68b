"""Settings: from the environment or flags, checked once, said by name when wrong, secrets never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.errors import SettingsError
from worker.settings import Settings, env_name, load_settings

pytestmark = pytest.mark.usefixtures("no_settings")


def test_nothing_given_is_the_development_machine() -> None:
    settings = load_settings()
    assert settings.addresses() == [("127.0.0.1", 9092)]
    assert settings.state_dir == Path("var/state")
    assert settings.topic_changelog == "session-worker-sessions-changelog"


def test_the_environment_is_read_and_a_flag_wins_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_PARTITIONS", "8")
    assert load_settings().partitions == 8
    assert load_settings({"partitions": "16", "app_id": None}).partitions == 16


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_SASL_USERNAME", "")
    assert load_settings().sasl_username is None


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValidationError):
        load_settings().partitions = 5


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("WORKER_BOOTSTRAP_SERVER", "WORKER_BOOTSTRAP_SERVERS"),
        ("WORKER_TOPIC_UPDATE", "WORKER_TOPIC_UPDATES"),
        ("WORKER_APPID", "WORKER_APP_ID"),
        ("worker_log_levl", "WORKER_LOG_LEVEL"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_valid_one(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(SettingsError, match=rf"{name} \(nearest: {nearest}\)") as refusal:
        load_settings()
    assert refusal.value.exit_code == 2


def test_names_that_steer_the_tests_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_TEST_BOOTSTRAP_SERVERS", "elsewhere:9092")
    assert load_settings().bootstrap_servers == "127.0.0.1:9092"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("bootstrap_servers", "kafka", "not host:port"),
        ("bootstrap_servers", "kafka:99999", "not host:port"),
        ("bootstrap_servers", " , ", "at least one"),
        ("partitions", "0", "greater than or equal to 1"),
        ("partitions", "four", "valid integer"),
        ("http_port", "70000", "less than or equal to 65535"),
        ("app_id", "two words", "match pattern"),
        ("store", "sqlite", "rocksdb"),
        ("compression", "brotli", "snappy"),
        ("log_level", "loud", "DEBUG"),
        ("security_protocol", "TLS", "SASL_SSL"),
        ("retention_days", "30", "not available yet"),
        ("session_timeout_seconds", "0", "greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refusal:
        load_settings({field: value})
    assert f"{env_name(field)}={value}".lower() in refusal.value.problem.lower()


def test_all_wrong_values_are_said_at_once() -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings({"partitions": "0", "http_port": "x"})
    assert "WORKER_PARTITIONS" in refusal.value.problem
    assert "WORKER_HTTP_PORT" in refusal.value.problem


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("log_level", "wArNiNg", "WARNING"),
        ("log_level", "warn", "WARNING"),
        ("log_format", "JSON", "json"),
        ("security_protocol", "sasl_ssl", "SASL_SSL"),
        ("sasl_mechanism", "scram-sha-256", "SCRAM-SHA-256"),
        ("compression", "ZSTD", "zstd"),
        ("store", "Memory", "memory"),
    ],
)
def test_words_are_taken_in_any_case(field: str, given: str, kept: str) -> None:
    login = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"}
    others = login if field.startswith(("sasl", "security")) else {}
    assert getattr(load_settings(others | {field: given}), field) == kept


@pytest.mark.parametrize("missing", ["sasl_mechanism", "sasl_username", "sasl_password"])
def test_a_login_must_be_complete(missing: str) -> None:
    login = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"}
    with pytest.raises(SettingsError, match=f"{env_name(missing)} is needed"):
        load_settings(login | {missing: None})


@pytest.mark.parametrize(("field", "value"), [("sasl_password", "s3cret"), ("ssl_cafile", "/ca.pem")])
def test_credentials_that_the_protocol_ignores_are_a_mistake(field: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{env_name(field)} is given, but WORKER_SECURITY_PROTOCOL=PLAINTEXT"):
        load_settings({field: value})


def test_two_roles_cannot_share_a_topic() -> None:
    with pytest.raises(SettingsError, match="WORKER_TOPIC_LEDGER and WORKER_TOPIC_UPDATES are the same topic"):
        load_settings({"topic_ledger": "sessions.updates.v1"})


def test_addresses_of_every_kind_are_read() -> None:
    settings = load_settings({"bootstrap_servers": "a.example:9092, 10.0.0.1:9093,[::1]:9094"})
    assert settings.addresses() == [("a.example", 9092), ("10.0.0.1", 9093), ("::1", 9094)]


def test_a_secret_is_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    login = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"}
    settings = load_settings(login | {"sasl_password": "s3cret", "http_token": "t0ken"})
    assert settings.redacted()["WORKER_SASL_PASSWORD"] == "********"
    assert "s3cret" not in repr(settings) + str(settings.redacted())
    assert "t0ken" not in repr(settings) + str(settings.redacted())
    monkeypatch.setenv("WORKER_SASL_PASSWORD", "s3cret")
    with pytest.raises(SettingsError) as refusal:
        load_settings({"partitions": "0"})
    assert "s3cret" not in str(refusal.value)


def test_every_setting_has_a_description_and_a_group() -> None:
    for field, info in Settings.model_fields.items():
        assert info.description, field
        assert isinstance(info.json_schema_extra, dict), field
        assert info.json_schema_extra["group"], field
