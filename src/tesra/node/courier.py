"""Files that grow here are delivered to the server: the file is the spool.

What is new in many of them at the same time goes together, since a request costs both sides more
than what is in it; what is much goes by itself, so that nothing waits behind it. Each file goes in
order, by byte offset, in whole lines (a line longer than a segment goes in pieces; the last one
goes without its end). The server's offset is the truth: after a lost answer, a restart of either
side, or a second courier, it says where to go on. Memory is bounded by one segment for each file.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tesra.node.server_link import Backoff
from tesra.node.site_client import ServerAway, SiteClient
from tesra.wire.site import Piece, PieceTaken

SEGMENT_BYTES = 1 << 20
LOOK_S = 0.02
_LOOK_EACH_S = 0.0025  # the looks at all files of a node together are no more than one in this
_IDLE_LOOK_S = 0.1  # after a while without a line
_IDLE_AFTER_S = 5.0
_GATHER_EACH_S = 0.001  # what ends waits so long for others to go with, for each file
_GATHER_MOST_S = 0.05
_LITTLE_BYTES = 1 << 14
_LITTLE_PIECES = 64  # in one delivery

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Growing:
    """A file to deliver; it need not exist yet.

    ``of``: the rank whose log it is, or the node's rank in the gang. ``end``: up to where the file
    may be read now (default: all of it).
    """

    kind: Literal["log", "metrics"]
    of: int
    path: Path
    end: Callable[[], int] | None = None


class Parcels:
    """The files of one attempt. ``on_stale``: it is no longer this site's."""

    def __init__(
        self, courier: "Courier", attempt: str, fence: int, on_stale: Callable[[], None]
    ) -> None:
        self.attempt = attempt
        self.fence = fence
        self.final = False
        self._courier = courier
        self._on_stale = on_stale
        self._known: set[tuple[str, int]] = set()
        self._left: set[_Followed] = set()
        self._all_gone = asyncio.Event()

    def follow(self, file: Growing) -> None:
        """Begin to deliver; a second time does nothing."""
        if (file.kind, file.of) not in self._known:
            self._known.add((file.kind, file.of))
            followed = _Followed(file, self)
            self._left.add(followed)
            self._courier.take(followed)

    async def finish(self) -> None:
        """Nothing more will be written: returns when the server has everything, or refuses it."""
        self.final = True
        if self._left:
            self._courier.hurry()
            await self._all_gone.wait()

    def cancel(self) -> None:
        """Stop delivering; what is left stays in the files."""
        for followed in list(self._left):
            self.close(followed)

    def close(self, followed: "_Followed") -> None:
        """All of this file is delivered, or it will never be."""
        followed.closed = True
        self._left.discard(followed)
        if not self._left:
            self._all_gone.set()

    def refuse(self, followed: "_Followed", why: str) -> None:
        """The server will never take this file."""
        if why == "stale_fence":
            self.cancel()
            self._on_stale()
            return
        _log.error("%s is not delivered: %s", followed.name, why)
        self.close(followed)


@dataclass(slots=True, eq=False)
class _Followed:
    """A file that is being delivered; ``offset``: how far the server holds it."""

    file: Growing
    owner: Parcels
    offset: int = 0
    under_way: bool = False
    closed: bool = False

    @property
    def name(self) -> str:
        return f"{self.owner.attempt}: the {self.file.kind} of {self.file.of}"


@dataclass(frozen=True, slots=True)
class _Load:
    """A piece to deliver; ``last``: nothing comes after it."""

    followed: _Followed
    data: bytes
    last: bool

    @property
    def piece(self) -> Piece:
        file, owner = self.followed.file, self.followed.owner
        return Piece.model_construct(
            attempt=owner.attempt,
            fence=owner.fence,
            kind=file.kind,
            of=file.of,
            offset=self.followed.offset,
            size=len(self.data),
        )


