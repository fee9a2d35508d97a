"""The site's journal: facts for the server that survive a crash, in order, each exactly once.

One file of lines ``crc32 json``. A line is on disk (fsync) before its message is offered for
sending, and carries the attempt's note with it, so that "what has been reported" and the report
itself can never differ. The boot id names this journal, not the process: a controller that finds
its journal goes on with the next number; only a new journal draws a new boot id. A torn last line
was never offered to anybody and is cut off.
"""

import json
import logging
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tesra.kit.ids import new_id
from tesra.node.stalls import sign
from tesra.node.tuning.told import digest
from tesra.wire.site import Checkpoint, Ended, Message, Phase, Preparing, Started, Usage
from tesra.wire.stalls import Stalled
from tesra.wire.tuning import Tuned

Body = Preparing | Started | Usage | Phase | Tuned | Stalled | Checkpoint | Ended

_COMPACT_BYTES = 1 << 20  # a day of usage of ten gangs is about this much

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Note:
    """What the server has been told, or will be from the journal, about one attempt.

    ``nodes`` are those that hold a part of it; ``reported_ms`` is the sum of its usage records;
    ``checkpoint`` the number of the last one told.
    """

    fence: int
    nodes: tuple[str, ...] = ()
    phase: str = ""
    started: bool = False
    usage: int = 0
    reported_ms: int = 0
    ended: bool = False
    tuned: str = ""  # the digest of the last word on its tuning
    checkpoint: int = 0
    stalled: str = ""  # whom the last word on a stall names; empty when none lasts


class Spool:
    """Not thread-safe: one caller at a time. ``open`` reads, everything else is quick but fsyncs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._size = 0
        self._boot = ""
        self._next = 1
        self._pending: deque[Message] = deque()
        self._notes: dict[str, Note] = {}
        self._together = False

    @property
    def boot_id(self) -> str:
        return self._boot

    @property
    def notes(self) -> dict[str, Note]:
        """A copy of the notes by attempt."""
        return dict(self._notes)

    def open(self) -> None:
        """Read the journal, or make one; a torn end is cut off."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        good = 0
        if self._path.exists():
            for line, end in _sound_lines(self._path.read_bytes()):
                self._apply(line)
                good = end
        if not self._boot:
            self._boot = new_id("boot")
            self._rewrite()
            return
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        os.ftruncate(self._file, good)
        os.fsync(self._file)
        self._size = good

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def append(self, attempt: str, note: Note, bodies: Sequence[Body] = ()) -> None:
        """Queue facts about an attempt and set its note, both or neither; on disk at return."""
        messages = [
            Message(seq=self._next + place, attempt=attempt, fence=note.fence, body=body)
            for place, body in enumerate(bodies)
        ]
        self._write(
            {
                "attempt": attempt,
                "note": asdict(note),
                "messages": [message.model_dump(mode="json") for message in messages],
            }
        )
        self._notes[attempt] = note
        self._pending.extend(messages)
        self._next += len(messages)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is appended within is on disk when it ends, at once; nobody may be offered it before."""
        before, self._together = self._size, True
        try:
            yield
        finally:
            self._together = False
            if self._size != before:
                os.fsync(self._file)

    def forget(self, attempt: str) -> None:
        """Drop the note of an attempt; its queued messages are still delivered.

        Not fsynced: a note that comes back after a crash is of an attempt that nobody lists.
        """
        if self._notes.pop(attempt, None) is not None:
            self._write({"forget": attempt}, sync=False)

    def pending(self, limit: int) -> list[Message]:
        """The oldest messages that the server has not acknowledged."""
        return [self._pending[place] for place in range(min(limit, len(self._pending)))]

    def waits(self, attempt: str) -> bool:
        """Whether a message about the attempt is still to be delivered."""
        return any(message.attempt == attempt for message in self._pending)

    def acknowledge(self, seq: int) -> None:
        """The server has applied everything up to ``seq``: it need not be kept."""
        while self._pending and self._pending[0].seq <= seq:
            self._pending.popleft()
        if not self._pending and self._size > _COMPACT_BYTES:
            self._rewrite()

    def align(self, high_water: int) -> None:
        """Go on behind what the server says it holds of this boot.

        Normally only acknowledges. If one side's disk went back in time, what is pending is
        numbered anew so that the sequence has no hole.
        """
        self.acknowledge(high_water)
        first = self._pending[0].seq if self._pending else self._next
        if first == high_water + 1:
            return
        _log.warning("the server is at message %d, this site at %d: renumbering", high_water, first)
        self._pending = deque(
            message.model_copy(update={"seq": seq})
            for seq, message in enumerate(self._pending, start=high_water + 1)
        )
        self._next = high_water + 1 + len(self._pending)
        self._rewrite()

    def _apply(self, line: dict[str, Any]) -> None:
        if "boot" in line:
            self._boot, self._next = line["boot"], line["next"]
        elif "forget" in line:
            self._notes.pop(line["forget"], None)
        else:
            if line["note"] is not None:
                self._notes[line["attempt"]] = _note(line["note"])
            messages = [Message.model_validate(message) for message in line["messages"]]
            self._pending.extend(messages)
            if messages:
                self._next = messages[-1].seq + 1

    def _write(self, line: dict[str, Any], *, sync: bool = True) -> None:
        data = _encode(line)
        try:
            _write_all(self._file, data)
        except OSError:
            os.ftruncate(self._file, self._size)  # half a line would hide those after it
            raise
        if sync and not self._together:
            os.fsync(self._file)
        self._size += len(data)

    def _rewrite(self) -> None:
        """Replace the journal by a short one of the same meaning."""
        first = self._pending[0].seq if self._pending else self._next
        lines: list[dict[str, Any]] = [{"boot": self._boot, "next": first}]
        lines += [
            {
                "attempt": message.attempt,
                "note": None,
                "messages": [message.model_dump(mode="json")],
            }
            for message in self._pending
        ]
        lines += [
            {"attempt": attempt, "note": asdict(note), "messages": []}
            for attempt, note in self._notes.items()
        ]
        data = b"".join(map(_encode, lines))
        draft = self._path.with_suffix(".new")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        _write_all(file, data)
        os.fsync(file)
        draft.rename(self._path)
        _sync_folder(self._path.parent)
        self.close()
        self._file, self._size = file, len(data)


def told(note: Note, bodies: Iterable[Body]) -> Note:
    """The note after these facts."""
    for body in bodies:
        match body:
            case Preparing(phase=phase) | Phase(phase=phase):
                note = replace(note, phase=phase)
            case Started():
                note = replace(note, started=True)
            case Usage(number=number, duration_ms=duration_ms):
                note = replace(note, usage=number, reported_ms=note.reported_ms + duration_ms)
            case Tuned() as fact:
                note = replace(note, tuned=digest(fact))
            case Stalled() as fact:
                note = replace(note, stalled=sign(fact))
            case Checkpoint(number=number):
                note = replace(note, checkpoint=number)
            case Ended():
                note = replace(note, ended=True)
    return note


def _note(fields: dict[str, Any]) -> Note:
    return Note(**{**fields, "nodes": tuple(fields["nodes"])})


def _encode(line: dict[str, Any]) -> bytes:
    text = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _sound_lines(data: bytes) -> Iterable[tuple[dict[str, Any], int]]:
    """Each line and where it ends, up to the first that is torn or damaged."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        checksum, _, text = data[start:end].partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            break
        yield json.loads(text), end + 1
        start = end + 1
    if start < len(data):
        _log.warning(
            "the journal ends in %d bytes of an unfinished line: cut off", len(data) - start
        )


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
