"""Event files as TensorBoard's own writer makes them, and as nobody should."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event as RealEvent
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto

from tesra.node.metrics.collector import Collector
from tesra.node.metrics.event_file import masked_crc, read_events
from tesra.node.metrics.event_files import pid_in, prefix_of
from tesra.node.metrics.point_spool import PointSpool
from tesra.node.metrics.points import Point
from tesra.node.workspace import AttemptFolders, prepare


@pytest.fixture
def folders(tmp_path: Path) -> AttemptFolders:
    return prepare(tmp_path, "att_1", "out")


class Kept(PointSpool):
    """A spool that remembers what it was given."""

    def __init__(self, path: Path) -> None:
        self.said: list[str] = []
        self.points: list[Point] = []
        super().__init__(path, self.said.append)

    def add(self, facts: Any) -> None:
        self.points += [fact for fact in facts if isinstance(fact, Point)]

    def told(self) -> list[tuple[int, int | None, dict[str, Any]]]:
        return [(point.rank, point.step, dict(point.values)) for point in self.points]


@pytest.fixture
def spool(folders: AttemptFolders) -> Kept:
    return Kept(folders.root / "points.jsonl")


def collector(folders: AttemptFolders, spool: Kept, **more: Any) -> Collector:
    return Collector(folders, (0, 1), spool, **more)


def simple(tag: str, value: float) -> Summary.Value:
    """As torch writes it."""
    return Summary.Value(tag=tag, simple_value=value)


def event(step: int, *values: Summary.Value) -> RealEvent:
    return RealEvent(wall_time=1.5, step=step, summary=Summary(value=values))


def write(folder: Path, *events: RealEvent, name: str = "") -> Path:
    """A file by TensorBoard's own writer."""
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    writer = EventFileWriter(str(folder), filename_suffix=name)
    for one in events:
        writer.add_event(one)
    writer.close()
    [made] = set(folder.iterdir()) - before
    return made


def frame(payload: bytes, *, length: int | None = None) -> bytes:
    head = struct.pack("<Q", len(payload) if length is None else length)
    return (
        head
        + struct.pack("<I", masked_crc(head))
        + payload
        + struct.pack("<I", masked_crc(payload))
    )


@pytest.mark.parametrize(
    ("data", "crc"), [(b"123456789", 0xE3069283), (b"\0" * 32, 0x8A9136AA), (b"", 0)]
)
def test_checksum_is_the_standards(data: bytes, crc: int) -> None:
    masked = masked_crc(data)
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF == crc


def test_what_the_real_writer_wrote_is_read(folders: AttemptFolders, spool: Kept) -> None:
    write(
        folders.work / "runs/Jan02_host",
        event(1, simple("loss", 0.5), simple("准确率", 0.25)),
        RealEvent(wall_time=1.5, graph_def=b"x" * 100),
        event(-1, simple("loss", float("nan"))),
        event(2**40, simple("loss", float("-inf"))),
    )
    collector(folders, spool).last_sweep()
    assert spool.told() == [
        (0, 1, {"loss": 0.5, "准确率": 0.25}),
        (0, -1, {"loss": "nan"}),
        (0, 2**40, {"loss": "-inf"}),
    ]
    assert spool.points[0].t == 1.5
    assert spool.said == []


@pytest.mark.parametrize(
    "number",
    [
        np.float32(0.5), np.float64(0.5), np.float16(0.5), np.int32(-3), np.int64(-3),
        np.array([[0.5]], np.float32),
    ],
)  # fmt: skip
def test_a_tensor_of_one_number_is_one(
    folders: AttemptFolders, spool: Kept, number: np.generic
) -> None:
    tensor = make_tensor_proto(number)
    content = TensorProto()
    content.CopyFrom(tensor)
    for field in ("float_val", "double_val", "half_val", "int_val", "int64_val"):
        content.ClearField(field)
    content.tensor_content = np.asarray(number).tobytes()
    values = [Summary.Value(tag=tag, tensor=t) for tag, t in (("a", tensor), ("b", content))]
    write(folders.work, event(1, *values))
    collector(folders, spool).last_sweep()
    assert spool.told() == [
        (0, 1, {"a": float(np.squeeze(number)), "b": float(np.squeeze(number))})
    ]


