"""The documents in `schemas/`, read once, and the walks over them that several tests need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

DIRECTORY: Final = Path(__file__).parents[2] / "schemas"
EXAMPLES: Final = DIRECTORY / "examples"

UPDATE: Final = "session-update.v1"
ENRICHED: Final = "enriched-session.v1"
ENRICHED_CAMEL: Final = "enriched-session.v1.camel"
ENRICHED_HEADERS: Final = "enriched-headers.v1"
DEAD_LETTER: Final = "dead-letter.v1"
LEDGER: Final = "ledger.v1"
ALL: Final = (UPDATE, ENRICHED, ENRICHED_CAMEL, ENRICHED_HEADERS, DEAD_LETTER, LEDGER)

Schema = dict[str, Any]


@cache
def schema(name: str) -> Schema:
    """The schema called `name` (one of ALL). Shared: callers must not change it."""
    document: Schema = json.loads((DIRECTORY / f"{name}.schema.json").read_text("utf-8"))
    return document


@cache
def asyncapi() -> Schema:
    """The AsyncAPI document. Shared: callers must not change it."""
    document: Schema = json.loads((DIRECTORY / "asyncapi.json").read_text("utf-8"))
    return document


def camel(name: str) -> str:
    """The camelCase spelling of a field: integration_id -> integrationId."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


class Place(NamedTuple):
    """A subschema and where it stands: its JSON pointer steps from the root of its document."""

    path: tuple[str, ...]
    schema: Schema

    def __str__(self) -> str:
        return "/".join(self.path) or "(root)"


def resolve(root: Schema, reference: str) -> Any:
    """What `#/a/b` points to in `root`; KeyError when nothing is there."""
    target: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        target = target[step.replace("~1", "/").replace("~0", "~")]
    return target


_MAPS_OF_SCHEMAS: Final = ("properties", "$defs", "patternProperties", "dependentSchemas")
_LISTS_OF_SCHEMAS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS: Final = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


def places(root: Schema) -> Iterator[Place]:
    """Every subschema written in the document, the root first. References are not followed."""

    def under(place: Place) -> Iterator[Place]:
        yield place
        path, here = place
        for keyword in _MAPS_OF_SCHEMAS:
            for name, child in here.get(keyword, {}).items():
                yield from under(Place((*path, keyword, name), child))
        for keyword in _LISTS_OF_SCHEMAS:
            for index, child in enumerate(here.get(keyword, ())):
                yield from under(Place((*path, keyword, str(index)), child))
        for keyword in _SCHEMAS:
            if isinstance(here.get(keyword), dict):
                yield from under(Place((*path, keyword), here[keyword]))

    return under(Place((), root))


def fields(root: Schema) -> list[Place]:
    """Every named field of the document: the members of all `properties`."""
    return [place for place in places(root) if len(place.path) >= 2 and place.path[-2] == "properties"]


def closed(root: Schema) -> Schema:
    """The schema with every object that lists its properties closed against others.

    Published schemas stay open so that a consumer's copy survives a field added later; the tests want to
    hear of each field that is emitted and not declared.
    """

    def close(value: Any) -> Any:
        if isinstance(value, list):
            return [close(item) for item in value]
        if not isinstance(value, dict):
            return value
        copy = {key: close(item) for key, item in value.items()}
        if isinstance(value.get("properties"), dict) and "type" in value:
            copy.setdefault("additionalProperties", False)
        return copy

    result: Schema = close(root)
    return result
