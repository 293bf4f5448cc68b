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
from worker.load.client import Client, Mishaps
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


def synthetic(mix: Mix, seed: int, *, start_ms: int = START_MS, prefix: str = "order") -> Iterator[StreamEvent]:
    """The stream of that mix, every session played to its end.

    Integration ids are `<prefix>-<seed>-<number>`, the hot key's is `<prefix>-<seed>-hot`. Record
    times rise by one millisecond per event from `start_ms`.
    """
    rng = random.Random(f"{prefix}-{seed}")
    crowd = _Crowd(mix, rng, f"{prefix}-{seed}")
    hot = crowd.hot() if mix.hot_key_updates else None
    hot_share = mix.hot_key_updates / mix.all_events
    waiting = crowd.clients()
    live = list(islice(waiting, mix.concurrent_sessions))
    for now_ms in count(start_ms):
        if hot is not None and (not live or rng.random() < hot_share):
            yield StreamEvent(*_timed(hot, now_ms))
            hot = None if hot.is_done else hot
        elif live:
            at = int(rng.random() * len(live))
            yield StreamEvent(*_timed(live[at], now_ms))
            if live[at].is_done and (newcomer := next(waiting, None)) is not None:
                live[at] = newcomer
            elif live[at].is_done:
                live[at] = live[-1]
                live.pop()
        else:
            return


def endless(seed: int, *, start_ms: int = START_MS) -> Iterator[StreamEvent]:
    """Streams of full size one after the other, each with sessions, a hot key and a hot profile of its own."""
    mix = Mix.of(FULL_SIZE_SESSIONS)
    for epoch in count(1):
        for event in synthetic(mix, seed, start_ms=start_ms, prefix="order" if epoch == 1 else f"order.{epoch}"):
            yield event
            start_ms = event.timestamp_ms + 1


def _timed(client: Client, now_ms: int) -> tuple[str, bytes | None, bytes | None, int, tuple[tuple[str, bytes], ...]]:
    kind, key, value, headers = client.send(now_ms)
    return kind, key, value, now_ms, headers


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
