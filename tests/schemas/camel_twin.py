"""The camelCase schema of the output, derived from the snake_case one: the same text, other field names.

`python -m tests.schemas.camel_twin` writes it; a test holds the file to what is derived here.
"""

from __future__ import annotations

import re
from typing import Final

from tests.schemas import documents

TWIN: Final = documents.DIRECTORY / f"{documents.ENRICHED_CAMEL}.schema.json"

_HEAD: Final = {
    '"urn:session-worker:schema:enriched-session:v1"': '"urn:session-worker:schema:enriched-session:v1:camel"',
    '"title": "Enriched session"': '"title": "Enriched session in camelCase"',
    "With WORKER_OUTPUT_CASE=camel the record is as enriched-session.v1.camel.schema.json says.": (
        "This is the form of WORKER_OUTPUT_CASE=camel; only the names of fields differ from"
        " enriched-session.v1.schema.json."
    ),
}


def derived() -> str:
    """The text of the twin. Names in examples and in descriptions are respelled too."""
    text = (documents.DIRECTORY / f"{documents.ENRICHED}.schema.json").read_text("utf-8")
    for old, new in _HEAD.items():
        if text.count(old) != 1:
            raise ValueError(f"expected once in {documents.ENRICHED}: {old}")
        text = text.replace(old, new)
    names = {place.path[-1] for place in documents.fields(documents.schema(documents.ENRICHED))}
    respelled = "|".join(sorted(name for name in names if "_" in name))
    return re.sub(rf"\b({respelled})\b", lambda match: documents.camel(match[0]), text)


if __name__ == "__main__":
    TWIN.write_text(derived(), "utf-8")