class Courier:
    """One per agent, for all that its attempts write."""

    def __init__(self, client: SiteClient) -> None:
        self._client = client
        self._files: list[_Followed] = []
        self._hurry = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._ways: set[asyncio.Task[None]] = set()

    def parcels(self, attempt: str, fence: int, *, on_stale: Callable[[], None]) -> Parcels:
        """For the files of an attempt."""
        return Parcels(self, attempt, fence, on_stale)

    def take(self, followed: _Followed) -> None:
        """One more file."""
        self._files.append(followed)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on())

    def hurry(self) -> None:
        """Somebody waits for what there is."""
        self._hurry.set()

    async def _look_on(self) -> None:
        moved_at = time.monotonic()
        while self._files:
            began = time.monotonic()
            if await self._look():
                moved_at = began
            await self._pause(began, idle=began - moved_at > _IDLE_AFTER_S)

    async def _look(self) -> bool:
        """Send what is new; whether anything is."""
        self._files = [followed for followed in self._files if not followed.closed]
        little: list[_Load] = []
        found = False
        for followed in self._files:
            load = None if followed.under_way else await self._load_of(followed)
            if load is None:
                continue
            found = followed.under_way = True
            if len(load.data) > _LITTLE_BYTES:
                self._send([load])
                continue
            little.append(load)
            if len(little) == _LITTLE_PIECES:
                self._send(little)
                little = []
        if little:
            self._send(little)
        return found

    async def _load_of(self, followed: _Followed) -> _Load | None:
        """What can go now; a file that is over is closed, and one that can't be read."""
        file, final = followed.file, followed.owner.final  # first, so that nothing slips between
        try:
            left = _end_of(file) - followed.offset
            data = await _read(file.path, followed.offset, left) if left > 0 else b""
        except Exception as error:  # noqa: BLE001 - one file may not hold up all the others
            followed.owner.refuse(followed, f"it can't be read: {error!r}")
            return None
        last = final and len(data) < SEGMENT_BYTES
        segment = data if last else whole_lines(data)
        if segment:
            return _Load(followed, segment, last)
        if final:
            followed.owner.close(followed)
        return None

    def _send(self, loads: list[_Load]) -> None:
        way = asyncio.create_task(self._deliver(loads))
        self._ways.add(way)
        way.add_done_callback(self._ways.discard)

    async def _deliver(self, loads: list[_Load]) -> None:
        backoff = Backoff()
        while loads := [load for load in loads if not load.followed.closed]:
            try:
                taken = await self._client.deliver([(load.piece, load.data) for load in loads])
                for load, answer in zip(loads, taken, strict=True):
                    self._note(load, answer)
                return
            except ServerAway:
                await backoff.pause()
            except Exception as error:  # noqa: BLE001 - a worker's outer loop: logged and marked
                for load in loads:
                    load.followed.owner.refuse(load.followed, repr(error))

    def _note(self, load: _Load, answer: PieceTaken) -> None:
        followed, owner = load.followed, load.followed.owner
        followed.under_way = False
        if followed.closed:
            return
        if answer.offset is None:
            owner.refuse(followed, answer.refused or "")
        elif load.last and answer.offset == followed.offset + len(load.data):
            owner.close(followed)
        else:
            followed.offset = answer.offset
            if owner.final or len(load.data) > _LITTLE_BYTES:
                self.hurry()

    async def _pause(self, began: float, *, idle: bool) -> None:
        count = len(self._files)
        pause_s = max(_IDLE_LOOK_S if idle else LOOK_S, _LOOK_EACH_S * count)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):  # no task for it, as ``wait_for`` would make
                await self._hurry.wait()
                gathered_s = min(_GATHER_EACH_S * count, _GATHER_MOST_S)
                await asyncio.sleep(began + gathered_s - time.monotonic())
        self._hurry.clear()


def whole_lines(data: bytes) -> bytes:
    """Up to the last line end; all of a segment that has none, because its line is overlong.

    A carriage return ends a line too: a progress bar goes on for hours without any other.
    """
    end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if end:
        return data[:end]
    return _whole_characters(data) if len(data) >= SEGMENT_BYTES else b""


def _whole_characters(data: bytes) -> bytes:
    """Without the beginning of a character of UTF-8 at the end, so that no reader sees half of it."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if back < size else data
        if byte < 0x80:
            break
    return data


def _end_of(file: Growing) -> int:
    if file.end is not None:
        return file.end()
    try:
        return file.path.stat().st_size
    except FileNotFoundError:
        return 0


async def _read(path: Path, offset: int, most: int) -> bytes:
    """In a thread, unless it is less than the way there costs."""
    if most <= _LITTLE_BYTES:
        return _read_now(path, offset, most)
    return await asyncio.to_thread(_read_now, path, offset, most)


def _read_now(path: Path, offset: int, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(min(SEGMENT_BYTES, most))
    except FileNotFoundError:
        return b""
