"""The drive over HTTP: transfer of packs, snapshots and their files, projects and imports."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Form, Query, Request, UploadFile
from fastapi import Path as PathParameter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from tesra.db.engine import Tx
from tesra.drive.aside import scratch
from tesra.drive.intake import Intake
from tesra.drive.model import SnapshotUnknown
from tesra.identity.model import Step
from tesra.kit.ids import EpochId, SnapshotId, UserId
from tesra.web.auth import Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.idempotency import IdempotencyKey, once, refuse_other
from tesra.web.pages import PageAsk, page_of
from tesra.web.ranges import attachment, ranged
from tesra.wire.common import Page
from tesra.wire.drive import (
    ChunkQuery,
    FileEntry,
    GitImport,
    ImportJob,
    KnownChunks,
    MissingChunks,
    PackReceipt,
    Project,
    ProjectCommit,
    ProjectRemoved,
    ProjectVersion,
    Quota,
    ReadPlan,
    UploadGrant,
)

Doubt = Annotated[bool, Query(description="What came before was not right: look at the copy")]
PackId = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{64}$")]
_COPY_BYTES = 2**20


class TransferRights(Protocol):
    """What a caller may do: write under one purpose's epoch, read these snapshots."""

    @property
    def owner(self) -> UserId:
        """Whose drive it is."""
        ...

    @property
    def purpose(self) -> str | None:
        """The epoch to write under; ``None`` is the drive's main one."""
        ...

    @property
    def readable(self) -> frozenset[SnapshotId] | None:
        """The snapshots that may be read, with chunk keys alone; ``None`` is all of the owner's."""
        ...


class UploadedArchive(BaseModel):
    """What makes two uploads the same call."""

    name: str
    sha256: str


class OwnRights:
    """A user's rights to the own drive."""

    readable = None
    purpose = "main"

    def __init__(self, owner: UserId) -> None:
        self.owner = owner


async def _own_rights_to_write(caller: Writer) -> OwnRights:
    return OwnRights(caller.user_id)


async def _own_rights_to_read(caller: Reader) -> OwnRights:
    return OwnRights(caller.user_id)


def transfer_router(
    authorise: Callable[..., Awaitable[TransferRights]],
    authorise_reading: Callable[..., Awaitable[TransferRights]] | None = None,
) -> APIRouter:
    """The transfer of packs, for callers whose rights ``authorise`` (a dependency) establishes."""
    router = APIRouter()
    # Not "rights: Annotated[...]" written out: the dependency is known only at run time.
    writing = Depends(authorise)

    @router.post("/uploads")
    async def open_upload(services: ServicesDep, rights: Any = writing) -> UploadGrant:
        """Keys to encrypt with, and how much room is left."""
        async with services.database.begin() as tx:
            return await services.drive.open_upload(tx, rights.owner, purpose=rights.purpose)

    @router.post("/chunks/missing")
    async def missing(
        query: ChunkQuery, services: ServicesDep, rights: Any = writing
    ) -> MissingChunks:
        """Those of the chunks that have to be sent."""
        async with services.database.begin() as tx:
            found = await services.drive.missing(
                tx, rights.owner, EpochId(query.epoch), query.ids, purpose=rights.purpose
            )
        return MissingChunks(missing=found)

    @router.get("/chunks/known")
    async def known(
        epoch: Annotated[str, Query(max_length=64)], services: ServicesDep, rights: Any = writing
    ) -> KnownChunks:
        """How the ids begin of what the epoch holds: who sends much that is new need not ask."""
        async with services.database.begin() as tx:
            found = await services.drive.known(
                tx, rights.owner, EpochId(epoch), purpose=rights.purpose
            )
        return KnownChunks(prefixes=None if found is None else base64.b64encode(found).decode())

    @router.put("/packs/{pack}")
    async def put_pack(
        pack: PackId,
        epoch: Annotated[str, Query(max_length=64)],
        request: Request,
        services: ServicesDep,
        rights: Any = writing,
    ) -> PackReceipt:
        """Store a pack (the body); on disk when this answers. Again is harmless."""
        return await services.drive.receive_pack(
            rights.owner, EpochId(epoch), pack, request.stream(), purpose=rights.purpose
        )

    _add_reading(router, Depends(authorise_reading or authorise))
    return router


def _add_reading(router: APIRouter, reading: Any) -> None:
    @router.get("/packs/{pack}", response_class=StreamingResponse)
    async def get_pack(
        pack: PackId,
        request: Request,
        services: ServicesDep,
        rights: Any = reading,
        doubt: Doubt = False,
    ) -> StreamingResponse:
        """A pack or a range of it: ciphertext, for those who may read something in it."""
        size = await services.drive.pack_size(pack, owner=rights.owner, readable=rights.readable)
        await services.drive.mend_pack(pack, doubt=doubt)
        return ranged(request, size, partial(services.drive.read_pack, pack), etag=pack)

    @router.get("/snapshots/{snapshot}/plan")
    async def plan(snapshot: str, services: ServicesDep, rights: Any = reading) -> ReadPlan:
        """Where the chunks of a snapshot lie, and the keys that open them."""
        wanted = SnapshotId(snapshot)
        if rights.readable is None:
            return await services.drive.plan(rights.owner, wanted)
        if wanted not in rights.readable:
            raise SnapshotUnknown
        return await services.drive.plan_for_site(wanted)


router = APIRouter(prefix="/api/v1", tags=["drive"])
router.include_router(transfer_router(_own_rights_to_write, _own_rights_to_read), prefix="/drive")


