"""Search by name: the names of each drive's head in rows, brought up to date by what differs.

A search first brings the rows to the head, for a short while; what it could not do by then goes
on, and the answer says that something may be missing. Private drives are never in here.
"""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

from tesra.db.engine import Database, Tx
from tesra.drive.files.repository import Version
from tesra.drive.files.service import FileService
from tesra.drive.model import refuse_private_path
from tesra.drive.search.naming import Batch, named_since
from tesra.drive.search.repository import Indexed, Named, NameRepository
from tesra.drive.service import DriveService
from tesra.kit.errors import TesraError
from tesra.kit.ids import DriveId, UserId
from tesra.storage.editing import TreeEditor, parse_path, show_path
from tesra.storage.names import query_words

log = logging.getLogger(__name__)

_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Hits:
    """``complete``: the rows were those of the head."""

    found: list[Named]
    complete: bool


class SearchService:
    """One for a server process."""

    def __init__(self, database: Database, drive: DriveService, files: FileService) -> None:
        self._database = database
        self._drive = drive
        self._files = files
        self._repository = NameRepository()
        self._running: dict[UserId, asyncio.Task[None]] = {}

    async def search(
        self,
        owner: UserId,
        query: str,
        *,
        below: str = "/",
        after: bytes | None = None,
        limit: int = 50,
    ) -> Hits:
        """What is named so below a folder, sorted by path; ``after`` is the last one's path hash."""
        refuse_private_path(below)
        words, folder = query_words(query), show_path(parse_path(below))
        complete = await self._bring_up(owner)
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            found = await self._repository.search(
                tx, drive.id, words, below=folder, after=after, limit=limit
            )
        return Hits(found, complete)

    async def look_after(self) -> None:
        """By the clock: what was changed since is found quickly then."""
        async with self._database.begin() as tx:
            owners = await self._repository.behind(tx)
        for owner in owners:
            try:
                await self.index(UserId(owner))
            except TesraError as error:  # a locked file's folder can't be read now
                log.warning("names of %s are not up to date: %s", owner, error.detail)

    async def index(self, owner: UserId) -> None:
        """Bring the rows to the head, all or nothing, unless another does it just now."""
        head = await self._files.head(owner)
        empty = await self._files.look(owner, head, lambda editor: editor.empty())
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            known = await self._repository.claim(tx, drive.id, empty)
            if known is None or known.version >= head.number:
                return
            await self._follow(tx, owner, drive.id, known, head)
            await self._repository.set_head(tx, drive.id, Indexed(head.number, head.root))

    async def _follow(
        self, tx: Tx, owner: UserId, drive: DriveId, known: Indexed, head: Version
    ) -> None:
        loop = asyncio.get_running_loop()

        def compare(editor: TreeEditor) -> None:
            for batch in named_since(editor, known.root, head.root):
                work = self._apply(tx, drive, batch)
                asyncio.run_coroutine_threadsafe(work, loop).result()

        await self._files.look(owner, head, compare)

    async def _apply(self, tx: Tx, drive: DriveId, batch: Batch) -> None:
        for folder in batch.gone_below:
            await self._repository.remove_below(tx, drive, folder)
        if batch.gone:
            await self._repository.remove(tx, drive, batch.gone)
        if batch.there:
            await self._repository.put(tx, drive, batch.there)

    async def _bring_up(self, owner: UserId) -> bool:
        if await self._is_up(owner):
            return True
        task = self._running.get(owner)
        if task is None:
            task = self._running[owner] = asyncio.create_task(self.index(owner))
            task.add_done_callback(partial(self._ended, owner))
        await asyncio.wait({task}, timeout=_WAIT_S)
        return await self._is_up(owner)

    async def _is_up(self, owner: UserId) -> bool:
        head = await self._files.head(owner)
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            known = await self._repository.head(tx, drive.id)
        return known is not None and known.version >= head.number

    def _ended(self, owner: UserId, task: "asyncio.Task[None]") -> None:
        del self._running[owner]
        if not task.cancelled() and task.exception() is not None:
            log.warning("names of %s are not up to date", owner, exc_info=task.exception())
