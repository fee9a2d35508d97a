"""Uploads in parts, over connections that break: begun, gone on with, landed in the drive.

The bytes are on disk before an offset is told; that they have all come is in the database before
they are brought into the drive; that they are there is said in the transaction that makes it so.
A server that dies in between leaves what the next one goes on with.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from tesra.db.engine import Database, Tx
from tesra.drive.aside import clear_scratch
from tesra.drive.files.service import FileService
from tesra.drive.model import check_room
from tesra.drive.service import DriveService
from tesra.drive.uploads.landing import Landing
from tesra.drive.uploads.model import (
    MAX_OPEN,
    ContentUntrue,
    LengthExceeded,
    OffsetWrong,
    Refusal,
    StoredUpload,
    TooManyUploads,
    UploadBusy,
    UploadEnded,
    UploadIncomplete,
    UploadStalled,
    UploadState,
    UploadUnknown,
    parse_metadata,
    read_wish,
)
from tesra.drive.uploads.repository import UploadRepository
from tesra.drive.uploads.spool import Lock, Spool
from tesra.kit.errors import TesraError
from tesra.kit.ids import UserId, new_id

log = logging.getLogger(__name__)

SILENCE_S = 60.0  # without a byte: whoever sent them is gone
_GIVE_WAY_S = 2.0  # so long silent, and another wants to go on: it is the same browser, come back
_TURN_S = 5.0
_POLL_S = 0.05
_LANDS_WITHIN_S = 20.0  # a final answer waits so long; proxies cut off those that wait a minute
_ABANDONED = timedelta(minutes=1)
_ORPHAN_S = 3600.0  # a file without a row, such as one whose server died between the two
_LARGE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Part:
    """One request's bytes: what it says of them, and the stream."""

    stream: AsyncIterator[bytes]
    size: int | None = None  # of the body, where that is known beforehand
    checksum: tuple[str, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Stand:
    """An upload and how far it is."""

    upload: StoredUpload
    offset: int


class UploadService:
    """One for a server process; ``spool`` may be shared by several on one machine."""

    def __init__(
        self, database: Database, drive: DriveService, files: FileService, spool: Spool
    ) -> None:
        self._database = database
        self._drive = drive
        self._spool = spool
        self.landing = Landing(database, drive, files, spool.folder)
        self._repository = UploadRepository()
        self._receiving: dict[str, _Patience] = {}
        self._landings: dict[str, asyncio.Task[TesraError | None]] = {}
        self._large, self._small = asyncio.Semaphore(1), asyncio.Semaphore(4)

    async def create(self, owner: UserId, *, metadata: str, length: int) -> StoredUpload:
        """Begin an upload; the quota has to have room for all that are begun."""
        wish = read_wish(parse_metadata(metadata))
        await self.landing.require_place(owner, wish)
        upload = new_id("upl")
        await self._spool.create(upload)
        try:
            self._spool.require_room(length)
            async with self._database.begin() as tx:
                stored = await self._add(tx, upload, owner, metadata, length)
        except BaseException:
            self._spool.discard(upload)
            raise
        if length == 0:
            await self._complete(upload)
        return stored

    async def receive(self, owner: UserId, upload: str, offset: int, part: Part) -> Stand:
        """Add bytes at ``offset``; after the last one it lands in the drive.

        However the stream ends, what came of it is kept, except where a checksum can't be proved.
        Raises ``OffsetWrong``, ``UploadBusy``, ``LengthExceeded``, ``ChecksumMismatch``, and what
        keeps it from landing.
        """
        await self._own(owner, upload)
        stored, size, ended = None, None, UploadEnded()
        try:
            async with self._turn(upload) as lock:
                stored = await self._own(owner, upload)
                if stored.state is UploadState.RECEIVING:
                    size = await self._receive(stored, lock, offset, part)
        except UploadEnded as error:  # whoever had its turn before may have sent the last byte
            ended = error
        if stored is None or size is None:
            stored = await self._own(owner, upload)
            if stored.state is UploadState.RECEIVING:
                raise ended
            return await self._again(stored, offset)
        if size == stored.length:
            await self._await_landing(upload)
        return Stand(await self._own(owner, upload), size)

    async def stand(self, owner: UserId, upload: str, *, wait: bool = False) -> Stand:
        """How far it is, on disk for good; ``wait`` a little for one that lands just now."""
        stored = await self._own(owner, upload)
        if stored.state is UploadState.RECEIVING:
            offset = await self._spool.offset(upload)
            if offset < stored.length:
                return Stand(stored, offset)
            await self._complete(upload)  # all came, and the server died before it said so
        elif stored.state is UploadState.LANDING and wait:
            await self._await_landing(upload)
        elif stored.state is UploadState.LANDING:
            self._land_soon(upload)
        stored = await self._own(owner, upload)
        return Stand(stored, stored.length)

    async def land_again(self, owner: UserId, upload: str) -> Stand:
        """Another try for one that the drive did not take: there may be room by now."""
        stored = await self._own(owner, upload)
        if stored.state is UploadState.RECEIVING:
            raise UploadIncomplete
        if stored.state is UploadState.REFUSED:
            async with self._database.begin() as tx:
                await self._repository.landing(tx, upload)
        if stored.state is not UploadState.LANDED:
            await self._await_landing(upload)
        return Stand(await self._own(owner, upload), stored.length)

    async def unfinished(
        self, owner: UserId, *, before: str | None = None, limit: int = 50
    ) -> list[StoredUpload]:
        """The owner's uploads of the last day, the newest first."""
        async with self._database.begin() as tx:
            return await self._repository.of_owner(tx, owner, before=before, limit=limit)

    async def stand_of(self, stored: StoredUpload) -> Stand:
        """How far one of ``unfinished`` is."""
        if stored.state is not UploadState.RECEIVING:
            return Stand(stored, stored.length)
        try:
            return Stand(stored, await self._spool.offset(stored.id))
        except UploadEnded:  # it is cancelled just now
            return Stand(stored, 0)

    async def cancel(self, owner: UserId, upload: str) -> None:
        """Forget an upload and its bytes; who is sending them is cut off. A landed file stays."""
        stored = await self._own(owner, upload)
        if stored.state is not UploadState.LANDED:
            async with self._turn(upload, at_once=True):
                await self._forget(upload)
        else:
            await self._forget(upload)

    async def land(self, upload: str) -> TesraError | None:
        """Bring a complete upload into the drive, if nobody else does; what kept it from there."""
        with ExitStack() as held:
            try:
                held.enter_context(self._spool.lock(upload))
            except (UploadBusy, UploadEnded):
                return None
            async with self._database.begin() as tx:
                stored = await self._repository.find(tx, upload)
            if stored is None or stored.state is not UploadState.LANDING:
                return None
            try:
                await self._bring(stored)
            except TesraError as error:
                await self._refuse(upload, error)
                return error
            except Exception:
                await self._refuse(upload, TesraError("It failed on our side: try again."))
                raise
            self._spool.discard(upload)
        return None

    async def look_after(self) -> None:
        """By the clock: go on with what a server left that died, clear away what nobody went on with."""
        async with self._database.begin() as tx:
            left, expired = (
                await self._repository.to_land(tx, _ABANDONED),
                await self._repository.expired(tx),
            )
        for upload in left:
            await self.land(upload)
        for upload in expired:
            await self._clear(upload)
        await asyncio.to_thread(clear_scratch, self._spool.folder)
        ages = await asyncio.to_thread(self._spool.ages)
        async with self._database.begin() as tx:
            states = await self._repository.states(tx, list(ages))
        for upload, age_s in ages.items():
            state = states.get(upload)
            if state is UploadState.LANDED or (state is None and age_s > _ORPHAN_S):
                self._spool.discard(upload)

    async def _add(
        self, tx: Tx, upload: str, owner: UserId, metadata: str, length: int
    ) -> StoredUpload:
        drive = await self._drive.lock_drive(tx, (await self._drive.drive_of(tx, owner)).id)
        count, begun_bytes = await self._repository.open_of(tx, owner)
        if count >= MAX_OPEN:
            raise TooManyUploads(
                f"{count} of your uploads are not finished.",
                way_out="Finish or cancel some; they end by themselves after 24 hours.",
            )
        quota = await self._drive.quota(tx, owner)
        check_room(drive.used_bytes, quota.quota_bytes, begun_bytes + length)
        return await self._repository.add(tx, upload, owner, metadata=metadata, length=length)

    async def _receive(self, stored: StoredUpload, lock: Lock, offset: int, part: Part) -> int:
        """Where the upload stands after these bytes; once complete, that is noted."""
        if offset != lock.size:
            raise OffsetWrong(f"The upload stands at {lock.size}, not at {offset}.")
        room = stored.length - offset
        if part.size is not None and part.size > room:
            raise LengthExceeded(way_out="Begin a new upload that says its true length.")
        async with self._database.begin() as tx:
            quota = await self._drive.quota(tx, stored.owner)
        check_room(quota.used_bytes, quota.quota_bytes, stored.length)
        try:
            await self._append(stored.id, lock, part, room)
        finally:
            size = lock.size
            async with self._database.begin() as tx:
                if size == stored.length:
                    await self._repository.landing(tx, stored.id)
                else:
                    await self._repository.touch(tx, stored.id)
        return size

    async def _append(self, upload: str, lock: Lock, part: Part, room_bytes: int) -> None:
        patience = _Patience(part.stream)
        self._receiving[upload] = patience
        try:
            if part.checksum is None:
                await self._spool.append(lock, patience.pieces(), room_bytes=room_bytes)
            else:
                await self._spool.append_verified(
                    upload,
                    lock,
                    patience.pieces(),
                    room_bytes=room_bytes,
                    checksum=part.checksum,
                )
        finally:
            del self._receiving[upload]

    async def _again(self, stored: StoredUpload, offset: int) -> Stand:
        """Bytes for one that is complete: a last answer that was lost is given again."""
        if offset != stored.length:
            raise OffsetWrong(f"The upload is complete: it stands at {stored.length}.")
        return await self.land_again(stored.owner, stored.id)

    async def _complete(self, upload: str) -> None:
        async with self._database.begin() as tx:
            await self._repository.landing(tx, upload)
        await self._await_landing(upload)

    async def _await_landing(self, upload: str) -> None:
        task = self._land_soon(upload)
        await asyncio.wait({task}, timeout=_LANDS_WITHIN_S)
        if task.done():
            error = task.result()
            if error is not None:
                raise error

    def _land_soon(self, upload: str) -> "asyncio.Task[TesraError | None]":
        task = self._landings.get(upload)
        if task is None:
            task = self._landings[upload] = asyncio.create_task(self.land(upload))
            task.add_done_callback(lambda done: self._landed(upload, done))
        return task

    def _landed(self, upload: str, task: "asyncio.Task[TesraError | None]") -> None:
        del self._landings[upload]
        if not task.cancelled() and task.exception() is not None:
            log.error("upload %s did not land", upload, exc_info=task.exception())

    async def _bring(self, stored: StoredUpload) -> None:
        lane = self._large if stored.length > _LARGE_BYTES else self._small
        async with lane:
            wanted = stored.wish.sha256
            if wanted is not None and await self._spool.sha256(stored.id) != wanted:
                raise ContentUntrue(way_out="Cancel it, and upload the file again.")

            async def done(tx: Tx, version: int | None, project: str | None) -> None:
                await self._repository.landed(tx, stored.id, version=version, project_id=project)

            await self.landing.land(stored.owner, self._spool.path(stored.id), stored.wish, done)

    async def _refuse(self, upload: str, error: TesraError) -> None:
        async with self._database.begin() as tx:
            refusal = Refusal(error.code, error.detail, error.way_out)
            await self._repository.refused(tx, upload, refusal)

    async def _clear(self, upload: str) -> None:
        try:
            with self._spool.lock(upload):
                await self._forget(upload)
        except UploadEnded:
            await self._forget(upload)
        except UploadBusy:
            return  # somebody is at it after all

    async def _forget(self, upload: str) -> None:
        async with self._database.begin() as tx:
            await self._repository.remove(tx, upload)
        self._spool.discard(upload)

    async def _own(self, owner: UserId, upload: str) -> StoredUpload:
        async with self._database.begin() as tx:
            found = await self._repository.find(tx, upload)
        if found is None or found.owner != owner:
            raise UploadUnknown(way_out="Begin a new one: POST /api/v1/uploads.")
        return found

    @asynccontextmanager
    async def _turn(self, upload: str, *, at_once: bool = False) -> AsyncIterator[Lock]:
        """The upload's file, alone; a holder that is silent gives way (``at_once``: any holder)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TURN_S
        with ExitStack() as held:
            while True:
                try:
                    lock = held.enter_context(self._spool.lock(upload))
                    break
                except UploadBusy:
                    if loop.time() > deadline:
                        raise
                holder = self._receiving.get(upload)
                if holder is not None and (at_once or holder.silent_s > _GIVE_WAY_S):
                    holder.give_way()
                await asyncio.sleep(_POLL_S)
            yield lock


class _Patience:
    """A stream that ends in ``UploadStalled`` when nothing comes, or another takes its place."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._waiting: asyncio.Timeout | None = None
        self._given_way = False

    @property
    def silent_s(self) -> float:
        return self._loop.time() - self._heard_at if self._waiting is not None else 0.0

    def give_way(self) -> None:
        self._given_way = True
        if self._waiting is not None:
            self._waiting.reschedule(self._loop.time())

    async def pieces(self) -> AsyncIterator[bytes]:
        while True:
            if self._given_way:
                raise UploadStalled("Another request goes on with this upload.")
            try:
                async with asyncio.timeout(SILENCE_S) as self._waiting:
                    piece = await anext(self._stream)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise UploadStalled(
                    way_out="Ask where it stands, then go on from there."
                ) from error
            finally:
                self._waiting = None
            self._heard_at = self._loop.time()
            yield piece
