"""The schemas as documents: valid themselves, every field explained, examples that fit."""

from __future__ import annotations

import json

import pytest
from jsonschema_rs import Draft202012Validator, meta

from tests.schemas import camel_twin, documents

every_schema = pytest.mark.parametrize("name", documents.ALL)


def test_every_schema_file_is_known_to_these_tests() -> None:
    found = {path.name.removesuffix(".schema.json") for path in documents.DIRECTORY.glob("*.schema.json")}
    assert found == set(documents.ALL)


@every_schema
def test_a_schema_is_valid_json_schema_2020_12(name: str) -> None:
    document = documents.schema(name)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    meta.validate(document)


@every_schema
def test_a_schema_is_identified_by_a_urn_of_its_own(name: str) -> None:
    kind, _, rest = name.partition(".")
    assert documents.schema(name)["$id"] == f"urn:session-worker:schema:{kind}:{rest.replace('.', ':')}"


@every_schema
def test_every_field_has_title_description_and_examples(name: str) -> None:
    document = documents.schema(name)
    lacking = {
        str(field): missing
        for field in documents.fields(document)
        if (missing := [word for word in ("title", "description", "examples") if not field.schema.get(word)])
    }
    assert len(documents.fields(document)) >= 8
    assert lacking == {}


@every_schema
def test_every_example_in_a_schema_is_valid_where_it_stands(name: str) -> None:
    document = documents.closed(documents.schema(name))
    wrong = []
    for place in documents.places(document):
        pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in place.path)
        at_that_place = {"$ref": f"urn:document#{pointer}", "$defs": {"document": document | {"$id": "urn:document"}}}
        validator = Draft202012Validator(at_that_place, validate_formats=True)
        wrong += [(str(place), each) for each in place.schema.get("examples", ()) if not validator.is_valid(each)]
    assert wrong == []


@every_schema
def test_every_reference_leads_to_something(name: str) -> None:
    document = documents.schema(name)
    for place in documents.places(document):
        if "$ref" in place.schema:
            assert isinstance(documents.resolve(document, place.schema["$ref"]), dict), place


@every_schema
def test_every_definition_is_used(name: str) -> None:
    document = documents.schema(name)
    text = json.dumps(document)
    assert [each for each in document.get("$defs", {}) if f'"#/$defs/{each}' not in text] == []


def test_the_camel_case_twin_is_what_is_derived_from_the_snake_case_schema() -> None:
    assert camel_twin.TWIN.read_text("utf-8") == camel_twin.derived(), "run: python -m tests.schemas.camel_twin"


def test_every_field_of_two_words_in_an_update_has_its_camel_case_alias() -> None:
    document = documents.schema(documents.UPDATE)
    for holder in (document, document["$defs"]["update_body"], document["$defs"]["cart_item"]):
        names = set(holder["properties"])
        snake = {name for name in names if "_" in name}
        assert {name for name in names if name != name.lower()} == {documents.camel(name) for name in snake}
        for name in snake:
            target = documents.resolve(document, holder["properties"][documents.camel(name)]["$ref"])
            assert target is holder["properties"][name]
