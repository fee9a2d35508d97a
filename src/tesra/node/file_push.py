"""A file that grows here is delivered to the server: the file is the spool.

Offered in order, by byte offset, in whole lines (a line longer than a segment goes in pieces; the
last one goes without its end). The server's offset is the truth: after a lost answer, a restart
of either side, or a second pusher, it says where to go on. Memory is bounded by one segment for
each file.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tesra.kit.errors import TesraError
from tesra.node.site_client import ServerAway, StaleFence

SEGMENT_BYTES = 1 << 20
POLL_S = 0.02
_POLL_EACH_S = 0.0025  # the looks at all files of a process together are no more than one in this
_IDLE_POLL_S = 0.1  # after a while without a line
_IDLE_AFTER_S = 5.0
_QUICK_BYTES = 1 << 14
_RETRY_FIRST_S = 0.1
_RETRY_MOST_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Growing:
    """A file to deliver; it need not exist yet. ``name`` is for messages.

    ``put(offset, data)`` offers a segment and answers the server's offset. ``end``: up to where
    the file may be read now (default: all of it).
    """

    name: str
    path: Path
    put: Callable[[int, bytes], Awaitable[int]]
    end: Callable[[], int] | None = None
    poll_s: float = POLL_S


class FilePusher:
    """Delivers files, a task each. ``on_stale``: the attempt is no longer this site's."""

    _followed = 0  # files, by all pushers of the process

    def __init__(self, *, on_stale: Callable[[], None]) -> None:
        self._on_stale = on_stale
        self._final = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, file: Growing) -> None:
        """Begin to deliver; a second time does nothing."""
        if file.name not in self._tasks:
            self._tasks[file.name] = asyncio.create_task(self._push(file))

    async def finish(self) -> None:
        """Nothing more will be written: returns when the server has everything, or refuses it."""
        self._final.set()
        await asyncio.gather(*self._tasks.values())

    async def cancel(self) -> None:
        """Stop delivering; what is left stays in the files."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _push(self, file: Growing) -> None:
        FilePusher._followed += 1
        try:
            await self._deliver(file)
        finally:
            FilePusher._followed -= 1

    async def _deliver(self, file: Growing) -> None:
        offset, quiet_s = 0, 0.0
        while True:
            final = self._final.is_set()  # read before the file, so that nothing slips between
            left = _end_of(file) - offset
            data = await _read(file.path, offset, left) if left > 0 else b""
            segment = data if final and len(data) < SEGMENT_BYTES else whole_lines(data)
            if segment:
                quiet_s = 0.0
                moved = await self._offer(file, offset, segment)
                if moved is None:
                    return
                offset = moved
            elif final:
                return
            else:
                poll_s = max(file.poll_s, _POLL_EACH_S * FilePusher._followed)
                quiet_s += poll_s
                await self._pause(_idle(poll_s) if quiet_s > _IDLE_AFTER_S else poll_s)

    async def _offer(self, file: Growing, offset: int, segment: bytes) -> int | None:
        """Where to go on; ``None`` when the server will never take this file."""
        wait_s = _RETRY_FIRST_S
        while True:
            try:
                return await file.put(offset, segment)
            except ServerAway:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _RETRY_MOST_S)
            except StaleFence:
                self._on_stale()
                return None
            except TesraError as error:
                _log.error("%s: refused: %s", file.name, error.detail)
                return None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # no task for it, as ``wait_for`` would make
                await self._final.wait()


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


def _idle(poll_s: float) -> float:
    return max(_IDLE_POLL_S, poll_s)


def _end_of(file: Growing) -> int:
    if file.end is not None:
        return file.end()
    try:
        return file.path.stat().st_size
    except FileNotFoundError:
        return 0


async def _read(path: Path, offset: int, most: int) -> bytes:
    """In a thread, unless it is less than the way there costs."""
    if most <= _QUICK_BYTES:
        return _read_now(path, offset, most)
    return await asyncio.to_thread(_read_now, path, offset, most)


def _read_now(path: Path, offset: int, most: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(min(SEGMENT_BYTES, most))