def test_pictures_texts_and_hyperparameters_are_none(folders: AttemptFolders, spool: Kept) -> None:
    scalar = Summary.Value(tag="loss", tensor=make_tensor_proto(np.float32(0.5)))
    scalar.metadata.plugin_data.plugin_name = "scalars"
    many = Summary.Value(tag="vector", tensor=make_tensor_proto(np.array([1.0, 2.0])))
    text = Summary.Value(tag="text", tensor=make_tensor_proto("hello"))
    image = Summary.Value(tag="image", image=Summary.Image(height=1, encoded_image_string=b"x"))
    other = Summary.Value(tag="other", simple_value=1.0)
    other.metadata.plugin_data.plugin_name = "pr_curves"
    settings = hparams_pb({"lr": 0.1}).value[0]
    write(folders.work, event(1, many, text, image, other, settings), event(2, scalar))
    collector(folders, spool).last_sweep()
    assert spool.told() == [(0, 2, {"loss": 0.5})]


def test_a_growing_file_is_read_as_it_grows(folders: AttemptFolders, spool: Kept) -> None:
    whole = write(folders.work / "out", *(event(n, simple("loss", n)) for n in range(50)))
    data = whole.read_bytes()
    whole.write_bytes(b"")
    reader = collector(folders, spool)
    for end in range(0, len(data), 61):
        whole.write_bytes(data[:end])
        reader._sources["events"]._look_at = 0.0  # type: ignore[attr-defined]  # no waiting here
        reader.round()
    whole.write_bytes(data)
    reader.last_sweep()
    assert [point.step for point in spool.points] == list(range(50))
    assert spool.said == []


def test_a_file_cut_short_keeps_what_stands_before(folders: AttemptFolders, spool: Kept) -> None:
    whole = write(folders.work / "runs", *(event(n, simple("loss", n)) for n in range(3)))
    whole.write_bytes(whole.read_bytes()[:-5])
    reader = collector(folders, spool)
    reader.round()
    reader.last_sweep()
    assert [point.step for point in spool.points] == [0, 1]
    [said] = spool.said
    assert "cut short" in said
    assert f"runs/{whole.name}" in said


@pytest.mark.parametrize("place", [-3, -20, -40])
def test_a_wrong_checksum_ends_the_file(folders: AttemptFolders, spool: Kept, place: int) -> None:
    whole = write(folders.work, *(event(n, simple("loss", n)) for n in range(3)))
    data = bytearray(whole.read_bytes())
    data[place] ^= 1
    whole.write_bytes(data)
    collector(folders, spool).last_sweep()
    assert [point.step for point in spool.points] == [0, 1]
    [said] = spool.said
    assert "damaged" in said


@pytest.mark.parametrize(
    "payload",
    [
        b"\x2a\xff", b"\x2a\x05ab", b"\x0f", b"\xff" * 20, b"\x2a\x04\x0a\x02\x42\x7f",
        b"\x2a\x08\x0a\x06\x0a\x01a\x42\x01\x08", b"\x09abc",
    ],
)  # fmt: skip
def test_a_malformed_event_ends_the_file(payload: bytes) -> None:
    good = event(1, simple("loss", 0.5)).SerializeToString()
    cut = read_events(frame(good) + frame(payload))
    assert [found.step for found in cut.events] == [1]
    assert cut.damage
    assert cut.used == len(frame(good))


def test_any_bytes_are_survived() -> None:
    good = event(1, simple("loss", 0.5)).SerializeToString()
    for place in range(len(good)):
        for change in (0x01, 0x7F, 0x80, 0xFF):
            spoilt = bytearray(good)
            spoilt[place] ^= change
            read_events(frame(bytes(spoilt)))


def test_a_gigabyte_of_zeros_is_damage_at_once(folders: AttemptFolders, spool: Kept) -> None:
    with (folders.work / "events.out.tfevents.1").open("wb") as file:
        file.truncate(2**30)
    collector(folders, spool).last_sweep()
    [said] = spool.said
    assert "damaged at byte 0" in said


