"""A place in an event, as its producer would find it: a JSON pointer (RFC 6901) in the spelling they used."""

from __future__ import annotations

from typing import Final

from worker.session.rejections import Path
from worker.wire import document, spelling

MAX_LENGTH: Final = 2000
"""Names of a caller's own (attributes, costs) can be as long as the record. A longer pointer is cut to the
nearest object around the place, which is still right, only less exact."""


def spelled(path: Path, value: bytes | None) -> str:
    """The pointer to `path` in the event `value`. "" is the event as a whole.

    A member that is missing from the event is spelled like the members around it.
    """
    parts = _as_written(path, value) if value is not None else [str(part) for part in path]
    pointer = ""
    for part in parts:
        longer = f"{pointer}/{part.replace('~', '~0').replace('/', '~1')}"
        if len(longer) > MAX_LENGTH:
            break
        pointer = longer
    return pointer


def _as_written(path: Path, value: bytes) -> list[str]:
    try:
        members = document.open_document(value)
    except document.Invalid:
        return [str(part) for part in path]
    camel = "customerSession" in members or any(spelling.camel(name) in members for name in _TELLING)
    written: list[str] = []
    here = None
    for depth, part in enumerate(path):
        if isinstance(part, int):
            written.append(str(part))
            here = document.entries(here, path[:depth])[part] if here is not None else None
            continue
        if depth > 0:
            is_object = here is not None and document.kind(here) == "object"
            members = document.members(here, path[:depth]) if here is not None and is_object else {}
        spelled_camel = spelling.camel(part)
        name = part if part in members or (spelled_camel not in members and not camel) else spelled_camel
        written.append(name)
        here = members.get(name)
    return written


_TELLING: Final = tuple(name for name in spelling.ENVELOPE_FIELDS if "_" in name)
