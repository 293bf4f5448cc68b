"""The shop behind the synthetic stream. Cart lines are JSON text, so that prices keep their exact digits."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

import orjson

PRODUCTS: Final = 1_500

_COLOURS: Final = ("red", "ivory", "blue", "slate", "green", "crème", "copper", "black")
_THINGS: Final = ("lantern", "teacup", "wool scarf", "jigsaw", "alarm clock", "lunch box", "T-light holder", "doormat")
_CATEGORIES: Final = ("garden", "kitchen", "clothing", "toys", "home")
_CENTS: Final = ("99", "95", "50", "49", "25", "85", "10")


@dataclass(frozen=True, slots=True)
class Product:
    """A product's cart line as JSON text around its quantity and its price; `price` is a JSON number as text."""

    before_quantity: bytes
    price: bytes
    after_price: bytes

    def line(self, quantity: int, *, quoted: bool = False) -> orjson.Fragment:
        """One cart line; `quoted` writes the price as a JSON string, as decimal-minded producers do."""
        price = b'"%s"' % self.price if quoted else self.price
        return orjson.Fragment(b'%s%d,"price":%s%s' % (self.before_quantity, quantity, price, self.after_price))


def catalogue(rng: random.Random) -> list[Product]:
    """PRODUCTS products, about half of them with a category and a tenth with everything a cart line can carry."""
    return [_product(rng, number) for number in range(PRODUCTS)]


def price_text(rng: random.Random) -> str:
    """A price as its digits: mostly cents, some whole, some with more digits than a cent has."""
    whole = rng.randint(0, 120)
    kind = rng.random()
    if kind < 0.70:
        return f"{whole}.{rng.choice(_CENTS)}"
    if kind < 0.80:
        return str(whole)
    if kind < 0.90:
        return f"{whole}.{rng.randint(0, 9)}"
    if kind < 0.97:
        return f"{whole}.{rng.randint(0, 999):03}"
    return f"{whole}.{rng.randint(0, 9_999):04}"


def _product(rng: random.Random, number: int) -> Product:
    name = f"{rng.choice(_COLOURS)} {rng.choice(_THINGS)}"
    before = f'{{"name":"{name}","sku":"SKU-{number:05}","quantity":'
    after = ""
    kind = rng.random()
    if kind < 0.50:
        after += f',"category":"{rng.choice(_CATEGORIES)}"'
    if kind < 0.10:
        after += f',"weight":{rng.randint(0, 9)}.{rng.randint(0, 999):03},"height":{rng.randint(1, 90)}'
        after += f',"width":{rng.randint(1, 90)}.5,"length":{rng.randint(1, 90)},"position":{rng.randint(0, 9)}'
        after += f',"attributes":{{"colour":"{rng.choice(_COLOURS)}","fragile":{rng.choice(("true", "false"))}}}'
    if kind < 0.05:
        after += ',"adjustment":{"type":"manual","amount":-0.50,"note":"price match"}'
    return Product(before.encode(), price_text(rng).encode(), f"{after}}}".encode())
