"""When a store may go on from its checkpoint, and when it must be rebuilt."""

from __future__ import annotations

import pytest

from worker.engine.checkpoint import ChangelogPartition, Checkpoint, decode_checkpoint, encode_checkpoint, unfit

HOUR_MS = 3_600_000
NOW = 1_795_341_600_000
CHANGELOG = ChangelogPartition("first", delete_retention_ms=24 * HOUR_MS, begin=10, end=100)


def at(offset: int, *, age_ms: int = 0, changelog_id: str = "first") -> Checkpoint:
    return Checkpoint(1, changelog_id, offset, NOW - age_ms)


@pytest.mark.parametrize("offset", [10, 50, 100])
def test_a_store_within_its_changelog_goes_on(offset: int) -> None:
    assert unfit(at(offset, age_ms=12 * HOUR_MS), CHANGELOG, NOW) is None


def test_an_empty_store_has_nothing_that_could_be_wrong() -> None:
    assert unfit(at(0, age_ms=999 * HOUR_MS, changelog_id=""), CHANGELOG, NOW) is None


def test_offsets_of_another_topic_of_the_same_name_say_nothing() -> None:
    assert unfit(at(50, changelog_id="second"), CHANGELOG, NOW) == "the changelog was deleted and created again"


@pytest.mark.parametrize(("offset", "reason"), [(101, "ahead of the changelog"), (9, "begins after it")])
def test_outside_the_changelog_it_is_rebuilt(offset: int, reason: str) -> None:
    assert reason in str(unfit(at(offset), CHANGELOG, NOW))


@pytest.mark.parametrize("age_ms", [12 * HOUR_MS + 1, 30 * 24 * HOUR_MS, -60_001])
def test_a_store_as_old_as_tombstones_live_or_from_the_future_is_rebuilt(age_ms: int) -> None:
    assert "forgotten deletions" in str(unfit(at(50, age_ms=age_ms), CHANGELOG, NOW))


@pytest.mark.parametrize("offset", [99, 100])
def test_age_does_not_matter_where_nothing_but_a_commit_marker_followed(offset: int) -> None:
    assert unfit(at(offset, age_ms=999 * HOUR_MS), CHANGELOG, NOW) is None


def test_a_clock_that_was_set_right_by_seconds_is_no_reason() -> None:
    assert unfit(at(50, age_ms=-5_000), CHANGELOG, NOW) is None


def test_it_is_stored_as_it_is() -> None:
    assert decode_checkpoint(encode_checkpoint(at(50))) == at(50)


@pytest.mark.parametrize("stored", [b"", b"17", b'{"format":1}', b"\x00\x01"])
def test_what_no_worker_wrote_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        decode_checkpoint(stored)


def test_another_format_is_refused_by_number() -> None:
    with pytest.raises(ValueError, match="format 2, this version reads format 1"):
        decode_checkpoint(encode_checkpoint(Checkpoint(2, "first", 5, NOW)))
