"""What goes into the drive of what a script writes: whole files, only what changed, never a torn one."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from fakes.drive_door import FakeDoor
from tesra.kit.errors import QuotaExceeded
from tesra.node.checkpoint_store import CheckpointStore, Stored
from tesra.node.read_watch import ReadWatch, tells
from tesra.node.restoring import restore
from tesra.node.workspace import AttemptFolders, prepare
from tesra.sdk.transfer import fetch_snapshot
from tesra.wire.site import ResumeFrom

QUIET_S = 0.25
OLD_NS = 3_000_000_000


class Bench:
    """An attempt's folders, a drive in memory, and the store between them."""

    def __init__(self, root: Path) -> None:
        self.folders = prepare(root / "attempts", "att_1", "out")
        self.door = FakeDoor()
        self.said: list[str] = []
        self.store = self.new_store()

    def new_store(self) -> CheckpointStore:
        return CheckpointStore(self.folders, self.door, self.said.append, quiet_s=QUIET_S)  # type: ignore[arg-type]

    def write(self, place: str, data: bytes, *, ago_ns: int = OLD_NS) -> Path:
        """``place`` is ``checkpoints/…`` or ``output/…``; written so long ago."""
        kind, _, name = place.partition("/")
        path = (
            self.folders.checkpoints if kind == "checkpoints" else self.folders.output_path
        ) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        at = time.time_ns() - ago_ns
        os.utime(path, ns=(at, at))
        return path

    def fetched(self, stored: Stored | None) -> dict[str, bytes]:
        """What a snapshot holds, its manifest left out."""
        assert stored is not None
        root = self.folders.root.parent.parent / f"fetched-{stored.commit.root[:8]}"
        self.door.drive.roots["snp"] = stored.commit.root
        fetch_snapshot(self.door, "snp", root)  # type: ignore[arg-type]
        files = [path for path in root.rglob("*") if path.is_file()]
        found = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
        assert len(found) == stored.commit.file_count
        assert sum(map(len, found.values())) == stored.commit.size_bytes
        del found["checkpoint.json"]
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def npz(step: int) -> bytes:
    buffer = io.BytesIO()
    numpy.savez(buffer, step=numpy.array(step), weights=numpy.full(4000, float(step)))
    return buffer.getvalue()


def test_the_checkpoint_folder_and_what_the_output_has_of_checkpoints_are_stored(
    bench: Bench,
) -> None:
    bench.write("checkpoints/epoch-4.npz", npz(4))
    bench.write("output/best.pt", b"weights of a legacy format")
    bench.write("output/report.txt", b"no checkpoint")
    stored = bench.store.store()
    assert bench.fetched(stored).keys() == {"checkpoints/epoch-4.npz", "output/best.pt"}
    assert stored is not None
    assert (stored.newest, stored.step, stored.files) == ("checkpoints/epoch-4.npz", 4, 2)


def test_nothing_is_stored_again_and_of_a_change_only_the_change_is_read(bench: Bench) -> None:
    large = os.urandom(3_000_000)
    path = bench.write("checkpoints/large.bin", large)
    written_ns = path.stat().st_mtime_ns
    assert bench.store.store() is not None
    assert bench.store.store() is None
    sent = bench.door.sent_bytes
    path.write_bytes(bytes(3_000_000))
    os.utime(path, ns=(written_ns, written_ns))  # it looks as before, so nobody reads it
    bench.write("checkpoints/small.bin", b"new")
    assert bench.fetched(bench.store.store())["checkpoints/large.bin"] == large
    assert bench.door.sent_bytes - sent < 10_000


