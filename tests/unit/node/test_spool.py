"""The journal: what was told survives, once, in order."""

import os
from pathlib import Path

import pytest

from tesra.node.spool import Note, Spool, told
from tesra.wire.site import Ended, Preparing, Usage

NOTE = Note(fence=7, nodes=("nod_1",))
PREPARING = Preparing(phase="building")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "journal"


def opened(path: Path) -> Spool:
    spool = Spool(path)
    spool.open()
    return spool


def test_new_journal_draws_a_boot_id_that_a_restart_keeps(path: Path) -> None:
    first = opened(path)
    first.close()
    assert opened(path).boot_id == first.boot_id


def test_messages_and_notes_survive_a_restart(path: Path) -> None:
    spool = opened(path)
    spool.append("att_1", NOTE, [PREPARING, Ended(outcome="lost")])
    again = opened(path)
    assert [message.seq for message in again.pending(10)] == [1, 2]
    assert again.notes == {"att_1": NOTE}
    again.append("att_1", NOTE, [PREPARING])
    assert again.pending(10)[-1].seq == 3


@pytest.mark.parametrize("torn", range(1, 60, 7))
def test_torn_last_line_is_cut_off_and_its_number_used_again(path: Path, torn: int) -> None:
    spool = opened(path)
    spool.append("att_1", NOTE, [PREPARING])
    spool.append("att_2", NOTE, [PREPARING])
    path.write_bytes(path.read_bytes()[:-torn])
    again = opened(path)
    assert [message.attempt for message in again.pending(10)] == ["att_1"]
    again.append("att_3", NOTE, [PREPARING])
    assert [message.seq for message in opened(path).pending(10)] == [1, 2]


def test_what_is_told_together_is_on_disk_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, synced = opened(path), []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes()))
    with spool.together():
        spool.append("att_1", NOTE, [PREPARING])
        spool.append("att_2", NOTE, [PREPARING])
        assert not synced
    assert len(synced) == 1
    assert b"att_1" in synced[0]
    assert b"att_2" in synced[0]
    with spool.together():
        pass
    spool.append("att_3", NOTE, [PREPARING])
    assert len(synced) == 2


def test_acknowledged_messages_are_not_offered_again(path: Path) -> None:
    spool = opened(path)
    spool.append("att_1", NOTE, [PREPARING] * 3)
    spool.acknowledge(2)
    assert [message.seq for message in spool.pending(10)] == [3]
    assert spool.waits("att_1")
    spool.acknowledge(3)
    assert not spool.waits("att_1")


def test_server_tells_a_restarted_site_what_it_has_already(path: Path) -> None:
    opened(path).append("att_1", NOTE, [PREPARING] * 3)
    again = opened(path)
    again.align(2)
    assert [message.seq for message in again.pending(10)] == [3]


@pytest.mark.parametrize("high_water", [0, 9])
def test_sequence_has_no_hole_after_either_side_went_back_in_time(
    path: Path, high_water: int
) -> None:
    spool = opened(path)
    spool.append("att_1", NOTE, [PREPARING] * 3)
    spool.acknowledge(3)
    spool.align(high_water)
    spool.append("att_1", NOTE, [PREPARING] * 2)
    numbers = [message.seq for message in opened(path).pending(10)][-2:]
    assert numbers == [high_water + 1, high_water + 2]


def test_long_journal_is_replaced_by_a_short_one(path: Path) -> None:
    spool = opened(path)
    long = Ended(outcome="failed", reason="x" * 8000)
    for _ in range(140):
        spool.append("att_1", NOTE, [long])
    spool.acknowledge(140)
    assert path.stat().st_size < 1000
    spool.append("att_1", NOTE, [PREPARING])
    again = opened(path)
    assert [message.seq for message in again.pending(10)] == [141]
    assert again.notes == {"att_1": NOTE}


def test_forgotten_attempt_has_no_note_after_a_restart(path: Path) -> None:
    spool = opened(path)
    spool.append("att_1", NOTE, [PREPARING])
    spool.forget("att_1")
    again = opened(path)
    assert again.notes == {}
    assert len(again.pending(10)) == 1


def test_note_sums_up_what_was_told() -> None:
    usage = Usage(number=1, started_at="2026-01-01T00:00:00Z", duration_ms=10_000)  # type: ignore[arg-type]
    note = told(NOTE, [PREPARING, usage, Ended(outcome="succeeded")])
    assert (note.phase, note.usage, note.reported_ms, note.ended) == ("building", 1, 10_000, True)
