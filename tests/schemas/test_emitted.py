"""All that is emitted is declared, and all that is declared is emitted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schemas import documents, test_examples
from tests.schemas.documents import Place, Schema, places, resolve
from tests.schemas.stage import Answer, Stage
from tests.schemas.updates import updates, written
from worker.agents.sessions import SessionsConfig
from worker.load.generator import generate
from worker.wire.spelling import OutputCase

CASES: tuple[OutputCase, ...] = ("snake", "camel")


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=150, deadline=None)
@given(stream=st.lists(updates(faults=1), min_size=1, max_size=8))
def test_whatever_comes_in_what_goes_out_is_as_declared(case: OutputCase, stream: list[dict[str, Any]]) -> None:
    stage = Stage(SessionsConfig(output_case=case))
    for update in stream:
        answer = stage.send(written(update))  # the stage puts all that is emitted before the judge
        if answer.reason:
            assert leads_somewhere(answer.reason["dead_letter.pointer"], update)


def leads_somewhere(pointer: str, value: Any) -> bool:
    """Whether a JSON pointer leads to a place in the value: what it names is there, or missing in an object."""
    *way, last = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]
    for step in way[1:]:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return pointer == "" or isinstance(value, dict) or (isinstance(value, list) and int(last) < len(value))


def broad_run(case: OutputCase) -> Iterator[Answer]:
    """Answers to every example and to the synthetic stream of a few hundred sessions."""
    for example in test_examples.EXAMPLES:
        stage = Stage(SessionsConfig(output_case=case))
        for key, value in test_examples.records_of(example):
            yield stage.send(value, key)
    stage = Stage(SessionsConfig(output_case=case))
    for event in generate(sessions=300, seed=1):
        yield stage.send(event.value, event.key, event.headers, event.timestamp_ms)


def declared(root: Schema) -> set[str]:
    """Every field, list entry, map value, enumerated value and alternative type the schema speaks of."""
    found = set()
    for place in places(root):
        if place.path and (place.path[-1] in ("items", "additionalProperties") or place.path[-2] == "properties"):
            found.add(str(place))
        found |= {f"{place} = {value!r}" for value in _values(place.schema)}
    return found


def met(root: Schema, value: Any) -> set[str]:
    """Those of `declared(root)` that occur in a value."""
    found: set[str] = set()

    def visit(place: Place, value: Any) -> None:
        path, here = place
        if "$ref" in here:
            visit(Place(tuple(here["$ref"].split("/")[1:]), resolve(root, here["$ref"])), value)
        known = _type_of(value) if isinstance(here.get("type"), list) else value
        if known in _values(here):
            found.add(f"{place} = {known!r}")
        for name in here.get("properties", {}):
            if name in value:
                enter(Place((*path, "properties", name), here["properties"][name]), value[name])
        if "items" in here:
            for entry in value:
                enter(Place((*path, "items"), here["items"]), entry)
        if "additionalProperties" in here:
            for entry in value.values():
                enter(Place((*path, "additionalProperties"), here["additionalProperties"]), entry)

    def enter(place: Place, value: Any) -> None:
        found.add(str(place))
        visit(place, value)

    visit(Place((), root), value)
    return found


def _values(schema: Schema) -> list[Any]:
    types = schema["type"] if isinstance(schema.get("type"), list) else []
    alternatives = [each["const"] for each in schema.get("oneOf", ()) if "const" in each]
    return [*types, *schema.get("enum", ()), *alternatives]


def _type_of(value: Any) -> str:
    return "null" if value is None else {str: "string", int: "integer", bool: "boolean"}[type(value)]


@pytest.mark.parametrize("case", CASES)
def test_everything_declared_is_emitted(case: OutputCase) -> None:
    session_schema = documents.ENRICHED if case == "snake" else documents.ENRICHED_CAMEL
    names = (session_schema, documents.ENRICHED_HEADERS, documents.DEAD_LETTER, documents.LEDGER)
    missing = {name: declared(documents.schema(name)) for name in names}
    assert all(len(each) >= 8 for each in missing.values())
    for answer in broad_run(case):
        emitted = {
            session_schema: answer.record,
            documents.ENRICHED_HEADERS: answer.enriched_headers,
            documents.DEAD_LETTER: answer.reason,
            documents.LEDGER: answer.ledger,
        }
        for name, value in emitted.items():
            if value:
                missing[name] -= met(documents.schema(name), value)
        missing[documents.LEDGER] -= met(documents.schema(documents.LEDGER), answer.ledger_of_answers)
    assert {name: sorted(places) for name, places in missing.items() if places} == {}
