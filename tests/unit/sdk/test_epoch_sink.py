"""A long upload of new data asks about few windows; one of known data about each."""

from typing import Any, cast

from tesra.sdk.transfer import EpochSink, HttpDoor


class Door:
    """Holds ``stored``; counts what it is asked."""

    def __init__(self, stored: set[bytes], *, tells: bool = True) -> None:
        self.stored = stored
        self.tells = tells
        self.asked: list[int] = []
        self.told = 0

    def missing(self, epoch: str, ids: list[str]) -> set[str]:
        self.asked.append(len(ids))
        return {chunk for chunk in ids if bytes.fromhex(chunk) not in self.stored}

    def known(self, epoch: str) -> frozenset[bytes] | None:
        self.told += 1
        return frozenset(chunk[:4] for chunk in self.stored) if self.tells else None


def chunks(first: int, count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") + bytes(28) for number in range(first, first + count)]


def sink_of(door: Door) -> EpochSink:
    return EpochSink(cast(HttpDoor, cast(Any, door)), "epo_1")


def test_after_two_windows_of_new_data_nothing_is_asked_any_more() -> None:
    door = Door(set(chunks(0, 5)))
    sink = sink_of(door)
    for window in range(5):
        ids = chunks(100 * (window + 1), 10)
        assert sink.missing(ids) == set(ids)
    assert (door.asked, door.told) == ([10, 10], 1)


def test_what_may_be_stored_is_asked_about_all_the_same() -> None:
    alike = chunks(7, 1)[0][:4] + bytes(27) + b"x"  # begins like one that is stored
    door = Door(set(chunks(0, 10)))
    sink = sink_of(door)
    sink.missing(chunks(100, 10))
    sink.missing(chunks(200, 10))
    assert sink.missing([*chunks(5, 3), alike, *chunks(300, 2)]) == {alike, *chunks(300, 2)}
    assert door.asked == [10, 10, 4]


def test_known_data_and_a_drive_that_holds_too_much_are_asked_about_window_by_window() -> None:
    for door in (Door(set(chunks(0, 50))), Door(set(), tells=False)):
        sink = sink_of(door)
        for window in range(5):
            ids = chunks(10 * window, 10)
            assert sink.missing(ids) == {chunk for chunk in ids if chunk not in door.stored}
        assert door.asked == [10] * 5
        assert door.told <= 1
