"""Private drives over HTTP: sealed, signed, and moved by compare and swap."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import StreamingResponse

from tesra.drive.private.repository import StoredHead, StoredPrivate
from tesra.kit.ids import EpochId
from tesra.storage.pointers import SignedPointer
from tesra.web.auth import Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.pages import PageAsk, page_of
from tesra.web.ranges import ranged
from tesra.web.routes.drive import PackId
from tesra.wire.common import Page
from tesra.wire.drive import ChunkQuery, MissingChunks, PackReceipt
from tesra.wire.private import (
    ID_PATTERN,
    ChunksAsked,
    ChunksFound,
    Farewell,
    HeadKept,
    HeadMove,
    KeysMove,
    NewPrivateDrive,
    PackHealth,
    PacksAsked,
    PacksHealth,
    PrivateDrive,
    Prune,
    Pruned,
    SealedAt,
)

DriveId = Annotated[str, PathParameter(pattern=ID_PATTERN.format("prv"))]

router = APIRouter(prefix="/api/v1/private", tags=["private drives"])


@router.get("")
async def drives(services: ServicesDep, caller: Reader, ask: PageAsk) -> Page[PrivateDrive]:
    """Your private drives, the oldest first. What they are called, only your devices know."""
    async with services.database.begin() as tx:
        found = await services.private.drives(
            tx, caller.user_id, after=ask.after, limit=ask.limit + 1
        )
    return page_of([_drive(*one) for one in found], ask.limit)


@router.put("/{drive}")
async def create(
    drive: DriveId, wanted: NewPrivateDrive, services: ServicesDep, caller: Writer
) -> PrivateDrive:
    """A drive whose keys never come here. The same again is harmless."""
    async with services.database.begin() as tx:
        made = await services.private.create(
            tx,
            caller.user_id,
            drive,
            verify_key=bytes.fromhex(wanted.verify_key),
            epoch=EpochId(wanted.epoch),
            document=bytes.fromhex(wanted.document),
        )
        return _drive(*await services.private.find(tx, caller.user_id, made.id))


@router.get("/{drive}")
async def show(drive: DriveId, services: ServicesDep, caller: Reader) -> PrivateDrive:
    """Key document and head."""
    async with services.database.begin() as tx:
        return _drive(*await services.private.find(tx, caller.user_id, drive))


@router.delete("/{drive}", status_code=204)
async def end(drive: DriveId, wanted: Farewell, services: ServicesDep, caller: Writer) -> None:
    """The drive is gone, with all its versions. Signed with the drive's key."""
    async with services.database.begin() as tx:
        await services.private.end(tx, caller.user_id, drive, bytes.fromhex(wanted.signature))


@router.put("/{drive}/keys")
async def put_keys(
    drive: DriveId, wanted: KeysMove, services: ServicesDep, caller: Writer
) -> PrivateDrive:
    """The next key document, when the one before it is still the newest (409 `keys_moved`)."""
    epoch = None
    if wanted.epoch is not None:
        epoch = (EpochId(wanted.epoch), wanted.at_version or 0)
    async with services.database.begin() as tx:
        await services.private.put_keys(
            tx,
            caller.user_id,
            drive,
            number=wanted.number,
            document=bytes.fromhex(wanted.document),
            epoch=epoch,
        )
        return _drive(*await services.private.find(tx, caller.user_id, drive))


@router.put("/{drive}/head")
async def move_head(
    drive: DriveId, wanted: HeadMove, services: ServicesDep, caller: Writer
) -> HeadKept:
    """The next version, when the head is still the one before it (409 `head_moved`)."""
    head = wanted.head
    pointer = SignedPointer(
        drive, head.version, head.epoch, bytes.fromhex(head.sealed), bytes.fromhex(head.signature)
    )
    async with services.database.begin() as tx:
        return _head(await services.private.move_head(tx, caller.user_id, pointer, wanted.packs))


@router.get("/{drive}/heads")
async def heads(
    drive: DriveId, services: ServicesDep, caller: Reader, ask: PageAsk
) -> Page[HeadKept]:
    """The history, the newest first."""
    async with services.database.begin() as tx:
        found = await services.private.heads(
            tx, caller.user_id, drive, before=ask.number_after or None, limit=ask.limit + 1
        )
    return page_of([_head(one) for one in found], ask.limit, id_of=lambda head: head.version)


