"""Nothing a producer sends makes the worker stumble: every record gets one outcome, every refusal a reason."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from tests.schemas.stage import Answer, Stage
from tests.wire import strict_json
from tests.wire.hostile import ANY_JSON, NOISE, damaged, plausible
from worker.agents.sessions import SessionsConfig
from worker.session.model import Limits
from worker.session.rejections import CODES, Rejected
from worker.wire import document
from worker.wire.update import decode

NOW_MS: Final = 1_795_342_530_123
KEYS: Final = st.sampled_from([None, None, None, b"order-1", b"order-2", b"", b"\xff", "bestellung-ß".encode()])
VALUES: Final = st.one_of(NOISE, ANY_JSON, damaged(), damaged(), damaged(), damaged(), plausible())


def valid(member: str) -> bytes:
    """An update that is fine but for what `member` adds to it."""
    return f'{{"integration_id":"order-1","application_id":7,{member}"customer_session":{{}}}}'.encode()


HOSTILE: Final = {
    "nothing": b"",
    "blanks": b" \t\r\n",
    "byte order mark": b"\xef\xbb\xbf" + valid(""),
    "UTF-16": valid("").decode().encode("utf-16"),
    "latin-1": valid('"x":"é",').decode().encode("latin-1"),
    "a null byte behind": valid("") + b"\x00",
    "two documents": valid("") * 2,
    "half a surrogate pair": valid('"event_id":"\\ud800",'),
    "a surrogate pair upside down": valid('"event_id":"\\udc00\\ud800",'),
    "half a pair where nobody looks": valid('"x":{"\\ud800":1},'),
    "half a pair that is hidden by a later member": valid('"x":"\\ud800","x":1,'),
    "encoded surrogate": valid('"x":"?",').replace(b"?", b"\xed\xa0\x80"),
    "control character": valid('"x":"\n",'),
    "array 2,000 deep": valid(f'"x":{"[" * 2000 + "]" * 2000},'),
    "object 2,000 deep": valid('"x":' + '{"a":' * 2000 + "1" + "}" * 2000 + ","),
    "attributes 2,000 deep": b'{"integration_id":"o","customer_session":{"attributes":'
    + b'{"a":' * 2000
    + b"1"
    + b"}" * 2002,
    "attributes 101 deep": b'{"customer_session":{"attributes":'
    + b'{"a":' * 99
    + b"1"
    + b"}" * 100
    + b',"integration_id":"o"}',
    "opened 100,000 times": b"[" * 100_000,
    "opened as objects": b'{"a":' * 100_000,
    "a number of 100,000 digits": valid(f'"sequence":{"9" * 100_000},'),
    "an unknown number of 100,000 digits": valid(f'"x":{"9" * 100_000},'),
    "an exponent of 100,000 digits": valid(f'"x":1e{"9" * 100_000},'),
    "an id of 100,000 characters": valid('"event_id":"?",').replace(b"?", b"x" * 100_000),
    "a name of 100,000 characters": valid('"?":1,').replace(b"?", b"x" * 100_000),
    "10,000 members": valid("".join(f'"{number}":{number},' for number in range(10_000))),
    "10,000 times the same member": valid('"sequence":1,' * 10_000),
}


def play(value: bytes | None, key: bytes | None, *, negative: bool = False) -> Answer:
    """The answer to a record after a session order-1 was created. The stage asserts that it is exactly one, and
    puts what is emitted before the judge of the schemas: dead-letter code, pointer and all."""
    stage = Stage(SessionsConfig(limits=Limits(allow_negative_prices=negative)))
    stage.send(valid(""))
    return stage.send(value, key)


def assert_reasoned(answer: Answer, value: bytes | None) -> None:
    """A refusal has a code of the closed set, and a pointer to a place of the event or to it as a whole."""
    if answer.outcome != "rejected":
        return
    assert answer.reason["dead_letter.code"] in CODES
    assert answer.reason["dead_letter.message"]
    pointer = answer.reason["dead_letter.pointer"]
    if pointer:
        assert leads_somewhere(pointer, strict_json.read(value or b""))


def leads_somewhere(pointer: str, value: Any) -> bool:
    """Whether what a JSON pointer names is there, or is missing from an object that is."""
    root, *way = (step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/"))
    assert root == ""
    for step in way[:-1]:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return isinstance(value, dict) or (isinstance(value, list) and 0 <= int(way[-1]) < len(value))


@settings(max_examples=350, deadline=None)
@given(VALUES, KEYS, st.booleans())
def test_whatever_comes_gets_exactly_one_outcome_and_a_refusal_a_reason(
    value: bytes, key: bytes | None, negative: bool
) -> None:
    answer = play(value, key, negative=negative)
    event(answer.reason.get("dead_letter.code", answer.outcome))
    assert_reasoned(answer, value)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_known_to_break_parsers_breaks_nothing_here(name: str) -> None:
    assert_reasoned(play(HOSTILE[name], None), HOSTILE[name])


def test_a_tombstone_is_malformed_with_or_without_a_key() -> None:
    for key in (None, b"order-1", b"\xff"):
        answer = play(None, key)
        assert answer.reason["dead_letter.code"] == "malformed"
        assert answer.reason["dead_letter.state"] == ("open" if key == b"order-1" else "")


def is_an_event(value: bytes) -> bool:
    """By a parser that shares nothing with the worker's: whether the bytes are one JSON object, not too deep."""
    try:
        opened = strict_json.read(value)
    except strict_json.NotJson:
        return False
    return isinstance(opened, dict) and strict_json.depth(opened) <= document.MAX_DEPTH


