"""Logs go straight from the node to the server: the rank's file is the spool.

Ranks write to files; each file has one task that offers what is new, in order, by byte offset, in
whole lines (a line longer than a segment goes in pieces; the last one goes without its end). The
server's offset is the truth: after a lost answer, a restart of either side, or a second pusher,
it says where to go on. Memory is bounded by one segment for each rank.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from tesra.kit.errors import TesraError
from tesra.node.site_client import ServerAway, SiteClient, StaleFence

SEGMENT_BYTES = 1 << 20
POLL_S = 0.02
_IDLE_POLL_S = 0.1  # after a while without a line
_IDLE_AFTER_POLLS = 250
_RETRY_FIRST_S = 0.1
_RETRY_MOST_S = 5.0

_log = logging.getLogger(__name__)


class LogPusher:
    """Delivers the log files of one attempt on one node. ``on_stale``: the fence is gone."""

    def __init__(
        self, client: SiteClient, attempt: str, fence: int, *, on_stale: Callable[[], None]
    ) -> None:
        self._client = client
        self._attempt = attempt
        self._fence = fence
        self._on_stale = on_stale
        self._final = asyncio.Event()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def follow(self, files: Iterable[tuple[int, Path]]) -> None:
        """Begin to deliver these ranks' files; a file need not exist yet."""
        for rank, path in files:
            if rank not in self._tasks:
                self._tasks[rank] = asyncio.create_task(self._push(rank, path))

    async def finish(self) -> None:
        """Nothing more will be written: returns when the server has everything."""
        self._final.set()
        await asyncio.gather(*self._tasks.values())

    async def cancel(self) -> None:
        """Stop delivering; what is left stays in the files."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _push(self, rank: int, path: Path) -> None:
        offset, quiet = 0, 0
        while True:
            final = self._final.is_set()  # read before the file, so that nothing slips between
            data = await asyncio.to_thread(_read, path, offset) if _grown(path, offset) else b""
            segment = data if final and len(data) < SEGMENT_BYTES else whole_lines(data)
            if segment:
                quiet = 0
                moved = await self._offer(rank, offset, segment)
                if moved is None:
                    return
                offset = moved
            elif final:
                return
            else:
                quiet += 1
                await self._pause(_IDLE_POLL_S if quiet > _IDLE_AFTER_POLLS else POLL_S)

    async def _offer(self, rank: int, offset: int, segment: bytes) -> int | None:
        """Where to go on; ``None`` when the server will never take this log."""
        wait_s = _RETRY_FIRST_S
        while True:
            try:
                return await self._client.put_log(
                    self._attempt, self._fence, rank, offset=offset, data=segment
                )
            except ServerAway:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _RETRY_MOST_S)
            except StaleFence:
                self._on_stale()
                return None
            except TesraError as error:
                _log.error("%s rank %d: log refused: %s", self._attempt, rank, error.detail)
                return None

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._final.wait(), seconds)
        except TimeoutError:
            return


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


def last_lines(path: Path, *, lines: int = 20, limit_bytes: int = 4000) -> str:
    """The end of a log as text, for a reason or a message."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit_bytes))
            tail = file.read(limit_bytes)
    except FileNotFoundError:
        return ""
    text = tail.decode("utf-8", errors="replace").replace("\0", "�")
    return "\n".join(text.rstrip().splitlines()[-lines:])


def _grown(path: Path, offset: int) -> bool:
    try:
        return path.stat().st_size > offset
    except FileNotFoundError:
        return False


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(SEGMENT_BYTES)
