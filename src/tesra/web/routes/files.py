"""The drive's tree over HTTP: paths, their content, their history, the trash."""

from datetime import timedelta
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from tesra.db.engine import Tx
from tesra.drive.archive import tar_stream, zip_stream
from tesra.drive.aside import scratch
from tesra.drive.files.changing import NameMissing
from tesra.drive.files.repository import Version
from tesra.drive.files.service import Also, Found, Landed
from tesra.drive.intake import Intake
from tesra.drive.model import check_room
from tesra.drive.reading import EpochReader
from tesra.kit.ids import UserId
from tesra.storage.editing import parse_path, show_path
from tesra.storage.tree import File, Folder, Link, content_id
from tesra.web.auth import Reader, Writer
from tesra.web.bodies import take_body
from tesra.web.context import Services, ServicesDep
from tesra.web.idempotency import IdempotencyKey, Keep, once_elsewhere
from tesra.web.pages import PageAsk, page_of
from tesra.web.ranges import attachment, ranged
from tesra.wire.common import Page, Wire
from tesra.wire.drive import ReadPlan
from tesra.wire.files import (
    Changes,
    Committed,
    DriveEntry,
    DriveHead,
    DriveUse,
    DriveVersion,
    Renamed,
    ThrownAway,
    TreeCommit,
)

PathQuery = Annotated[str, Query(max_length=4096, description="Such as `/models/best.pt`")]
VersionQuery = Annotated[int | None, Query(ge=1, le=2**62, description="Default: as it is now")]

ArchiveKind = Annotated[Literal["zip", "tar"], Query()]

router = APIRouter(prefix="/api/v1/drive", tags=["drive"])


@router.get("/head")
async def head(services: ServicesDep, caller: Reader) -> DriveHead:
    """Which version your drive is at."""
    return await _head(services, caller.user_id, await services.files.head(caller.user_id))


@router.get("/tree")
async def listing(
    services: ServicesDep,
    caller: Reader,
    ask: PageAsk,
    path: PathQuery = "/",
    version: VersionQuery = None,
) -> Page[DriveEntry]:
    """What a folder holds, sorted; a file is its own listing."""
    found = await services.files.listing(
        caller.user_id, path, after=ask.after, limit=ask.limit + 1, version=version
    )
    return page_of([entry_of(one) for one in found], ask.limit, id_of=lambda entry: entry.name)


@router.get("/entry")
async def entry(
    services: ServicesDep, caller: Reader, path: PathQuery, version: VersionQuery = None
) -> DriveEntry:
    """What stands at a path."""
    return entry_of(await services.files.find(caller.user_id, path, version=version))


@router.get("/content", response_class=StreamingResponse)
async def content(
    request: Request,
    services: ServicesDep,
    caller: Reader,
    path: PathQuery,
    version: VersionQuery = None,
) -> StreamingResponse:
    """A file or a range of it, as a download; its ETag stays the same while its content does."""
    found = await services.files.open(caller.user_id, path, version=version)
    etag = content_id(found.file).hex()
    return ranged(request, found.size_bytes, found.read, etag=etag, headers=attachment(found.name))


@router.get("/archive", response_class=StreamingResponse)
async def archive(
    services: ServicesDep,
    caller: Reader,
    path: PathQuery = "/",
    version: VersionQuery = None,
    kind: ArchiveKind = "zip",
) -> StreamingResponse:
    """A folder as one file, made while it is sent."""
    name, reader, root = await services.files.folder(caller.user_id, path, version=version)
    return archived(name, reader, root, kind)


@router.get("/plan")
async def plan(
    services: ServicesDep, caller: Reader, path: PathQuery = "/", version: VersionQuery = None
) -> ReadPlan:
    """Where the chunks of what stands at a path lie, and the keys that open them."""
    return await services.files.plan(caller.user_id, path, version=version)


@router.put("/content")
async def put(
    request: Request, services: ServicesDep, caller: Writer, path: PathQuery
) -> Committed:
    """The body becomes the file at the path; folders above it are made. The version before is kept."""
    parts = parse_path(path)
    if not parts:
        raise NameMissing
    async with services.database.begin() as tx:
        quota = await services.drive.quota(tx, caller.user_id)
    async with scratch(services.settings.home.uploads) as place:
        file = place / parts[-1]
        room = partial(check_room, quota.used_bytes, quota.quota_bytes)
        await take_body(request, file, check=room)
        stored = await Intake(services.database, services.drive).entry(caller.user_id, file)
    landed = await services.files.put(
        caller.user_id, {parts: stored}, words=f"put {show_path(parts)}"
    )
    return await _committed(services, caller.user_id, landed)


@router.post("/changes")
async def change(
    wanted: Changes, services: ServicesDep, caller: Writer, key: IdempotencyKey = None
) -> Committed:
    """Make folders, move, copy, remove, restore: all of it or nothing. No content is moved."""

    async def act(keep: Keep) -> Committed:
        also = _keeping(services, caller.user_id, keep)
        landed = await services.files.change(caller.user_id, wanted, also=also)
        return await _committed(services, caller.user_id, landed)

    return await once_elsewhere(services, caller, key, wanted, act)


