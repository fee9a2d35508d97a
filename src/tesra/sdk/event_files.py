"""Metrics as TensorBoard's event files, with its own library: the extra ``tesra[tensorboard]``."""

import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesra.kit.errors import Unavailable
from tesra.wire.metrics import MetricPoint
from tesra.wire.training import Run

if TYPE_CHECKING:
    from tesra.sdk.client import Client

FORMAT = "brain.Event:2"
MARK = "tfevents"  # in the name of every event file
_Place = tuple[int, int]  # rank and attempt


class TensorBoardMissing(Unavailable):
    """The library tensorboard is not installed here."""


def require_tensorboard() -> None:
    """Refuse early where the library is missing."""
    if find_spec("tensorboard") is None:
        raise TensorBoardMissing(way_out="Install it with `pip install 'tesra[tensorboard]'`.")


class EventFiles:
    """The event files of one run below ``folder``: a folder for each further rank and attempt.

    ``without`` names origins whose points are left out.
    """

    def __init__(self, folder: Path, *, without: frozenset[str] = frozenset()) -> None:
        self._folder = folder
        self._without = without
        self._writers: dict[_Place, Any] = {}

    def add(self, points: Iterable[MetricPoint]) -> None:
        """Write points; a TensorBoard that watches the folder shows them soon."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        touched = set()
        for point in points:
            if point.origin in self._without:
                continue
            writer = self._writer((point.rank, point.attempt))
            value = Summary.Value(tag=point.name, simple_value=float(point.value))
            event = Event(wall_time=point.time, step=point.step, summary=Summary(value=[value]))
            writer.write(event.SerializeToString())
            touched.add(writer)
        for writer in touched:
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, place: _Place) -> Any:
        if place in self._writers:
            return self._writers[place]
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        rank, attempt = place
        folder = self._folder
        if attempt > 1:
            folder /= f"attempt {attempt}"
        if rank > 0:
            folder /= f"rank {rank}"
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f"events.out.{MARK}.{int(time.time())}.tesra").open("wb")
        writer = self._writers[place] = RecordWriter(file)
        first = Event(wall_time=time.time(), file_version=FORMAT)
        writer.write(first.SerializeToString())
        return writer


def fetch_event_files(client: "Client", run: Run, folder: Path) -> int:
    """Bring the event files that the run itself has stored into ``folder``; how many there are."""
    if run.output is None:
        return 0
    paths = [
        file.path
        for file in client.files(run.output)
        if file.kind == "file" and MARK in file.path.rsplit("/", 1)[-1]
    ]
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(client.read_file(run.output, path))
    return len(paths)
