"""The position record: what was written once can be read for ever."""

from __future__ import annotations

import pytest

from worker.engine.position import Position, decode_position, encode_position
from worker.errors import UnknownFormat


def test_what_is_written_is_read() -> None:
    position = Position("updates", 7, 3, "0f" * 16)
    assert decode_position(encode_position(position)) == position


def test_a_record_from_before_the_topics_id_was_written_is_read() -> None:
    value = b'{"format":1,"topic":"updates","offset":7,"feedback_offset":3}'
    assert decode_position(value) == Position("updates", 7, 3, topic_id="")


@pytest.mark.parametrize("value", [b"", b"{}", b'{"format":2,"topic":"updates","offset":7,"feedback_offset":3}'])
def test_any_other_is_refused(value: bytes) -> None:
    with pytest.raises(UnknownFormat):
        decode_position(value)