@router.post("/commits")
async def commit(wanted: TreeCommit, services: ServicesDep, caller: Writer) -> Committed:
    """A whole tree that was made on version ``base``; merged with what others changed since."""
    landed = await services.files.commit(
        caller.user_id, wanted.base, wanted.tree, words=wanted.words
    )
    return await _committed(services, caller.user_id, landed)


@router.get("/versions")
async def versions(services: ServicesDep, caller: Reader, ask: PageAsk) -> Page[DriveVersion]:
    """The history of your drive, the newest first."""
    found = await services.files.versions(
        caller.user_id, before=ask.number_after or None, limit=ask.limit + 1
    )
    rows = [
        DriveVersion(version=one.number, root=one.root.hex(), words=one.words, made_at=one.made_at)
        for one in found
    ]
    return page_of(rows, ask.limit, id_of=lambda row: row.version)


@router.get("/trash")
async def trash(services: ServicesDep, caller: Reader, ask: PageAsk) -> Page[ThrownAway]:
    """What you have thrown away, the last first."""
    found = await services.files.trash(caller.user_id, before=ask.after, limit=ask.limit + 1)
    rows = [
        ThrownAway(id=one.id, path=one.path, version=one.version, thrown_at=one.thrown_at)
        for one in found
    ]
    return page_of(rows, ask.limit)


@router.post("/trash/{item}/restore")
async def restore(
    item: str, services: ServicesDep, caller: Writer, key: IdempotencyKey = None
) -> Committed:
    """Back to where it was, or beside what stands there now."""

    async def act(keep: Keep) -> Committed:
        also = _keeping(services, caller.user_id, keep)
        landed = await services.files.restore_from_trash(caller.user_id, item, also=also)
        return await _committed(services, caller.user_id, landed)

    return await once_elsewhere(services, caller, key, Wire(), act)


@router.delete("/trash", status_code=204)
async def empty_trash(
    services: ServicesDep,
    caller: Writer,
    older_than_days: Annotated[int, Query(ge=0, le=36_500)] = 0,
) -> None:
    """Forget what was thrown away; versions that hold it stay until they are pruned."""
    age = timedelta(days=older_than_days)
    await services.files.empty_trash(caller.user_id, older_than=age)


@router.get("/use")
async def use(
    services: ServicesDep, caller: Reader, path: PathQuery = "/", version: VersionQuery = None
) -> DriveUse:
    """How many files and bytes stand below a path."""
    found = await services.files.use(caller.user_id, path, version=version)
    shown = show_path(parse_path(path))
    return DriveUse(path=shown, files=found.files, size_bytes=found.size_bytes)


def archived(
    name: str, reader: EpochReader, root: bytes, kind: Literal["zip", "tar"]
) -> StreamingResponse:
    """A tree as a download."""
    stream = zip_stream if kind == "zip" else tar_stream
    media = "application/zip" if kind == "zip" else "application/x-tar"
    headers = {"X-Content-Type-Options": "nosniff", **attachment(f"{name}.{kind}")}
    return StreamingResponse(stream(reader, root), media_type=media, headers=headers)


async def _head(services: Services, owner: UserId, version: Version) -> DriveHead:
    async with services.database.begin() as tx:
        return await _head_in(tx, services, owner, version)


async def _head_in(tx: Tx, services: Services, owner: UserId, version: Version) -> DriveHead:
    drive = await services.drive.drive_of(tx, owner)
    return DriveHead(
        drive=drive.id, version=version.number, epoch=version.epoch, root=version.root.hex()
    )


def _keeping(services: Services, owner: UserId, keep: Keep) -> Also:
    """Keeps the answer of a change in the change's own transaction."""

    async def also(tx: Tx, landed: Landed) -> None:
        await keep(tx, _answer(await _head_in(tx, services, owner, landed.version), landed))

    return also


async def _committed(services: Services, owner: UserId, landed: Landed) -> Committed:
    return _answer(await _head(services, owner, landed.version), landed)


def _answer(head: DriveHead, landed: Landed) -> Committed:
    renamed = [Renamed(path=show_path(path), to=show_path(to)) for path, to in landed.renamed]
    return Committed(head=head, renamed=renamed)


def entry_of(found: Found) -> DriveEntry:
    """An entry as it goes over the wire."""
    kind = {File: "file", Folder: "dir", Link: "link"}[type(found.entry)]
    return DriveEntry(
        path=show_path(found.path),
        name=found.path[-1] if found.path else "",
        kind=kind,
        size_bytes=found.entry.size if isinstance(found.entry, File) else 0,
        executable=isinstance(found.entry, File) and found.entry.executable,
        content=content_id(found.entry).hex(),
    )