@router.get("/{drive}/heads/{version}")
async def head(
    drive: DriveId,
    version: Annotated[int, PathParameter(ge=1, le=2**62)],
    services: ServicesDep,
    caller: Reader,
) -> HeadKept:
    """One version."""
    async with services.database.begin() as tx:
        return _head(await services.private.head(tx, caller.user_id, drive, version))


@router.post("/{drive}/prune")
async def prune(drive: DriveId, wanted: Prune, services: ServicesDep, caller: Writer) -> Pruned:
    """Forget old versions; what only they needed goes with the next collection of garbage."""
    async with services.database.begin() as tx:
        forgotten = await services.private.prune(
            tx,
            caller.user_id,
            drive,
            versions=(wanted.keep_from, wanted.at_version),
            packs=wanted.packs,
            signature=bytes.fromhex(wanted.signature),
        )
    return Pruned(versions=forgotten)


@router.post("/{drive}/chunks/missing")
async def missing(
    drive: DriveId, query: ChunkQuery, services: ServicesDep, caller: Writer
) -> MissingChunks:
    """Those of the chunks that have to be sent."""
    async with services.database.begin() as tx:
        found = await services.private.missing(
            tx, caller.user_id, drive, EpochId(query.epoch), query.ids
        )
    return MissingChunks(missing=found)


@router.post("/{drive}/chunks/locate")
async def locate(
    drive: DriveId, query: ChunksAsked, services: ServicesDep, caller: Reader
) -> ChunksFound:
    """Where sealed chunks lie, those that are stored."""
    async with services.database.begin() as tx:
        found = await services.private.locate(tx, caller.user_id, drive, query.ids)
    return ChunksFound(
        chunks={
            one.chunk_id.hex(): SealedAt(
                epoch=one.epoch,
                pack=one.pack_id,
                offset=one.offset,
                length=one.length,
                size=one.plain_size,
            )
            for one in found
        }
    )


@router.put("/{drive}/packs/{pack}")
async def put_pack(
    drive: DriveId,
    pack: PackId,
    epoch: Annotated[str, Query(max_length=64)],
    request: Request,
    services: ServicesDep,
    caller: Writer,
) -> PackReceipt:
    """Store a pack (the body); on disk when this answers. Again is harmless."""
    async with services.database.begin() as tx:
        await services.private.check_epoch(tx, caller.user_id, drive, EpochId(epoch))
    return await services.drive.receive_pack(caller.user_id, EpochId(epoch), pack, request.stream())


@router.get("/{drive}/packs/{pack}", response_class=StreamingResponse)
async def get_pack(
    drive: DriveId,
    pack: PackId,
    request: Request,
    services: ServicesDep,
    caller: Reader,
    doubt: Annotated[bool, Query(description="What came before was not right: look")] = False,
) -> StreamingResponse:
    """A pack or a range of it: ciphertext."""
    async with services.database.begin() as tx:
        await services.private.check_packs(tx, caller.user_id, drive, [pack])
    size = await services.drive.pack_size(pack, owner=caller.user_id)
    await services.drive.mend_pack(pack, doubt=doubt)
    return ranged(
        request, size, lambda start, end: services.drive.read_pack(pack, start, end), etag=pack
    )


@router.post("/{drive}/packs/health")
async def packs_health(
    drive: DriveId, query: PacksAsked, services: ServicesDep, caller: Reader
) -> PacksHealth:
    """How well packs are kept; which files need them, only your devices know."""
    async with services.database.begin() as tx:
        await services.private.check_packs(tx, caller.user_id, drive, query.packs)
    wanted, found = await services.health.of_packs(caller.user_id, query.packs)
    return PacksHealth(
        wanted=wanted, packs={pack: PackHealth(**asdict(one)) for pack, one in found.items()}
    )


def _drive(stored: StoredPrivate, head: StoredHead | None) -> PrivateDrive:
    return PrivateDrive(
        id=stored.id,
        verify_key=stored.verify_key.hex(),
        number=stored.number,
        document=stored.document.hex(),
        epoch=stored.epoch,
        head=_head(head) if head else None,
        created_at=stored.created_at,
    )


def _head(stored: StoredHead) -> HeadKept:
    pointer = stored.pointer
    return HeadKept(
        version=pointer.version,
        epoch=pointer.epoch,
        sealed=pointer.sealed.hex(),
        signature=pointer.signature.hex(),
        stored_at=stored.stored_at,
    )
