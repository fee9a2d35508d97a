"""Logs go straight from the node to the server: the rank's file is the spool (``file_push``)."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tesra.node.file_push import POLL_S, FilePusher, Growing
from tesra.node.site_client import SiteClient

_OWN_POLL_S = 0.1  # Tesra's own few lines


class LogPusher:
    """Delivers the log files of one attempt on one node. ``on_stale``: the fence is gone."""

    def __init__(
        self, client: SiteClient, attempt: str, fence: int, *, on_stale: Callable[[], None]
    ) -> None:
        self._client = client
        self._attempt = attempt
        self._fence = fence
        self._files = FilePusher(on_stale=on_stale)

    def follow(self, files: Iterable[tuple[int, Path]]) -> None:
        """Begin to deliver these ranks' files; a file need not exist yet."""
        for rank, path in files:
            name = f"{self._attempt}: the log of rank {rank}"
            poll_s = POLL_S if rank >= 0 else _OWN_POLL_S
            self._files.follow(Growing(name, path, partial(self._put, rank), poll_s=poll_s))

    async def finish(self) -> None:
        """Nothing more will be written: returns when the server has everything."""
        await self._files.finish()

    async def cancel(self) -> None:
        """Stop delivering; what is left stays in the files."""
        await self._files.cancel()

    async def _put(self, rank: int, offset: int, data: bytes) -> int:
        return await self._client.put_log(
            self._attempt, self._fence, rank, offset=offset, data=data
        )


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
