"""The AsyncAPI document: whole in itself, and true of the topics, settings and schemas it speaks of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from tests.schemas import documents
from worker.kafka.topics import declared
from worker.settings import Settings

DRAFT_2020_12 = "application/schema+json;version=draft-2020-12"
MESSAGES: dict[str, Any] = documents.asyncapi()["components"]["messages"]
SCHEMAS_OF_MESSAGES = {
    "sessionUpdate": (documents.UPDATE, None),
    "enrichedSession": (documents.ENRICHED, documents.ENRICHED_HEADERS),
    "enrichedSessionCamel": (documents.ENRICHED_CAMEL, documents.ENRICHED_HEADERS),
    "deadLetter": (None, documents.DEAD_LETTER),
    "ledgerRecord": (documents.LEDGER, None),
}
"""Message -> schema of its value, schema of its headers; None: not described by a file."""


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def target(reference: str) -> Any:
    return documents.resolve(documents.asyncapi(), reference)


def test_the_document_is_asyncapi_3_1() -> None:
    document = documents.asyncapi()
    assert document["asyncapi"] == "3.1.0"
    assert document["info"].keys() >= {"title", "version"}


def test_every_reference_leads_to_something() -> None:
    for reference in references(documents.asyncapi()):
        if reference.startswith("#"):
            assert isinstance(target(reference), dict), reference
        else:
            assert (documents.DIRECTORY / reference).is_file(), reference


def test_every_schema_file_is_referred_to() -> None:
    files = {reference for reference in references(documents.asyncapi()) if not reference.startswith("#")}
    assert files == {f"./{name}.schema.json" for name in documents.ALL}


def test_operations_use_the_messages_of_their_channel_and_every_channel_has_one_operation() -> None:
    document = documents.asyncapi()
    used = []
    for operation in document["operations"].values():
        channel = operation["channel"]["$ref"]
        used.append(channel)
        named = {message["$ref"] for message in operation["messages"]}
        assert named == {f"{channel}/messages/{name}" for name in target(channel)["messages"]}
        assert operation["action"] == ("receive" if channel == "#/channels/updates" else "send")
    assert sorted(used) == sorted(f"#/channels/{name}" for name in document["channels"])


def test_every_message_is_in_a_channel() -> None:
    channels = documents.asyncapi()["channels"].values()
    in_channels = {message["$ref"] for channel in channels for message in channel["messages"].values()}
    assert in_channels == {f"#/components/messages/{name}" for name in MESSAGES}


@pytest.mark.parametrize("name", SCHEMAS_OF_MESSAGES)
def test_a_message_is_described_by_its_schema_file(name: str) -> None:
    for part, schema in zip(("payload", "headers"), SCHEMAS_OF_MESSAGES[name], strict=True):
        if schema is not None:
            expected = {"schemaFormat": DRAFT_2020_12, "schema": {"$ref": f"./{schema}.schema.json"}}
            assert MESSAGES[name][part] == expected


@pytest.mark.parametrize("name", SCHEMAS_OF_MESSAGES)
def test_the_examples_of_a_message_are_valid(name: str) -> None:
    for example in MESSAGES[name].get("examples", ()):
        for part, schema in zip(("payload", "headers"), SCHEMAS_OF_MESSAGES[name], strict=True):
            if schema is not None:
                strict = documents.closed(documents.schema(schema))
                Draft202012Validator(strict, validate_formats=True).validate(example[part])


def test_channels_are_the_public_topics_as_they_are_declared() -> None:
    settings = Settings.model_construct()
    public = {topic.name: topic for topic in declared(settings) if not topic.name.startswith(settings.app_id)}
    channels = {channel["address"]: channel for channel in documents.asyncapi()["channels"].values()}
    assert channels.keys() == public.keys()
    for name, topic in public.items():
        binding = channels[name]["bindings"]["kafka"]
        assert (binding["partitions"], binding["replicas"]) == (topic.partitions, topic.replication_factor)
        said = {
            key: ",".join(value) if isinstance(value, list) else str(value)
            for key, value in binding["topicConfiguration"].items()
        }
        assert said == topic.configs


def test_the_consumer_group_and_the_default_server_are_those_of_the_settings() -> None:
    document, settings = documents.asyncapi(), Settings.model_construct()
    group = document["operations"]["receiveUpdates"]["bindings"]["kafka"]["groupId"]
    assert group["enum"] == [settings.app_id]
    server = document["servers"]["kafka"]["variables"]["bootstrap_servers"]
    assert server["default"] == settings.bootstrap_servers