@settings(max_examples=400, deadline=None)
@given(VALUES)
@example(valid('"x":"\\ud800","x":1,'))
@example(valid(f'"x":{"[" * 99 + "]" * 99},'))
@example(valid(f'"x":{"[" * 100 + "]" * 100},'))
@example(valid(f'"x":"{"[" * 2000}",'))
def test_malformed_as_a_whole_is_what_a_strict_parser_refuses(value: bytes) -> None:
    update = decode(value, None, NOW_MS)
    refused = isinstance(update, Rejected) and update.code == "malformed" and update.path == ()
    event("malformed" if refused else "opened")
    assert refused == (not is_an_event(value))


@pytest.mark.parametrize("name", HOSTILE)
def test_of_what_breaks_parsers_malformed_is_what_a_strict_parser_refuses(name: str) -> None:
    update = decode(HOSTILE[name], None, NOW_MS)
    refused = isinstance(update, Rejected) and update.code == "malformed"
    assert refused == (not is_an_event(HOSTILE[name]))


def test_the_time_for_a_value_grows_with_its_length() -> None:
    # A string that is never closed, full of escaped quotes, behind enough brackets to make somebody count them.
    # Milliseconds are plenty; at the square of the length it is seconds here, and hours at a megabyte.
    value = b"[" * (document.MAX_DEPTH + 1) + b'"' + b'\\"' * 10_000
    started = time.process_time()
    decode(value, None, NOW_MS)
    assert time.process_time() - started < 0.2


LONG: Final = "é" * 1990


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"additional_costs":{"a/b~c":{"price":"x"}}}', "/customer_session/additional_costs/a~1b~0c/price"),
        ('{"additional_costs":{"":{"price":"x"}}}', "/customer_session/additional_costs//price"),
        ('{"additionalCosts":{"~1":{}}}', "/customer_session/additionalCosts/~01/price"),
        ('{"attributes":{"cart_items":[{"/":1e99}]}}', "/customer_session/attributes/cart_items/0/~1"),
        ('{"coupon_codes":["A"],"couponCodes":["B"]}', "/customer_session/coupon_codes"),
        (f'{{"additional_costs":{{"{LONG}":{{}}}}}}', "/customer_session/additional_costs"),  # too long to point at
    ],
)
def test_a_pointer_names_the_place_as_the_producer_wrote_it(body: str, pointer: str) -> None:
    answer = play(valid("").replace(b"{}", body.encode()), b"order-1")
    assert answer.reason["dead_letter.pointer"] == pointer