def test_a_large_event_is_passed_over(folders: AttemptFolders, spool: Kept) -> None:
    large = RealEvent(wall_time=1.5, graph_def=b"x" * 3_000_000)
    write(folders.work, large, event(2, simple("loss", 0.5)))
    collector(folders, spool).last_sweep()
    assert spool.told() == [(0, 2, {"loss": 0.5})]
    assert spool.said == []


def _link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def _pipe(path: Path, _target: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, _target: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_link, _pipe, _folder], ids=["link", "pipe", "folder"])
def test_what_only_has_the_name_is_not_opened(
    folders: AttemptFolders, spool: Kept, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    target = write(tmp_path / "elsewhere", event(1, simple("secret", 1.0)))
    make(folders.work / "events.out.tfevents.1", target)
    (folders.work / "runs").symlink_to(target.parent)
    collector(folders, spool).last_sweep()
    assert spool.points == []


def test_the_projects_own_old_files_are_left_alone(folders: AttemptFolders, spool: Kept) -> None:
    old = write(folders.work / "runs/old", event(1, simple("loss", 1.0)))
    since = old.stat().st_mtime + 5
    new = write(folders.work / "runs/new", event(2, simple("loss", 2.0)))
    os.utime(new, (since, since))
    collector(folders, spool, since=since).last_sweep()
    assert spool.told() == [(0, 2, {"loss": 2.0})]


def test_the_rank_is_that_of_the_process_that_wrote(folders: AttemptFolders, spool: Kept) -> None:
    made = write(folders.work / "runs", event(1, simple("loss", 1.0)))
    reader = collector(folders, spool, pids={pid_in(made.name): 1})
    reader.last_sweep()
    assert pid_in(made.name) == os.getpid()
    assert [point.rank for point in spool.points] == [1]


@pytest.mark.parametrize(
    ("name", "pid"),
    [
        ("events.out.tfevents.1700000000.my.host.4711.0", 4711),
        ("events.out.tfevents.1700000000.host.4711.3.v2", 4711),
        ("events.out.tfevents.1700000000.host", -1),
        ("tfevents", -1),
    ],
)
def test_pid_is_told_by_the_files_name(name: str, pid: int) -> None:
    assert pid_in(name) == pid


@pytest.mark.parametrize(
    ("folder", "known", "prefix"),
    [
        ("runs/Jan02_12-30-00_host", set(), ""),
        ("lightning_logs/version_1", {"lightning_logs/version_0"}, ""),
        ("logs/train", set(), "train/"),
        ("logs/fit/20260102-123000/validation", {"logs/fit/20260102-123000/train"}, "validation/"),
        ("runs/a/Loss_train", {"runs/a"}, "Loss_train/"),
        ("runs/a/1700000000.123", {"runs/a"}, ""),
        ("train", {""}, "train/"),
        ("", set(), ""),
    ],
)
def test_folders_become_part_of_the_name_as_tensorboard_shows_them(
    folder: str, known: set[str], prefix: str
) -> None:
    assert prefix_of(folder, known) == prefix


def test_two_runs_of_a_script_add_to_the_same_names(folders: AttemptFolders, spool: Kept) -> None:
    write(folders.work / "lightning_logs/version_0", event(1, simple("loss", 1.0)))
    write(folders.work / "lightning_logs/version_1", event(2, simple("loss", 2.0)))
    collector(folders, spool).last_sweep()
    assert spool.told() == [(0, 1, {"loss": 1.0}), (0, 2, {"loss": 2.0})]


def test_an_agent_started_anew_goes_on_amid_a_file(folders: AttemptFolders, spool: Kept) -> None:
    made = write(folders.work / "runs", *(event(n, simple("loss", n)) for n in range(4)))
    data = made.read_bytes()
    made.write_bytes(data[:-40])
    first = collector(folders, spool)
    first.round()
    positions = {name: source.position() for name, source in first._sources.items()}
    with made.open("ab") as file:
        file.write(data[-40:])
    second = collector(folders, spool, since=2e9)
    second.go_on(positions)
    second.last_sweep()
    assert [point.step for point in spool.points] == [0, 1, 2, 3]
