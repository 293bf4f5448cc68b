"""The members of one object of an event: which are ours, in either spelling, and which are to be ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from worker.session.model import Json
from worker.session.rejections import Path
from worker.wire import document
from worker.wire.document import Invalid

_NOTHING: Final[Mapping[str, bytes]] = {}


class Members:
    """Members that are ours under their snake_case names, and a count of the others.

    Raises Invalid(malformed) when a field is there in both spellings with different values.
    """

    def __init__(self, members: Mapping[str, Raw], fields: Mapping[str, str], path: Path) -> None:
        """`fields`: every accepted spelling → the field's name. `path` leads to the object."""
        self.ignored = 0
        self.has_camel_case = False
        self._path = path
        self._ours: dict[str, Raw] = {}
        for spelled, raw in members.items():
            name = fields.get(spelled)
            if name is None:
                self.ignored += 1
                continue
            self.has_camel_case |= name != spelled
            if name in self._ours and not document.same_value(self._ours[name], raw):
                message = f"{name} is there in both spellings, with different values"
                raise Invalid("malformed", message, self.at(name))
            self._ours[name] = raw

    def at(self, name: str) -> Path:
        """The path of a member."""
        return (*self._path, name)

    def present(self, name: str) -> Raw | None:
        """The member, even when it is null; None when it is absent."""
        return self._ours.get(name)

    def optional(self, name: str) -> Raw | None:
        """The member; None when it is absent or null."""
        raw = self._ours.get(name)
        return None if raw is None or document.kind(raw) == "null" else raw

    def required(self, name: str) -> Raw:
        """The member, even when it is null; Invalid(schema_invalid) when it is absent."""
        raw = self._ours.get(name)
        if raw is None:
            raise Invalid("schema_invalid", f"{name} is required", self.at(name))
        return raw

    def string(self, name: str, *, may_be_empty: bool = True) -> str | None:
        """An optional string."""
        raw = self.optional(name)
        return None if raw is None else document.string(raw, self.at(name), may_be_empty=may_be_empty)

    def strings(self, name: str) -> list[str] | None:
        """An optional array of strings."""
        raw = self.optional(name)
        if raw is None:
            return None
        path = self.at(name)
        return [document.string(entry, (*path, index)) for index, entry in enumerate(document.entries(raw, path))]

    def integer(self, name: str, minimum: int) -> int | None:
        """An optional 64-bit integer."""
        raw = self.optional(name)
        return None if raw is None else document.integer(raw, self.at(name), minimum)

    def canonical_object(self, name: str) -> Json | None:
        """An optional object of the caller's own, as canonical text."""
        raw = self.optional(name)
        return None if raw is None else document.canonical_object(raw, self.at(name))

    def text(self, replacing: Mapping[str, bytes] = _NOTHING) -> bytes:
        """An object of our members alone, in snake_case, those in `replacing` with another text."""
        parts = {name: bytes(raw) for name, raw in self._ours.items()}
        parts |= replacing
        return b"{%s}" % b",".join([b'"%s":%s' % (name.encode(), text) for name, text in parts.items()])
