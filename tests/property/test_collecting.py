"""Which versions of a drive expire, and what is garbage then."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tesra.drive.collecting import HISTORY, VersionAt, expired, history_from, is_garbage

START = datetime(2026, 1, 1, tzinfo=UTC)
gaps = st.lists(st.integers(0, 40), min_size=1, max_size=12)


def _versions(days: list[int]) -> list[VersionAt]:
    made, found = START, []
    for number, gap in enumerate(days, 1):
        made += timedelta(days=gap)
        found.append(VersionAt(number, made))
    return found


@given(gaps, st.integers(0, 400), st.sets(st.integers(1, 12)))
def test_every_state_since_then_the_head_and_the_trash_are_kept(
    days: list[int], back: int, trashed: set[int]
) -> None:
    versions = _versions(days)
    keep_from = START + timedelta(days=back)
    gone = expired(versions, head=len(versions), trashed=trashed, keep_from=keep_from)
    assert len(versions) not in gone
    assert not gone & trashed
    for at in range(back, back + 60):  # the drive as it was on any later day
        then = START + timedelta(days=at)
        state = max((v.number for v in versions if v.made_at <= then), default=None)
        assert state not in gone
    later = expired(
        versions, head=len(versions), trashed=trashed, keep_from=keep_from + timedelta(days=1)
    )
    assert gone <= later


def test_keeping_no_history_leaves_the_head() -> None:
    versions = _versions([1, 1, 1])
    now = START + timedelta(days=100)
    assert expired(versions, head=3, trashed=(), keep_from=now) == {1, 2}
    assert expired(versions, head=3, trashed={1}, keep_from=now) == {2}


def test_history_is_never_kept_for_longer_than_the_network_does() -> None:
    assert history_from(START, None) == START - HISTORY
    assert history_from(START, START - 2 * HISTORY) == START - HISTORY
    assert history_from(START, START) == START


@given(st.sets(st.binary(min_size=2, max_size=2)), st.lists(st.binary(min_size=2, max_size=2)))
def test_a_pack_is_garbage_when_none_of_its_chunks_is_reached(
    live: set[bytes], chunks: list[bytes]
) -> None:
    assert is_garbage(chunks, live) == (not set(chunks) & live)
