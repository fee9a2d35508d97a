"""What a script writes is read, spooled and kept within bounds, whatever it writes."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tesra.node.metrics import collector as collecting
from tesra.node.metrics.collector import Collector
from tesra.node.metrics.point_spool import MAX_NAMES, PointSpool
from tesra.node.metrics.points import Parameters, Point, clean_name, line_of
from tesra.node.metrics.script_file import read_line
from tesra.node.workspace import AttemptFolders, prepare


@pytest.fixture
def folders(tmp_path: Path) -> AttemptFolders:
    return prepare(tmp_path, "att_1", "out")


class Capture:
    """A collector and its spool; ``said`` is what the user was told."""

    def __init__(self, folders: AttemptFolders, ranks: tuple[int, ...] = (0,)) -> None:
        self.folders, self.ranks = folders, ranks
        self.said: list[str] = []
        self.spool = PointSpool(folders.root / "points.jsonl", self.said.append)
        self.spool.begin()
        self.collector = Collector(folders, ranks, self.spool)

    def restart(self) -> None:
        """As an agent that was killed and started anew."""
        self.spool = PointSpool(self.folders.root / "points.jsonl", self.said.append)
        positions = self.spool.resume()
        assert positions is not None
        self.collector = Collector(self.folders, self.ranks, self.spool)
        self.collector.go_on(positions)

    def log(self, *lines: list[Any] | str, rank: int = 0) -> None:
        with self.folders.metrics_of(rank).open("a") as file:
            for line in lines:
                file.write((line if isinstance(line, str) else json.dumps([line])) + "\n")

    def print(self, text: str, rank: int = 0) -> None:
        with self.folders.log_of(rank).open("a") as file:
            file.write(text)

    def points(self) -> list[dict[str, Any]]:
        data = self.spool.path.read_bytes()[: self.spool.size]
        return [json.loads(line) for line in data.splitlines()]

    def values(self) -> list[dict[str, Any]]:
        return [point["v"] for point in self.points()]


@pytest.fixture
def capture(folders: AttemptFolders) -> Capture:
    return Capture(folders)


def loss(step: int, **more: Any) -> list[Any]:
    return [1500, step, {"loss": 0.5, **more}]


def test_a_line_of_the_script_is_a_line_of_the_spool(capture: Capture) -> None:
    capture.log(loss(3, acc=float("nan")))
    assert not capture.collector.round()
    expected = {"k": "m", "r": 0, "o": "log", "t": 1.5, "s": 3, "v": {"loss": 0.5, "acc": "nan"}}
    assert capture.points() == [expected]


def test_each_line_is_read_once_however_it_comes(capture: Capture) -> None:
    text = json.dumps([loss(1)]) + "\n" + json.dumps([loss(2)])
    for piece in (text[:10], text[10:30], text[30:]):
        with capture.folders.metrics_of(0).open("a") as file:
            file.write(piece)
        capture.collector.round()
    assert [point["s"] for point in capture.points()] == [1]
    capture.collector.last_sweep()
    assert [point["s"] for point in capture.points()] == [1, 2]


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "null", "[]", "3", "{}", "[1]", "[[1]]", "[[1, 2, 3]]", "[[1, 2, {}]]",
        '[[1, 2, {"": 1}]]', '[[1, 2, {"a": "b"}]]', '[[1, 2, {"a": [1]}]]', "[" * 100_000,
        '[[1, 2, {"\\u0000": 1}]]', '[[1, 2, {"a": 1}, 4]]',
    ],
)  # fmt: skip
def test_what_is_no_metric_is_left_out(line: str) -> None:
    assert read_line(line.encode(), 0, 1.0) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('[[null, null, {"a": NaN}]]', (9.0, None, {"a": "nan"})),
        ('[[7500, 3, {"a": -Infinity}]]', (7.5, 3, {"a": "-inf"})),
        ('[["x", -3, {"a": 1e999}]]', (9.0, -3, {"a": "inf"})),
        ('[[{}, true, {"a": true}]]', (9.0, None, {"a": 1})),
        ('[[NaN, 1.5, {"a": 1}]]', (9.0, None, {"a": 1})),
        ('[[-5, 1e99, {"a": 1, "b": null}]]', (9.0, None, {"a": 1})),
        (f'[[1e300, 1, {{"a": {10**30}}}]]', (9.0, 1, {"a": 1e30})),
        (f'[[1000, 1, {{"a": {10**400}}}]]', (1.0, 1, {"a": "inf"})),
        (f'[[1000, {2**70}, {{"a": 1}}]]', (1.0, None, {"a": 1})),
    ],
)
def test_odd_values_become_sound_ones(
    line: str, expected: tuple[float, int | None, dict[str, Any]]
) -> None:
    [found] = read_line(line.encode(), 0, 9.0) or []
    assert (found.t, found.step, found.values) == expected
    assert "NaN" not in line_of(found).decode()


def test_points_before_a_spoilt_one_are_kept() -> None:
    points = read_line(b'[[1, 1, {"a": 1}], [2, 2, {"a": 2}], 3, [4, 4, {"a": 4}]]', 0, 9.0)
    assert [point.step for point in points or []] == [1, 2]


def test_names_are_clean_and_short() -> None:
    assert clean_name("a\0b\nc\u2028\ud800d") == "a b c d"
    assert clean_name("  \x1b[31m ") == "[31m"
    assert len(clean_name("损" * 1000)) == 256


def test_invalid_lines_are_skipped_with_one_warning(capture: Capture) -> None:
    capture.log("nonsense", loss(1), "{}", "x" * 3_000_000, loss(2))
    capture.collector.last_sweep()
    assert [point["s"] for point in capture.points()] == [1, 2]
    assert len(capture.said) == 1
    assert "rank 0" in capture.said[0]


def _symlink(path: Path) -> None:
    (path.parent / "secret").write_text(json.dumps([loss(1)]) + "\n")
    path.symlink_to(path.parent / "secret")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _zeros(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)


@pytest.mark.parametrize("replace", [_symlink, _pipe, _folder], ids=["link", "pipe", "folder"])
def test_a_file_that_is_none_is_not_read(capture: Capture, replace: Callable[[Path], None]) -> None:
    capture.log(loss(1))
    capture.collector.round()
    capture.folders.metrics_of(0).unlink()
    replace(capture.folders.metrics_of(0))
    capture.collector.round()
    capture.collector.last_sweep()
    assert [point["s"] for point in capture.points()] == [1]


def test_a_file_of_zeros_ends(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "LAST_SWEEP_S", 0.2)
    _zeros(capture.folders.metrics_of(0))
    capture.collector.last_sweep()
    assert capture.points() == []
    assert any("missing" in line for line in capture.said)


def test_a_file_that_shrinks_or_is_replaced_begins_anew(capture: Capture) -> None:
    path = capture.folders.metrics_of(0)
    capture.log(loss(1), loss(2))
    capture.collector.round()
    path.write_text(json.dumps([loss(3)]) + "\n")
    capture.collector.round()
    path.rename(path.with_suffix(".old"))
    capture.log(loss(4), loss(5), loss(6))
    capture.collector.round()
    assert [point["s"] for point in capture.points()] == [1, 2, 3, 4, 5, 6]


def test_of_a_million_names_the_first_are_kept(capture: Capture) -> None:
    for n in range(0, 4 * MAX_NAMES, 500):
        capture.log(loss(n, **{f"name {n + i}": i for i in range(500)}))
    capture.collector.last_sweep()
    names = {name for point in capture.points() for name in point["v"]}
    assert len(names) == MAX_NAMES
    assert len(capture.points()) == 16
    assert capture.said == [line for line in capture.said if "'name 1999'" in line]
    assert len(capture.said) == 1


def test_names_that_come_for_ever_take_no_memory(capture: Capture) -> None:
    for n in range(0, 20_000, 1000):
        capture.log(loss(n, **{f"name {n + i}": i for i in range(900)}))
        capture.collector.round()
    assert len(capture.collector._given[0]) < 3 * MAX_NAMES


def test_a_full_spool_is_thinned_and_never_larger(folders: AttemptFolders) -> None:
    said: list[str] = []
    spool = PointSpool(folders.root / "p.jsonl", said.append, limit_bytes=100_000)
    spool.begin()
    for n in range(20_000):
        spool.add([Point(0, "log", 1.5, n, {"loss": n}), Point(0, "log", 1.5, n, {"acc": n})])
    spool.commit({})
    assert 50_000 < spool.size < 100_200
    points = [json.loads(line) for line in spool.path.read_bytes().splitlines()]
    late = [point for point in points if point["s"] > 10_000]
    assert {name for point in late for name in point["v"]} == {"loss", "acc"}
    assert sum("only one point" in line for line in said) == 1


def test_an_agent_started_anew_goes_on_where_the_spool_ends(capture: Capture) -> None:
    capture.log(loss(1), loss(2))
    capture.collector.round()
    capture.log(loss(3))
    capture.spool.add([Point(0, "log", 1.5, 99, {"cut off": 1})])  # died before it was committed
    capture.restart()
    capture.collector.last_sweep()
    assert [point["s"] for point in capture.points()] == [1, 2, 3]


def test_names_are_counted_over_a_restart(capture: Capture) -> None:
    capture.log([1500, 1, {f"name {n}": n for n in range(1000)}])
    capture.log([1500, 1, {f"other {n}": n for n in range(1000)}])
    capture.collector.round()
    capture.restart()
    capture.log([1500, 1, {"one more": 1, "name 1": 2}])
    capture.collector.last_sweep()
    assert capture.values()[-1] == {"name 1": 2}


def test_a_torn_record_leaves_the_spool_as_it_is(capture: Capture) -> None:
    capture.log(loss(1))
    capture.collector.round()
    capture.spool.path.with_suffix(".read").write_text('{"size"')
    spool = PointSpool(capture.spool.path, print)
    assert spool.resume() is None
    assert spool.size == capture.spool.size


def test_parameters_are_kept_up_to_a_number(capture: Capture) -> None:
    capture.spool.add([Parameters(1, {f"p{n}": "x" for n in range(1500)})])
    capture.spool.commit({})
    [line] = capture.points()
    assert (line["k"], line["r"], len(line["v"])) == ("p", 1, 1000)


def test_lines_of_a_log_are_read_of_each_rank(folders: AttemptFolders) -> None:
    capture = Capture(folders, ranks=(2, 3))
    capture.print("epoch 1 loss 0.5\n", rank=2)
    capture.print("epoch 1 loss 0.25", rank=3)
    capture.collector.last_sweep()
    told = [(point["r"], point["o"], point["v"]["loss"]) for point in capture.points()]
    assert told == [(2, "lines", 0.5), (3, "lines", 0.25)]


def test_what_a_better_source_names_is_not_read_from_lines(capture: Capture) -> None:
    capture.log([1500, 1, {"train/loss": 0.5}])
    capture.print("epoch 1 train_loss 0.4 acc 0.5\n")
    capture.collector.round()
    assert capture.values() == [{"train/loss": 0.5}, {"epoch": 1, "acc": 0.5}]


def test_of_a_moving_bar_the_last_whole_state_is_told(capture: Capture) -> None:
    bars = [f"{n}%|██| {n}/100 [00:12<00:14, 3.9it/s, loss=0.{n}]" for n in range(10, 40)]
    capture.print("\r".join(bars))
    capture.collector.round()
    assert [point["s"] for point in capture.points()] == [38]
    capture.print("\r100%|██| 100/100 [00:12<00:00, 3.9it/s, loss=0.99]\n")
    capture.collector.round()
    assert [point["s"] for point in capture.points()] == [38, 100]


def test_a_log_that_grows_too_fast_is_read_at_its_end(capture: Capture) -> None:
    capture.print("".join(f"step {n} loss 0.5\n" for n in range(200_000)))
    capture.collector.round()
    steps = [point["s"] for point in capture.points()]
    assert steps == list(range(199_500, 200_000))
    assert len(capture.said) == 1


def test_an_endless_bar_takes_no_memory(capture: Capture) -> None:
    for n in range(200):
        capture.print(f"\r{'█' * 500}{n}")
        capture.collector.round()
    position = capture.collector._sources["logs"].position()["0"][0]
    assert capture.folders.log_of(0).stat().st_size - position < 4000


def test_reading_a_round_does_not_wait_for_anybody(capture: Capture) -> None:
    os.mkfifo(capture.folders.log_of(0))
    asyncio.run(asyncio.wait_for(asyncio.to_thread(capture.collector.round), 5))