def test_links_and_what_is_no_file_are_never_followed(bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "secret.pt"
    secret.write_bytes(b"not the script's")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/other.pt").write_bytes(b"not the script's")
    (bench.folders.checkpoints / "link.pt").symlink_to(secret)
    (bench.folders.checkpoints / "folder").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(bench.folders.checkpoints / "pipe.pt")
    bench.folders.output_path.symlink_to(tmp_path / "elsewhere")
    assert bench.store.store() is None
    bench.write("checkpoints/own.bin", b"own")
    assert bench.fetched(bench.store.store()) == {"checkpoints/own.bin": b"own"}


def test_a_file_that_is_replaced_all_the_time_is_stored_whole(bench: Bench) -> None:
    path = bench.folders.checkpoints / "last.bin"
    ending = threading.Event()

    def replace_again_and_again() -> None:
        for count in range(10**9):
            draft = path.with_suffix(".tmp")
            draft.write_bytes(count.to_bytes(4, "big") * 50_000)
            draft.replace(path)
            if ending.wait(0.01):
                return

    writer = threading.Thread(target=replace_again_and_again)
    writer.start()
    try:
        while not path.exists():
            ending.wait(0.001)
        found = bench.fetched(bench.store.store())
    finally:
        ending.set()
        writer.join()
    data = found["checkpoints/last.bin"]
    assert len(data) == 200_000
    assert data == data[:4] * 50_000


def test_a_file_that_grows_all_the_time_is_left_out_and_said_once(bench: Bench) -> None:
    bench.write("checkpoints/done.bin", b"done")
    path = bench.folders.checkpoints / "growing.bin"
    ending = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not ending.wait(0.01):
                file.write(b"more")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        while not path.exists():
            ending.wait(0.001)
        assert bench.fetched(bench.store.store()).keys() == {"checkpoints/done.bin"}
    finally:
        ending.set()
        writer.join()
    assert ["growing.bin" in line and "being written" in line for line in bench.said] == [True]


def test_a_torn_file_keeps_its_last_good_version(bench: Bench) -> None:
    good = npz(1)
    bench.write("checkpoints/state.npz", good)
    bench.store.store()
    bench.write("checkpoints/state.npz", npz(2)[:-30])
    bench.write("checkpoints/note.txt", b"something new, so that there is a snapshot")
    assert bench.fetched(bench.store.store())["checkpoints/state.npz"] == good
    assert any("state.npz" in line and "last good version" in line for line in bench.said)


def test_a_checkpoint_of_several_files_is_taken_whole_or_as_it_was(bench: Bench) -> None:
    for name, data in (("model.npz", npz(1)), ("trainer_state.json", b'{"step": 1}')):
        bench.write(f"output/checkpoint-1/{name}", data)
    bench.store.store()
    bench.write("output/checkpoint-1/trainer_state.json", b'{"step": 2}')
    bench.write("output/checkpoint-1/model.npz", npz(2)[:-30])
    bench.write("checkpoints/other.bin", b"new")
    found = bench.fetched(bench.store.store())
    assert found["output/checkpoint-1/trainer_state.json"] == b'{"step": 1}'
    assert found["output/checkpoint-1/model.npz"] == npz(1)


# Writes a checkpoint in place, over and over; each takes a while.
IN_PLACE = """
import sys, time
count = 0
while True:
    count += 1
    with open(sys.argv[1], "wb", buffering=0) as file:
        for _ in range(100):
            file.write(count.to_bytes(4, "big") * 1000)
            time.sleep(0.0002)
    print(count, flush=True)
    time.sleep(PAUSE)
"""


@pytest.fixture
def writer(bench: Bench) -> Iterator[subprocess.Popen[str]]:
    path = bench.folders.checkpoints / "model.bin"
    source = IN_PLACE.replace("PAUSE", "0.001")
    process = subprocess.Popen(
        [sys.executable, "-c", source, str(path)], stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def test_what_a_killed_writer_left_half_written_is_never_stored(
    bench: Bench, writer: subprocess.Popen[str]
) -> None:
    good = bench.write("checkpoints/good.bin", b"finished long ago")
    assert writer.stdout is not None
    writer.stdout.readline()
    path = bench.folders.checkpoints / "model.bin"
    while path.stat().st_size == 400_000 or path.stat().st_size == 0:
        pass
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    ended_ns = time.time_ns()
    assert path.stat().st_size < 400_000, "killed in the middle"
    found = bench.fetched(bench.store.store(ended_ns=ended_ns))
    assert found == {"checkpoints/good.bin": good.read_bytes()}
    assert any("model.bin" in line for line in bench.said)


def test_after_a_kill_a_file_that_was_renamed_into_place_or_is_proven_is_taken(
    bench: Bench,
) -> None:
    bench.write("checkpoints/proven.npz", npz(3), ago_ns=0)
    draft = bench.write("checkpoints/draft", b"whole", ago_ns=10_000_000)
    draft.rename(draft.with_name("renamed.bin"))
    found = bench.fetched(bench.store.store(ended_ns=time.time_ns()))
    assert found.keys() == {"checkpoints/proven.npz", "checkpoints/renamed.bin"}


def test_after_an_orderly_end_the_last_writes_are_taken(bench: Bench) -> None:
    (bench.folders.checkpoints / "last.bin").write_bytes(b"written and closed")
    found = bench.fetched(bench.store.store(ended_ns=time.time_ns(), orderly=True))
    assert found == {"checkpoints/last.bin": b"written and closed"}


def test_a_checkpoint_leaves_room_for_the_output(bench: Bench) -> None:
    bench.write("checkpoints/large.bin", os.urandom(100_000))
    bench.door.left_bytes = 150_000
    with pytest.raises(QuotaExceeded):
        bench.store.store()
    bench.door.left_bytes = 300_000
    assert bench.store.store() is not None


def restored(bench: Bench, stored: Stored, root: Path, *, output: str = "out") -> AttemptFolders:
    bench.door.drive.roots["snp"] = stored.commit.root
    folders = prepare(root / "attempts", "att_2", output)
    resume = ResumeFrom(checkpoint="ckp_1", number=7, snapshot="snp", newest=stored.newest)
    back = asyncio.run(restore(bench.door, resume, folders, bench.said.append))  # type: ignore[arg-type]
    folders.home.joinpath("resume_from").write_text(str(back.newest))
    return folders


def test_a_checkpoint_comes_back_to_where_it_lay_with_its_times(
    bench: Bench, tmp_path: Path
) -> None:
    first = bench.write("checkpoints/a/epoch-1.npz", npz(1), ago_ns=2 * OLD_NS)
    second = bench.write("checkpoints/a/epoch-2.npz", npz(2))
    bench.write("output/best.weights.pt", b"best")
    stored = bench.store.store()
    assert stored is not None
    folders = restored(bench, stored, tmp_path)
    assert (folders.checkpoints / "a/epoch-1.npz").read_bytes() == first.read_bytes()
    assert (folders.output_path / "best.weights.pt").read_bytes() == b"best"
    again = folders.checkpoints / "a/epoch-2.npz"
    assert again.stat().st_mtime_ns == second.stat().st_mtime_ns
    assert (folders.home / "resume_from").read_text() == str(again)
    assert "Goes on from checkpoint 7: 3 files." in bench.said
    assert sorted(path.name for path in folders.root.iterdir() if "resume" in path.name) == []


def test_an_output_that_is_one_file_comes_back_as_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.folders = prepare(tmp_path / "attempts", "att_1", "models/net.pt")
    bench.store = bench.new_store()
    (bench.folders.work / "models").mkdir()
    bench.folders.output_path.write_bytes(b"weights")
    at = time.time_ns() - OLD_NS
    os.utime(bench.folders.output_path, ns=(at, at))
    stored = bench.store.store()
    assert stored is not None
    folders = restored(bench, stored, tmp_path, output="models/net.pt")
    assert folders.output_path.read_bytes() == b"weights"
    assert (folders.home / "resume_from").read_text() == str(folders.output_path)


def test_a_link_of_the_project_leads_no_file_out(bench: Bench, tmp_path: Path) -> None:
    bench.write("output/sub/model.pt", b"weights")
    stored = bench.store.store()
    assert stored is not None
    outside = tmp_path / "outside"
    outside.mkdir()
    folders = prepare(tmp_path / "attempts", "att_2", "out")
    folders.output_path.mkdir()
    (folders.output_path / "sub").symlink_to(outside)
    restored(bench, stored, tmp_path)
    assert list(outside.iterdir()) == []
    assert any("a link or a folder is in its way" in line for line in bench.said)


def test_what_was_brought_here_is_not_stored_as_new(bench: Bench) -> None:
    bench.write("checkpoints/epoch-1.npz", npz(1))
    bench.store.baseline()
    assert bench.store.store() is None
    bench.write("checkpoints/epoch-2.npz", npz(2))
    found = bench.fetched(bench.store.store())
    assert found.keys() == {"checkpoints/epoch-1.npz", "checkpoints/epoch-2.npz"}


def test_it_is_seen_whether_a_script_has_read_what_was_brought_back(
    bench: Bench, tmp_path: Path
) -> None:
    if not tells(tmp_path):
        pytest.skip("this file system keeps no times of access")
    paths = [bench.write(f"checkpoints/epoch-{n}.npz", npz(n)) for n in (1, 2)]
    watch = ReadWatch(paths)
    try:
        assert bench.store.store() is not None, "our own reading leaves no trace"
        paths[0].with_name("draft").write_bytes(npz(3))
        paths[0].with_name("draft").rename(paths[0])
        assert not watch.was_read(), "nor does replacing it"
        paths[1].read_bytes()
        paths[1].unlink()
        assert watch.was_read(), "though it is gone by now"
    finally:
        watch.close()
