"""One simulated session: what a client changes step by step, and the body it sends for it."""

from __future__ import annotations

import random
from enum import StrEnum
from typing import Any, Final

import orjson

from worker.load.catalogue import Product, price_text
from worker.load.producers import Completeness, Producer

_COUPONS: Final = ("WELCOME10", "Sommer-2026", "freeship", "FREESHIP", "BLACKFRIDAY", "ÉTÉ-25")
_ATTRIBUTES: Final = ("channel", "gift_wrap", "note", "campaign", "loyalty_points", "address")
_COSTS: Final = ("shipping", "service_fee", "gift_wrap")


class Field(StrEnum):
    """The body fields a shopper can change."""

    CART_ITEMS = "cart_items"
    ADDITIONAL_COSTS = "additional_costs"
    COUPON_CODES = "coupon_codes"
    REFERRAL_CODE = "referral_code"
    IDENTIFIERS = "identifiers"
    PROFILE_ID = "profile_id"


class Shopper:
    """A session as its client sees it.

    `change` moves it one step; `body` is what the client then sends. The client believes everything it
    sent was taken. Not thread-safe; all randomness comes from `rng`.
    """

    __slots__ = (
        "_attribute_changes",
        "_changed",
        "_products",
        "_rng",
        "_spelled",
        "_target_lines",
        "_values",
        "attributes",
        "producer",
        "state",
    )

    def __init__(
        self,
        rng: random.Random,
        products: list[Product],
        producer: Producer,
        profile_id: str,
        target_lines: int,
    ) -> None:
        self._rng = rng
        self._products = products
        self._target_lines = target_lines
        self.producer = producer
        self.state = "open"
        self.attributes: dict[str, Any] = {}
        self._values: dict[Field, Any] = {
            Field.PROFILE_ID: profile_id,
            Field.COUPON_CODES: [],
            Field.REFERRAL_CODE: "",
            Field.CART_ITEMS: [],
            Field.ADDITIONAL_COSTS: {},
            Field.IDENTIFIERS: [],
        }
        # `identifiers` is one word, the same in every spelling.
        self._spelled: dict[Field, str] = {field: getattr(producer.spelling, field, field.value) for field in Field}
        self._changed: set[Field] = set()
        self._attribute_changes: dict[str, Any] = {}

    def bind(self, profile_id: str) -> None:
        """The shopper logs in."""
        self._values[Field.PROFILE_ID] = profile_id
        self._changed.add(Field.PROFILE_ID)

    def change(self, progress: float) -> None:
        """Changes something; the cart grows to its target as `progress` goes to 1."""
        rng = self._rng
        cart = self._values[Field.CART_ITEMS]
        wanted = max(1, round(self._target_lines * progress))
        if len(cart) < wanted:
            self._values[Field.CART_ITEMS] = cart + [self._line() for _ in range(wanted - len(cart))]
            self._changed.add(Field.CART_ITEMS)
        elif rng.random() < 0.5:
            self._edit_cart()
        if rng.random() < 0.15:
            self._change_codes()
        if rng.random() < 0.20:
            self._change_costs()
        if rng.random() < 0.20 or not self._changed:
            self._change_attributes()

    def body(self, state: str | None, *, first: bool = False) -> dict[str, Any]:
        """The update's body, spelled as the producer spells; forgets what was changed.

        `state` is the state to ask for, None for a producer's habit: those that send the full body
        send the state they know, the others none.
        """
        completeness = self.producer.completeness
        full = completeness is Completeness.FULL
        spelled = self._spelled
        if full:
            body = {spelled[field]: value for field, value in self._values.items()}
        else:
            body = {spelled[field]: self._values[field] for field in Field if field in self._changed}
            if first and (profile_id := self._values[Field.PROFILE_ID]):
                body[spelled[Field.PROFILE_ID]] = profile_id
            if completeness is Completeness.NULLS:
                for name in spelled.values():
                    body.setdefault(name, None)
        if self._attribute_changes or full:
            body["attributes"] = {**self.attributes, **self._attribute_changes} if full else self._attribute_changes
        if state is not None:
            body["state"] = self.state = state
        elif full:
            body["state"] = self.state
        if self.producer.echoes_server_fields:
            body["total"] = 0
            body["first_session"] = True
            body["created"] = "2001-01-01T00:00:00Z"
        self._changed.clear()
        self._attribute_changes = {}
        return body

    def _line(self) -> orjson.Fragment:
        rng = self._rng
        quantity = 1 if rng.random() < 0.7 else rng.randint(2, 12)
        product = self._products[int(rng.random() * len(self._products))]
        return product.line(quantity, quoted=self.producer.quotes_prices)

    def _edit_cart(self) -> None:
        """Replaces a line, takes one out, or rarely empties the cart. Never in place: bodies sent hold the list."""
        rng = self._rng
        cart = list(self._values[Field.CART_ITEMS])
        at = int(rng.random() * len(cart))
        kind = rng.random()
        if kind < 0.04:
            cart = []
        elif kind < 0.25 and len(cart) > 1:
            del cart[at]
        else:
            cart[at : at + 1] = [self._line()]
        self._values[Field.CART_ITEMS] = cart
        self._changed.add(Field.CART_ITEMS)

    def _change_codes(self) -> None:
        """Coupons are added, repeated or cleared; sometimes the referral code or the identifiers move instead."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.6:
            coupons = self._values[Field.COUPON_CODES]
            clears = bool(coupons) and rng.random() < 0.3
            self._values[Field.COUPON_CODES] = [] if clears else [*coupons[-4:], rng.choice(_COUPONS)]
            self._changed.add(Field.COUPON_CODES)
        elif kind < 0.8:
            referral = "" if self._values[Field.REFERRAL_CODE] else f"FRIEND-{rng.randint(1, 9_999)}"
            self._values[Field.REFERRAL_CODE] = referral
            self._changed.add(Field.REFERRAL_CODE)
        else:
            self._values[Field.IDENTIFIERS] = [f"device-{rng.randint(1, 999)}" for _ in range(rng.randint(0, 5))]
            self._changed.add(Field.IDENTIFIERS)

    def _change_costs(self) -> None:
        rng = self._rng
        costs: dict[str, Any] = {}
        for name in _COSTS[: rng.randint(0, len(_COSTS))]:
            price = price_text(rng)
            costs[name] = {"price": orjson.Fragment(f'"{price}"' if self.producer.quotes_prices else price)}
        self._values[Field.ADDITIONAL_COSTS] = costs
        self._changed.add(Field.ADDITIONAL_COSTS)

    def _change_attributes(self) -> None:
        """Sets one attribute to a JSON value of some type, or removes one by null (the merge of section 3)."""
        rng = self._rng
        name = rng.choice(_ATTRIBUTES)
        if name in self.attributes and rng.random() < 0.25:
            del self.attributes[name]
            self._attribute_changes[name] = None
            return
        value: Any
        match name:
            case "gift_wrap":
                value = rng.random() < 0.5
            case "loyalty_points":
                value = rng.randint(0, 10**6)
            case "address":
                value = {"city": rng.choice(("Köln", "Leeds", "Brno")), "lines": [rng.randint(1, 99), "Main St"]}
            case "note":
                value = rng.choice(('leave at the "back door"', "ring twice\n", "🎁 für Zoë", ""))
            case _:
                value = f"{name}-{rng.randint(1, 20)}"
        self.attributes[name] = value
        self._attribute_changes[name] = value