@router.get("/drive/quota")
async def quota(services: ServicesDep, caller: Reader) -> Quota:
    """How much of your 10 GiB is used."""
    async with services.database.begin() as tx:
        return await services.drive.quota(tx, caller.user_id)


@router.get("/drive/snapshots/{snapshot}/files")
async def files(
    snapshot: str, services: ServicesDep, caller: Reader, ask: PageAsk
) -> Page[FileEntry]:
    """What a snapshot holds, each folder before its content."""
    found = await services.drive.files_page(
        caller.user_id, SnapshotId(snapshot), after=ask.after, limit=ask.limit + 1
    )
    return page_of(found, ask.limit, id_of=lambda entry: entry.path)


@router.get("/drive/snapshots/{snapshot}/files/{path:path}", response_class=StreamingResponse)
async def file(
    snapshot: str, path: str, request: Request, services: ServicesDep, caller: Reader
) -> StreamingResponse:
    """One file or a range of it, as a download: nothing of it is ever shown by the browser."""
    found = await services.drive.find_file(SnapshotId(snapshot), path, owner=caller.user_id)
    return ranged(request, found.size_bytes, found.read, headers=attachment(found.name))


@router.get("/drive/snapshots/{snapshot}/archive.zip", response_class=StreamingResponse)
async def archive(snapshot: str, services: ServicesDep, caller: Reader) -> StreamingResponse:
    """All of a snapshot as a zip."""
    stream = await services.drive.archive(SnapshotId(snapshot), owner=caller.user_id)
    async with services.database.begin() as tx:
        await services.account.note_step(tx, caller.user_id, Step.DOWNLOAD)
    return StreamingResponse(
        stream, media_type="application/zip", headers=attachment(f"{snapshot}.zip")
    )


@router.post("/projects", status_code=201)
async def commit_project(
    commit: ProjectCommit, services: ServicesDep, caller: Writer, key: IdempotencyKey = None
) -> Project:
    """Make an uploaded tree the newest snapshot of a project; the project is made if it is new."""
    await services.drive.check_complete(caller.user_id, commit.snapshot, purpose="main")

    async def act(tx: Tx) -> Project:
        snapshot = await services.drive.commit_snapshot(
            tx, caller.user_id, commit.snapshot, kind="project"
        )
        return await services.drive.create_or_update_project(
            tx, caller.user_id, commit.name, snapshot
        )

    return await once(services, caller, key, commit, act)


@router.get("/projects")
async def projects(services: ServicesDep, caller: Reader, ask: PageAsk) -> Page[Project]:
    """Your projects, the newest first."""
    async with services.database.begin() as tx:
        found = await services.drive.projects(
            tx, caller.user_id, cursor=ask.after, limit=ask.limit + 1
        )
    return page_of(found, ask.limit)


@router.get("/projects/{project}")
async def project(project: str, services: ServicesDep, caller: Reader) -> Project:
    """One of your projects, by name or id."""
    async with services.database.begin() as tx:
        return await services.drive.project(tx, caller.user_id, project)


@router.delete("/projects/{project}")
async def remove_project(project: str, services: ServicesDep, caller: Writer) -> ProjectRemoved:
    """Remove a project, by name or id; its runs' records and bills stay, with the code they ran."""
    async with services.database.begin() as tx:
        return await services.projects.remove(tx, caller.user_id, project)


@router.get("/projects/{project}/versions")
async def versions(
    project: str, services: ServicesDep, caller: Reader, ask: PageAsk
) -> Page[ProjectVersion]:
    """Its snapshots, the newest first: each import that changed something made one."""
    async with services.database.begin() as tx:
        found = await services.drive.versions(
            tx, caller.user_id, project, before=ask.number_after or None, limit=ask.limit + 1
        )
    return page_of(found, ask.limit, id_of=lambda version: version.number)


@router.post("/projects/upload", status_code=201)
async def upload_project(
    file: UploadFile,
    services: ServicesDep,
    caller: Writer,
    name: Annotated[str, Form(min_length=1, max_length=128)],
    key: IdempotencyKey = None,
) -> Project:
    """A zip or tar file becomes the newest snapshot of a project. The same file again changes nothing."""
    within = services.settings.home.uploads
    async with scratch(within) as place:
        path = place / "archive"
        sha256 = await asyncio.to_thread(_copy, file, path)
        request = UploadedArchive(name=name, sha256=sha256)
        await refuse_other(services, caller, key, request)
        intake = Intake(services.database, services.drive)
        project = await intake.archive(caller.user_id, path, name=name, within=within)

    async def act(_: Tx) -> Project:
        return project

    return await once(services, caller, key, request, act)


@router.post("/projects/git", status_code=202)
async def import_git(
    wanted: GitImport, services: ServicesDep, caller: Writer, key: IdempotencyKey = None
) -> ImportJob:
    """Clone a public git repository on the server; look at the import's address for how it goes."""
    return await once(
        services,
        caller,
        key,
        wanted,
        lambda tx: services.git_imports.request(tx, caller.user_id, wanted),
    )


@router.get("/imports/{job}")
async def import_job(job: str, services: ServicesDep, caller: Reader) -> ImportJob:
    """How an import stands."""
    async with services.database.begin() as tx:
        return await services.git_imports.job(tx, caller.user_id, job)


def _copy(upload: UploadFile, path: Path) -> str:
    """Write the upload to the disk; gives its SHA-256."""
    digest = hashlib.sha256()
    with path.open("xb") as target:
        while block := upload.file.read(_COPY_BYTES):
            digest.update(block)
            target.write(block)
    return digest.hexdigest()
