"""One live session of the synthetic stream: what its client will send next, and what goes wrong on the way."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final, NamedTuple

from worker.load.mix import Mix
from worker.load.poison import INVALID, MALFORMED, OVER_LIMITS, Entry
from worker.load.producers import WITH_EVENT_ID_SHARE, Completeness, Envelope, encode
from worker.load.shopper import Shopper

_POISON: Final[Mapping[str, Mapping[str, Entry]]] = {
    "malformed": MALFORMED,
    "invalid": INVALID,
    "over_limits": OVER_LIMITS,
}
_WRONG_APPLICATION_OFFSET: Final = 100

Headers = tuple[tuple[str, bytes], ...]


class Outgoing(NamedTuple):
    """What a client hands to the network: a StreamEvent without its time."""

    kind: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Update(NamedTuple):
    """An update as its client remembers it, to send it again."""

    sent: Outgoing
    body: dict[str, Any]
    event_id: str | None
    sequence: int | None


class Mishaps:
    """Draws what goes wrong after an update, so that the shares of the mix come out over the whole stream.

    Broken records take the entries of each poison table in turn, so that a stream of any length holds
    as many kinds as it has room for.
    """

    def __init__(self, mix: Mix, rng: random.Random) -> None:
        self._rng = rng
        per_regular_event = mix.all_events / mix.regular_events
        rates = {
            "duplicate": mix.duplicates * per_regular_event / WITH_EVENT_ID_SHARE,
            "retry": mix.retries * per_regular_event,
            "malformed": mix.malformed * per_regular_event,
            "invalid": mix.invalid * per_regular_event,
            "over_limits": mix.over_limits * per_regular_event,
            "wrong_application": mix.wrong_applications * per_regular_event,
            "reused_event_id": mix.reused_event_ids * per_regular_event / WITH_EVENT_ID_SHARE,
        }
        self._kinds = list(rates)
        self._weights = list(rates.values())
        self._any = sum(self._weights)
        self._turns: dict[str, Iterator[tuple[str, Entry]]] = {
            table: self._in_turn(table, entries) for table, entries in _POISON.items()
        }

    def draw(self, *, has_event_id: bool) -> str | None:
        """The kind of mishap that follows an update, mostly none."""
        if self._rng.random() >= self._any:
            return None
        kind = self._rng.choices(self._kinds, self._weights)[0]
        return kind if has_event_id or kind not in ("duplicate", "reused_event_id") else None

    def poison(self, table: str, integration_id: str) -> Outgoing:
        """The next broken record of that table, made for that session."""
        name, entry = next(self._turns[table])
        key, value = entry(integration_id)
        return Outgoing(f"{table}:{name}", key, value, ())

    def _in_turn(self, table: str, entries: Mapping[str, Entry]) -> Iterator[tuple[str, Entry]]:
        while True:
            names = list(entries)
            self._rng.shuffle(names)
            for name in names:
                yield name, entries[name]


class Client:
    """A session from its first update to its last. `plan` holds the kinds of updates it will send, in order."""

    __slots__ = (
        "_key",
        "_mishaps",
        "_pending",
        "_plan",
        "_producer",
        "_profile_to_bind",
        "_rng",
        "_sequence",
        "_shopper",
        "_steps",
        "integration_id",
    )

    def __init__(
        self,
        rng: random.Random,
        mishaps: Mishaps,
        integration_id: str,
        shopper: Shopper,
        plan: deque[str],
        profile_to_bind: str,
    ) -> None:
        self.integration_id = integration_id
        self._key = integration_id.encode()
        self._rng = rng
        self._mishaps = mishaps
        self._shopper = shopper
        self._producer = shopper.producer
        self._plan = plan
        self._steps = len(plan)
        self._profile_to_bind = profile_to_bind
        self._pending: deque[tuple[str, Update]] = deque()
        self._sequence = 0

    @property
    def is_done(self) -> bool:
        return not self._plan and not self._pending

    def send(self, now_ms: int) -> Outgoing:
        """The client's next record; raises IndexError when it is done."""
        if self._pending and (not self._plan or self._rng.random() < 0.6):
            kind, update = self._pending.popleft()
            return self._go_wrong(kind, update, now_ms)
        update = self._step(self._plan.popleft(), now_ms)
        if (kind_of_mishap := self._mishaps.draw(has_event_id=update.event_id is not None)) is not None:
            self._pending.append((kind_of_mishap, update))
        return update.sent

    def _step(self, kind: str, now_ms: int) -> Update:
        """The session's next own update."""
        shopper = self._shopper
        first = kind == "created"
        match kind:
            case "closed_before_open":
                return self._update(kind, {"state": "closed"}, now_ms, names_application=True)
            case "spurious_open":
                # The client does not believe it: its next update speaks of the closed session again.
                return self._update(kind, {**shopper.body(None), "state": "open"}, now_ms)
            case "closed":
                if self._rng.random() < 0.3:
                    shopper.change(1.0)
                return self._update(kind, shopper.body("closed"), now_ms)
            case "cancelled" | "cancelled_after_close":
                return self._update(kind, shopper.body("cancelled"), now_ms)
            case _:
                if kind == "bound":
                    shopper.bind(self._profile_to_bind)
                shopper.change(1.0 - len(self._plan) / self._steps)
                return self._update(kind, shopper.body(None, first=first), now_ms, names_application=first)

    def _go_wrong(self, kind: str, update: Update, now_ms: int) -> Outgoing:
        """The mishap drawn after `update`, made now: by this time the session may have moved on."""
        match kind:
            case "duplicate":
                return update.sent._replace(kind=kind)
            case "retry":
                return self._update(kind, update.body, now_ms, repeats=update, names_application=True).sent
            case "wrong_application":
                return self._update(kind, update.body, now_ms, application_offset=_WRONG_APPLICATION_OFFSET).sent
            case "reused_event_id":
                other = {"attributes": {"note": "another body under the same event id"}}
                return self._update(kind, other, now_ms, event_id=update.event_id).sent
            case _:
                return self._mishaps.poison(kind, self.integration_id)

    def _update(
        self,
        kind: str,
        body: dict[str, Any],
        now_ms: int,
        *,
        event_id: str | None = None,
        names_application: bool = False,
        application_offset: int = 0,
        repeats: Update | None = None,
    ) -> Update:
        """One update on the wire. A retry `repeats` the sequence number of the update it repeats."""
        producer = self._producer
        if event_id is None and producer.sends_event_id:
            event_id = f"{self._rng.getrandbits(128):032x}"
        sequence = None
        if producer.sends_sequence and repeats is not None:
            sequence = repeats.sequence
        elif producer.sends_sequence:
            sequence = self._sequence = self._sequence + 1
        named = names_application or application_offset or producer.completeness is Completeness.FULL
        envelope = Envelope(
            event_id=event_id,
            integration_id=self.integration_id,
            application_id=producer.application_id + application_offset if named else None,
            occurred_at=self._occurred_at(now_ms),
            sequence=sequence,
        )
        value = encode(producer.spelling, envelope, body)
        return Update(Outgoing(kind, self._key, value, self._headers()), body, event_id, sequence)

    def _occurred_at(self, now_ms: int) -> str | None:
        """Up to 1.5 s before the record, in the producer's local time, with milliseconds."""
        offset_minutes = self._producer.utc_offset_minutes
        if offset_minutes is None:
            return None
        second, millisecond = divmod(now_ms - int(self._rng.random() * 1_500), 1_000)
        before, after = _second_text(second, offset_minutes)
        return f"{before}.{millisecond:03}{after}"

    def _headers(self) -> Headers:
        if not self._producer.traced:
            return ()
        trace = f"00-{self._rng.getrandbits(128) | 1:032x}-{self._rng.getrandbits(64) | 1:016x}-01"
        return (("traceparent", trace.encode()), ("tracestate", b"shop=mobile"))


@lru_cache(maxsize=1_024)
def _second_text(second: int, offset_minutes: int) -> tuple[str, str]:
    """What stands before and after the fraction in RFC 3339, for a second since 1970 and an offset from UTC."""
    if offset_minutes == 0:
        return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S"), "Z"
    text = datetime.fromtimestamp(second, timezone(timedelta(minutes=offset_minutes))).isoformat()
    return text[:19], text[19:]
