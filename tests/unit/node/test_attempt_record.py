"""What a node keeps of an attempt is there after whatever ended its agent."""

from pathlib import Path

from tesra.node.attempt_record import AttemptRecord, load_records, save_record
from tesra.node.orders import AttemptStatus, Stage


def record(phase: str) -> AttemptRecord:
    status = AttemptStatus(attempt="att_1", fence=3, stage=Stage.RUNNING, phase=phase)
    return AttemptRecord(status=status, output_path="out", ranks=(0, 1), pid=7)


def test_the_last_record_counts(tmp_path: Path) -> None:
    for phase in ("preparing", "running"):
        save_record(tmp_path / "att_1", record(phase))
    assert load_records(tmp_path) == [record("running")]


def test_a_torn_record_is_as_if_it_had_not_been_written(tmp_path: Path) -> None:
    folder = tmp_path / "att_1"
    save_record(folder, record("preparing"))
    whole = (folder / "attempt.json").read_bytes()
    save_record(folder, record("running"))
    torn = (folder / "attempt.json").read_bytes()[:-1]
    (folder / "attempt.json").write_bytes(torn)
    assert load_records(tmp_path) == [record("preparing")]
    save_record(folder, record("ended"))
    assert load_records(tmp_path) == [record("ended")]
    (folder / "attempt.json").write_bytes(whole[:10])
    assert load_records(tmp_path) == []


def test_a_record_of_a_long_life_stays_short(tmp_path: Path) -> None:
    folder = tmp_path / "att_1"
    for number in range(200):
        save_record(folder, record(f"{number} " + "x" * 10_000))
    assert load_records(tmp_path)[0].status.phase.startswith("199 ")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 300_000
