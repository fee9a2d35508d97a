"""Points are followed and written out: none is lost or doubled, whatever breaks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakes.tesra_server import run_record
from tesra.kit.errors import TesraError
from tesra.sdk import metric_export
from tesra.sdk.client import Client
from tesra.sdk.event_files import TensorBoardMissing, require_tensorboard
from tesra.sdk.follow import Reconnection
from tesra.wire.metric_names import better, telling
from tesra.wire.metrics import MetricPoint


def point(step: int, **changes: Any) -> dict[str, Any]:
    plain = {"name": "loss", "rank": 0, "step": step, "time": 1.5, "value": 0.5}
    return {**plain, "attempt": 1, "origin": "log", **changes}


class Breaking(httpx.SyncByteStream):
    """Some bytes, and then the connection is gone."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data
        raise httpx.ReadError("gone")


def test_points_are_neither_lost_nor_doubled_when_the_connection_breaks() -> None:
    lines = [json.dumps(point(step)).encode() + b"\n" for step in range(4)]
    lines.insert(2, json.dumps(point(9, name="acc")).encode() + b"\n")
    streams: list[httpx.SyncByteStream | bytes] = [
        Breaking(b"".join(lines[:2]) + lines[2][:20]),
        b"\n".join([b"".join(lines[:4]), b""]),  # the server ends: a sign of life, and no more
        b"".join(lines),
    ]
    states = ["running", "succeeded"]

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/export"):
            return httpx.Response(200, json=run_record(state=states.pop(0)))
        content = streams.pop(0)
        if isinstance(content, bytes):
            return httpx.Response(200, content=content)
        return httpx.Response(200, stream=content)

    client = Client("http://tesra.test", "tsr_x", transport=httpx.MockTransport(answer))
    again = Reconnection(pause=lambda _: None)
    had = [one for some in client.follow_points("run_1", again=again) for one in some]
    assert [(one.name, one.step) for one in had] == [
        ("loss", 0),
        ("loss", 1),
        ("acc", 9),
        ("loss", 2),
        ("loss", 3),
    ]
    assert (streams, states) == ([], [])


def failing() -> Iterator[MetricPoint]:
    yield MetricPoint.model_validate(point(1))
    raise OSError("the connection is gone")


@pytest.mark.parametrize("name", ["points.csv", "points.parquet"])
def test_an_export_that_breaks_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    target.write_text("before")
    with pytest.raises(OSError, match="gone"):
        metric_export.export_points(failing(), target)
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_missing_is_said_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(TesraError) as refused:
        metric_export.check_target(tmp_path / "x.parquet")
    assert "pip install 'tesra[parquet]'" in str(refused.value.way_out)
    monkeypatch.setattr("tesra.sdk.event_files.find_spec", lambda _: None)
    with pytest.raises(TensorBoardMissing) as missing:
        require_tensorboard()
    assert "pip install 'tesra[tensorboard]'" in str(missing.value.way_out)


def test_the_most_telling_names_come_first() -> None:
    names = ["lr", "acc", "val_loss", "epoch", "train/loss", "wer", "gradient"]
    assert telling(names)[:4] == ["val_loss", "train/loss", "wer", "acc"]


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("loss", "min"),
        ("val/Loss", "min"),
        ("rmse", "min"),
        ("top1_acc", "max"),
        ("accuracy", "max"),
        ("eval_f1", "max"),
        ("lr", None),
        ("accumulated_steps", None),
        ("normal", None),
    ],
)
def test_a_name_says_whether_low_or_high_is_better(name: str, direction: str | None) -> None:
    assert better(name) == direction
