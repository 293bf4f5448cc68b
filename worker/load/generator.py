"""The synthetic stream: seeded, deterministic, interleaved as a real one is (session semantics, section 8).

The same mix and seed give the same bytes. Within a session events come in the order its
client sent them; across sessions they interleave, `Mix.concurrent_sessions` at a time.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator
from itertools import accumulate, count, islice
from typing import Final

from worker.load.catalogue import catalogue
from worker.load.client import Client, Mishaps, Outgoing
from worker.load.event import StreamEvent
from worker.load.mix import FULL_SIZE_SESSIONS, Mix
from worker.load.producers import PRODUCERS
from worker.load.shopper import Shopper

START_MS: Final = 1_795_341_600_000
"""The first event's time by default, 2026-11-22T10:00:00Z; later events follow one per millisecond."""

HOT_PROFILE: Final = "customer-hot"
_HOT_PRODUCER: Final = PRODUCERS[0]
_HOT_LINES: Final = 8
_PRODUCER_WEIGHTS: Final = list(accumulate(producer.share for producer in PRODUCERS))


def generate(sessions: int | None, seed: int) -> Iterator[StreamEvent]:
    """The stream of that many sessions with the shares of section 8; None = full-size streams without end.

    Integration ids are `order-<seed>-<number>`, the hot key's is `order-<seed>-hot`. Of an endless stream
    the later parts have `order.2-…`, `order.3-…` and so on, each with a hot key and a hot profile of its own.
    """
    if sessions is not None:
        yield from play(Mix.of(sessions), seed)
        return
    start_ms = START_MS
    for part in count(1):
        name = "order" if part == 1 else f"order.{part}"
        for event in play(Mix.of(FULL_SIZE_SESSIONS), seed, name=name, start_ms=start_ms):
            yield event
            start_ms = event.timestamp_ms + 1


def play(mix: Mix, seed: int, *, name: str = "order", start_ms: int = START_MS) -> Iterator[StreamEvent]:
    """The stream of a mix, every session played to its end. Record times rise by one millisecond per event."""
    rng = random.Random(f"{name}-{seed}")
    crowd = _Crowd(mix, rng, f"{name}-{seed}")
    hot = crowd.hot() if mix.hot_key_updates else None
    hot_share = mix.hot_key_updates / mix.all_events
    waiting = crowd.clients()
    live = list(islice(waiting, mix.concurrent_sessions))
    for now_ms in count(start_ms):
        if hot is not None and (not live or rng.random() < hot_share):
            yield _timed(hot.send(now_ms), now_ms)
            hot = None if hot.is_done else hot
        elif live:
            at = int(rng.random() * len(live))
            yield _timed(live[at].send(now_ms), now_ms)
            if live[at].is_done and (newcomer := next(waiting, None)) is not None:
                live[at] = newcomer
            elif live[at].is_done:
                live[at] = live[-1]
                live.pop()
        else:
            return


def _timed(outgoing: Outgoing, now_ms: int) -> StreamEvent:
    kind, key, value, headers = outgoing
    return StreamEvent(kind, key, value, now_ms, headers)


class _Crowd:
    """Makes the sessions of one stream: who they are, which producer they use, and what they will do."""

    def __init__(self, mix: Mix, rng: random.Random, name: str) -> None:
        self._mix = mix
        self._rng = rng
        self._name = name
        self._products = catalogue(rng)
        self._mishaps = Mishaps(mix, rng)
        self._log_median_lines = math.log(mix.median_lines)
        sessions = max(1, mix.sessions)
        per_closed_session = mix.all_events / (sessions * mix.ever_closed)
        self._late_update = mix.late_updates * per_closed_session
        self._spurious_open = mix.spurious_opens * per_closed_session
        self._closed_before_open = mix.closed_before_open * mix.all_events / sessions
        self._hot_profile = mix.hot_profile_sessions / sessions

    def clients(self) -> Iterator[Client]:
        """Every session but the hot key, in order of appearance."""
        for number in range(self._mix.sessions):
            yield self._client(number)

    def hot(self) -> Client:
        """The one session with thousands of updates; it is never closed."""
        plan = deque(["created", *["updated"] * (self._mix.hot_key_updates - 1)])
        shopper = Shopper(self._rng, self._products, _HOT_PRODUCER, "customer-vip", _HOT_LINES)
        return Client(self._rng, self._mishaps, f"{self._name}-hot", shopper, plan, "")

    def _client(self, number: int) -> Client:
        mix, rng = self._mix, self._rng
        producer = rng.choices(PRODUCERS, cum_weights=_PRODUCER_WEIGHTS)[0]
        profile_id = self._profile()
        # The hot profile is always known: its sessions are counted by those that name it.
        anonymous = profile_id != HOT_PROFILE and rng.random() < mix.anonymous / (1.0 - self._hot_profile)
        binds = anonymous and rng.random() < mix.bound_later
        lines = min(mix.max_lines, max(1, round(rng.lognormvariate(self._log_median_lines, mix.lines_sigma))))
        shopper = Shopper(rng, self._products, producer, "" if anonymous else profile_id, lines)
        plan = self._plan(binds)
        return Client(rng, self._mishaps, f"{self._name}-{number}", shopper, plan, profile_id)

    def _profile(self) -> str:
        """The hot profile, or one of so many customers that some come back."""
        if self._rng.random() < self._hot_profile:
            return HOT_PROFILE
        return f"customer-{int(self._rng.random() * self._mix.sessions * 2)}"

    def _plan(self, binds: bool) -> deque[str]:
        """The kinds of a session's own updates, in order."""
        mix, rng = self._mix, self._rng
        ending = self._ending()
        transitions = [kind for kind in ending if kind in ("closed", "cancelled", "cancelled_after_close")]
        stay = mix.mean_further_updates / (1.0 + mix.mean_further_updates)
        geometric = int(math.log(1.0 - rng.random()) / math.log(stay)) if stay else 0
        steps = max(1 + geometric - len(transitions), 2 if binds else 1)
        plan = deque(["created", *["updated"] * (steps - 1)])
        if binds:
            plan[rng.randrange(1, steps)] = "bound"
        if rng.random() < self._closed_before_open:
            plan.appendleft("closed_before_open")
        plan.extend(ending)
        return plan

    def _ending(self) -> list[str]:
        """How a session ends, and what is sent to it after it was closed."""
        mix, rng = self._mix, self._rng
        drawn = rng.random()
        if drawn < mix.cancelled:
            return ["cancelled"]
        if drawn >= mix.cancelled + mix.ever_closed:
            return []
        ending = ["closed"]
        if rng.random() < self._spurious_open:
            ending.append("spurious_open")
        if drawn < mix.cancelled + mix.cancelled_after_close:
            ending.append("cancelled_after_close")
        if rng.random() < self._late_update:
            ending.append("late_update")
        return ending
