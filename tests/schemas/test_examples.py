"""Every example in `schemas/examples` goes through the worker and gets the answer the manifest states."""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from tests.schemas import documents
from tests.schemas.stage import Answer, Stage

MANIFEST = json.loads((documents.EXAMPLES / "manifest.json").read_text("utf-8"), parse_float=Decimal)
EXAMPLES: list[dict[str, Any]] = MANIFEST["examples"]
VALIDATOR = Draft202012Validator(documents.schema(documents.UPDATE), validate_formats=True)
every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.get("file", example["title"]))


def texts_of(file: str) -> list[str]:
    """The updates in an example file, each as the very text that stands there (30.00 stays 30.00)."""
    text = (documents.EXAMPLES / file).read_text("utf-8").strip()
    if not text.startswith("["):
        return [text]
    decoder, texts, start = json.JSONDecoder(), [], 1
    while (found := re.compile(r"\s*,?\s*(?=\{)").match(text, start)) is not None:
        _, end = decoder.raw_decode(text, found.end())
        texts.append(text[found.end() : end])
        start = end
    assert text[start:].strip() == "]"
    return texts


def records_of(example: dict[str, Any]) -> list[tuple[bytes | None, bytes | None]]:
    """The (key, value) pairs an example sends."""
    if "file" in example:
        records: list[tuple[bytes | None, bytes | None]] = []
        for text in texts_of(example["file"]):
            update = json.loads(text)
            key = example.get("key", update.get("integration_id", update.get("integrationId")))
            records.append((key.encode() if isinstance(key, str) else None, text.encode()))
        return records
    return [(record["key"].encode(), value_of(record)) for record in example["records"]]


def value_of(record: dict[str, Any]) -> bytes | None:
    if "base64" in record:
        return base64.b64decode(record["base64"], validate=True)
    text: str | None = record["text"] if "text" in record else record["value"]
    return None if text is None else text.encode()


def outcome_of(answer: Answer, expected: dict[str, Any]) -> dict[str, Any]:
    """The answer in the words of the manifest, of what the manifest speaks about."""
    said: dict[str, Any] = {"outcome": answer.outcome}
    if answer.record is not None:
        session = answer.record["customer_session"]
        said["type"] = answer.record["type"]
        said["session"] = {name: session[name] for name in expected.get("session", ())}
    if answer.reason:
        said |= {name.removeprefix("dead_letter."): text for name, text in answer.reason.items()}
    said["ignored_fields"] = answer.ledger["ignored_fields"]
    return {name: said.get(name) for name in expected}


@every_example
def test_the_worker_answers_an_example_as_the_manifest_states(example: dict[str, Any]) -> None:
    stage = Stage()
    answers = [stage.send(value, key) for key, value in records_of(example)]
    assert [
        outcome_of(answer, expected) for answer, expected in zip(answers, example["expect"], strict=True)
    ] == example["expect"]


@every_example
def test_the_schema_passes_what_the_worker_reads_and_refuses_what_it_cannot(example: dict[str, Any]) -> None:
    if "file" not in example:
        return
    for text, expected in zip(texts_of(example["file"]), example["expect"], strict=True):
        unreadable = expected.get("code") in ("malformed", "schema_invalid", "limit_exceeded")
        passes = not unreadable or example.get("beyond_schema", False)
        assert VALIDATOR.is_valid(json.loads(text, parse_float=Decimal)) == passes


def test_the_manifest_names_every_file_once() -> None:
    named = sorted(example["file"] for example in EXAMPLES if "file" in example)
    assert named == sorted(path.name for path in documents.EXAMPLES.glob("*.json") if path.name != "manifest.json")


def test_the_examples_show_every_outcome_every_type_and_every_reason() -> None:
    expected = [each for example in EXAMPLES for each in example["expect"]]
    dead_letter = documents.schema(documents.DEAD_LETTER)
    codes = {code["const"] for code in dead_letter["properties"]["dead_letter.code"]["oneOf"]}
    types = set(documents.schema(documents.ENRICHED)["properties"]["type"]["enum"])
    assert {each["outcome"] for each in expected} == {"accepted", "unchanged", "duplicate", "rejected"}
    assert {each["type"] for each in expected if "type" in each} == types
    assert {each["code"] for each in expected if "code" in each} == codes


def test_the_vectors_are_all_there() -> None:
    titles = " ".join(example["title"] for example in EXAMPLES)
    assert [number for number in (*range(1, 15), 17, 18) if f"T{number}:" not in titles] == []
