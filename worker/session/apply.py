"""One update meets one stored session: the whole decision, pure (session semantics, section 5).

An update is all or nothing. Whatever the outcome, `stored` is not touched; what is new comes back in the
outcome, and nothing of a rejected or duplicate update remains anywhere.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from worker.session import limits as session_limits
from worker.session import totals, transitions
from worker.session.content import EMPTY, first_difference, merged
from worker.session.model import Content, EventType, Limits, Number, Session, State, Update
from worker.session.rejections import Rejected


class Accepted(Struct, frozen=True, gc=False):
    """The session changed: one revision more, one output record."""

    session: Session
    """Its first_session is the one before the update; the answer to `claims` decides it, if there is one."""
    type: EventType
    previous_state: State | None
    """None: the update created the session."""
    claims: str | None
    """The profile_id this update binds the session to, None when it binds to none. first_session is then whether
    this session owns the profile's claim: the first binding in the order of the claim log makes it."""


class Unchanged(Struct, frozen=True, gc=False):
    """The update asks for what is already there: no revision, no output."""

    session: Session
    """The entity is the stored one to the byte; the remembered event_id and the sequence may have moved. With
    neither in the update it is the stored object itself."""


class Duplicate(Struct, frozen=True, gc=False):
    """The same event came before, within the window: nothing happens."""


Outcome: TypeAlias = Accepted | Unchanged | Duplicate | Rejected


def apply(stored: Session | None, update: Update, limits: Limits) -> Outcome:
    """Decides one update. `stored` is the session of `update.integration_id`, None when there is none yet.

    The checks run in the order of session semantics, section 5; the first that fails names the reason.
    """
    # 1. Decode and schema are behind us: an Update is well-formed. Limits.
    refusal = session_limits.check(update, limits)
    if refusal is not None:
        return refusal
    if stored is None:
        return _create(update, limits)
    # 2. event_id
    if update.event_id is not None:
        digest = stored.recent_events.get(update.event_id)
        if digest is not None:
            return Duplicate() if digest == update.body_digest else _EVENT_ID_CONFLICT
    # 3. Sequence
    if update.sequence is not None and stored.sequence is not None and update.sequence <= stored.sequence:
        return _stale(update.sequence, stored.sequence)
    # 4. Application
    if update.application_id is not None and update.application_id != stored.application_id:
        return _application_mismatch(update.application_id, stored.application_id)
    # 5. Transition
    legal = transitions.LEGAL.get((stored.state, update.state))
    if legal is None:
        assert update.state is not None, "no requested state is legal in every state"
        return transitions.invalid(stored.state, update.state)
    state, handling = legal
    # 6. Content
    before = stored.content
    after = before if handling == "ignore" else merged(before, update)
    if state == stored.state:
        if after == before:
            return Unchanged(_with_bookkeeping(stored, update, limits))
        if handling == "compare":
            return _final(stored.state, before, after)
    return _accept(stored, state, after, update, limits)


def _create(update: Update, limits: Limits) -> Accepted | Rejected:
    """The first event of a session: an empty open session, then merged like any other."""
    if update.application_id is None:
        return _APPLICATION_REQUIRED
    if update.state is not None and update.state != "open":
        return transitions.must_start_open(update.state)
    unborn = Session(
        integration_id=update.integration_id,
        created=update.occurred_at,
        application_id=update.application_id,
        state="open",
        content=EMPTY,
        first_session=True,
        cart_item_total="0",
        additional_cost_total="0",
        total="0",
        revision=0,
        sequence=None,
        recent_events={},
    )
    return _accept(unborn, "open", merged(EMPTY, update), update, limits)


def _accept(before: Session, state: State, content: Content, update: Update, limits: Limits) -> Accepted:
    """The session with the new content and state, and its totals."""
    cart_item_total, additional_cost_total, total = _totals(before, content, update)
    claims = None if content.profile_id == before.content.profile_id else content.profile_id
    session = Session(
        before.integration_id,
        before.created,
        before.application_id,
        state,
        content,
        before.first_session,
        cart_item_total,
        additional_cost_total,
        total,
        before.revision + 1,
        before.sequence if update.sequence is None else update.sequence,
        _remembered(before.recent_events, update, limits.duplicate_window),
    )
    created = before.revision == 0
    event_type: EventType = "session_created" if created else transitions.EVENT_TYPES[before.state, state]
    return Accepted(session, event_type, None if created else before.state, claims)


def _totals(before: Session, content: Content, update: Update) -> tuple[Number, Number, Number]:
    """The totals of the new content; what did not change is not added up again."""
    old, cart, costs = before.content, update.cart, update.additional_costs
    new_cart = cart is not None and content.cart_items != old.cart_items
    new_costs = costs is not None and content.additional_costs != old.additional_costs
    if not (new_cart or new_costs):
        return before.cart_item_total, before.additional_cost_total, before.total
    return totals.written(
        totals.cart_item_total(cart.prices, cart.quantities) if cart and new_cart else Decimal(before.cart_item_total),
        totals.additional_cost_total(costs.prices) if costs and new_costs else Decimal(before.additional_cost_total),
    )


def _with_bookkeeping(stored: Session, update: Update, limits: Limits) -> Session:
    """The stored entity, with what an unchanged update leaves behind."""
    recent = _remembered(stored.recent_events, update, limits.duplicate_window)
    sequence = stored.sequence if update.sequence is None else update.sequence
    if recent is stored.recent_events and sequence == stored.sequence:
        return stored
    return replace(stored, sequence=sequence, recent_events=recent)


def _remembered(recent: dict[str, bytes], update: Update, window: int) -> dict[str, bytes]:
    """The event_ids to remember after this update, the oldest beyond the window forgotten."""
    if update.event_id is None or window == 0:
        return recent
    remembered = {**recent, update.event_id: update.body_digest}
    while len(remembered) > window:
        del remembered[next(iter(remembered))]
    return remembered


_EVENT_ID_CONFLICT = Rejected(
    "event_id_conflict", "An earlier event of this session had the same event_id and another body", ("event_id",)
)
_APPLICATION_REQUIRED = Rejected(
    "schema_invalid", "application_id is required by the event that creates a session", ("application_id",)
)


def _stale(sequence: int, last: int) -> Rejected:
    return Rejected("stale", f"sequence {sequence} is not after {last}, the last one applied", ("sequence",))


def _application_mismatch(application_id: int, stored: int) -> Rejected:
    message = f"This session belongs to application {stored}, not {application_id}"
    return Rejected("application_mismatch", message, ("application_id",))


def _final(state: State, before: Content, after: Content) -> Rejected:
    field = first_difference(before, after) or ""
    message = f"The session is {state} and takes no more changes; this event would change {field}"
    return Rejected(transitions.FINAL_CODES[state], message, ("customer_session", field))
