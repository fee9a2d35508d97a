"""TensorBoard's event files anywhere below the work folder: found without following links, tailed.

Files that were there before the gang started are the project's own and are left alone. Several
files of one rank add to the same names, as several runs of a script's logger are one training.
"""

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from tesra.node.metrics.event_file import MAX_EVENT, Event, read_events
from tesra.node.metrics.point_spool import PointSpool
from tesra.node.metrics.points import (
    Fact,
    Point,
    Value,
    clean_name,
    clean_step,
    clean_time,
    clean_value,
)
from tesra.node.metrics.tail import Tail
from tesra.node.workspace import AttemptFolders

LOOK_EVERY_S = 2.0
MAX_FILES = 1000
_LOOK_REST = 50.0  # a look that took long is followed by a rest of as many times its length
_MOST_ENTRIES = 50_000
_DEPTH = 10
_ROUND_BYTES = MAX_EVENT + 2**12  # any event that is read, with its frame
_ROUND_FILES = 4
_MARK = "tfevents"
_PASSED_OVER = frozenset((".git", "__pycache__", "node_modules", ".venv", "site-packages"))
_SPLITS = frozenset(
    [
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "eval",
        "evaluation",
        "dev",
    ]
)
_TIMESTAMP = re.compile(r"^\d[\d.]{8,}$")


class EventFiles:
    """``since``: when the gang was about to start, by the file system's clock.

    ``rank_of`` is asked for the rank of a process by its pid as the scripts see it.
    """

    def __init__(
        self,
        folders: AttemptFolders,
        ranks: Sequence[int],
        spool: PointSpool,
        *,
        since: float,
        pids: Mapping[int, int],
    ) -> None:
        self._root = folders.work
        self._first_rank = min(ranks, default=0)
        self._spool = spool
        self._since = since
        self._pids = pids
        self._files: dict[str, _EventFile] = {}
        self._folders: set[str] = set()
        self._growing: set[str] = set()
        self._look_at = 0.0
        self.left = False

    def read(self, now: float, last: bool) -> Iterator[Fact]:
        self.left = False
        if last or time.monotonic() >= self._look_at:
            began = time.monotonic()
            self._look()
            took_s = time.monotonic() - began
            self._look_at = began + max(LOOK_EVERY_S, took_s * _LOOK_REST)
        for name in sorted(self._growing)[:_ROUND_FILES]:
            file = self._files[name]
            for event in file.read():
                point = self._point(file, event, now)
                if point is not None:
                    yield point
            if not file.more:
                self._growing.discard(name)
        self.left = bool(self._growing)
        for file in self._files.values():
            self._complain(file, at_the_end=last and not self.left)

    def position(self) -> Any:
        return {
            "since": self._since,
            "files": {
                name: [file.tail.offset, file.tail.inode, file.rank]
                for name, file in self._files.items()
            },
        }

    def go_on(self, position: Any) -> None:
        self._since = position.get("since", self._since)
        for name, (offset, inode, rank) in position.get("files", {}).items():
            file = self._add(name)
            file.tail.offset, file.tail.inode, file.rank = offset, inode, rank

    def _look(self) -> None:
        """Find new files, and which of the known have grown."""
        for name, known in _event_files(self._root):
            if name not in self._files:
                if known.st_mtime < self._since:
                    continue
                if len(self._files) >= MAX_FILES:
                    self._spool.warn(
                        "event files", f"more than {MAX_FILES} event files: '{name}' is not read."
                    )
                    return
                self._add(name)
            file = self._files[name]
            if (known.st_size, known.st_ino) != file.seen:
                file.seen = (known.st_size, known.st_ino)
                self._growing.add(name)

    def _add(self, name: str) -> "_EventFile":
        folder, _, file_name = name.rpartition("/")
        prefix = prefix_of(folder, self._folders)
        self._folders.add(folder)
        rank = self._pids.get(pid_in(file_name), self._first_rank)
        file = _EventFile(Tail(self._root, name), rank, prefix)
        self._files[name] = file
        return file

    def _point(self, file: "_EventFile", event: Event, now: float) -> Point | None:
        values: dict[str, Value] = {}
        for tag, number in event.values:
            name, value = clean_name(file.prefix + tag), clean_value(number)
            if name and value is not None:
                values[name] = value
        if not values:
            return None
        t = clean_time(event.wall_time, now)
        return Point(file.rank, "tensorboard", t, clean_step(event.step), values)

    def _complain(self, file: "_EventFile", *, at_the_end: bool) -> None:
        if file.damage:
            self._spool.warn(
                f"damage of {file.tail.name}",
                f"the event file '{file.tail.name}' is damaged at byte {file.tail.offset}"
                f" ({file.damage}); what stands before is kept.",
            )
        elif at_the_end and file.tail.size > file.tail.offset:
            self._spool.warn(
                f"damage of {file.tail.name}",
                f"the event file '{file.tail.name}' is cut short after byte {file.tail.offset};"
                " what stands before is kept.",
            )


class _EventFile:
    """One file that is tailed; ``more``: the last read has left something that can be read."""

    def __init__(self, tail: Tail, rank: int, prefix: str) -> None:
        self.tail = tail
        self.rank = rank
        self.prefix = prefix
        self.seen = (-1, -1)
        self.damage = ""
        self.more = False

    def read(self) -> list[Event]:
        self.more = False
        if self.damage and self.seen[1] == self.tail.inode:
            return []
        data = self.tail.read(_ROUND_BYTES)
        cut = read_events(data)
        self.damage = cut.damage
        self.tail.offset -= len(data) - cut.used
        if cut.skip:
            self.tail.skip(cut.skip)
        moved = bool(cut.used or cut.skip)
        self.more = moved and not cut.damage and self.tail.left
        return cut.events


def prefix_of(folder: str, known: set[str]) -> str:
    """What TensorBoard would show before the tags: ``train/`` for a folder of that name.

    ``known``: folders that hold event files. Below one of these the path counts, but for names
    that are only times; elsewhere just the name of a part of the data.
    """
    path = PurePosixPath(folder)
    for above in reversed(path.parents):
        name = "" if str(above) == "." else str(above)
        if name in known:
            parts = path.relative_to(above).parts
            return "".join(f"{part}/" for part in parts if not _TIMESTAMP.match(part))
    return f"{path.name}/" if path.name.lower() in _SPLITS else ""


def pid_in(name: str) -> int:
    """The process that wrote it, from ``events.out.tfevents.TIME.HOST.PID.NUMBER[.v2]``; else -1."""
    parts = name.removesuffix(".v2").split(".")
    numbers = parts[-2:]
    if len(parts) < 7 or not all(part.isdigit() for part in numbers):
        return -1
    return int(numbers[0])


def _event_files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Names below the root, folders before what lies deeper; at most so many entries are looked at."""
    waiting, seen = [""], 0
    while waiting:
        folder = waiting.pop(0)
        for entry in _entries(root / folder):
            seen += 1
            if seen > _MOST_ENTRIES:
                return
            name = f"{folder}/{entry.name}" if folder else entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    if name.count("/") < _DEPTH and entry.name not in _PASSED_OVER:
                        waiting.append(name)
                elif _MARK in entry.name:
                    known = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(known.st_mode):
                        yield name, known
            except OSError:  # gone meanwhile
                continue


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(islice(entries, _MOST_ENTRIES), key=lambda entry: entry.name)
    except OSError:
        return []
