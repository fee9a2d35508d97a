"""Resumable uploads over HTTP: tus 1.0.0 with creation, creation-with-upload, termination,
expiration and checksum; docs/spec/uploads.md has what goes over the wire.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC
from email.utils import format_datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from tesra.drive.aside import scratch
from tesra.drive.model import check_room
from tesra.drive.uploads.model import (
    CHECKSUMS,
    ChecksumInvalid,
    ChecksumMismatch,
    LengthInvalid,
    MetadataInvalid,
    StoredUpload,
    UploadBusy,
    UploadRefused,
    UploadState,
    parse_checksum,
    parse_count,
)
from tesra.drive.uploads.service import Part, Stand
from tesra.kit.errors import Invalid, TesraError
from tesra.kit.saying import said
from tesra.storage.editing import parse_path, show_path
from tesra.web import problems
from tesra.web.auth import Writer
from tesra.web.bodies import take_body
from tesra.web.context import ServicesDep
from tesra.web.idempotency import IdempotencyKey, once, refuse_other
from tesra.web.pages import PageAsk, page_of
from tesra.web.routes.files import PathQuery
from tesra.web.ui.problem_pages import for_script
from tesra.web.ui.scripts import Tell, ToldTo, is_script
from tesra.wire.common import Page
from tesra.wire.drive import Project
from tesra.wire.uploads import ProjectFromDrive, Unpacked, Upload, UploadError

TUS = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
CONTENT_TYPE = "application/offset+octet-stream"
STATE = "Tesra-Upload-State"
PREFIX = "/api/v1/uploads"

_ARCHIVE_SPARE_BYTES = 256 * 2**20  # headers and padding of an archive, over what it holds

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class VersionUnsupported(Invalid):
    """This server speaks tus 1.0.0."""


class ContentTypeWrong(Invalid):
    """Bytes of an upload come as application/offset+octet-stream."""


class OffsetMissing(Invalid):
    """Upload-Offset has to say where the bytes belong."""


_STATUS: dict[type[TesraError], int] = {
    VersionUnsupported: 412,
    ContentTypeWrong: 415,
    OffsetMissing: 400,
    LengthInvalid: 400,
    MetadataInvalid: 400,
    ChecksumInvalid: 400,
    ChecksumMismatch: 460,
    UploadBusy: 423,
}


class TusRoute(APIRoute):
    """Every answer names the protocol's version, errors too; another version is refused first."""

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                if _speaks_tus(request) and request.headers.get("tus-resumable") != TUS:
                    raise VersionUnsupported(way_out=f"Send 'Tus-Resumable: {TUS}'.")
                answer = await inner(request)
            except TesraError as error:
                status = _STATUS.get(type(error)) or problems.status_of(error)
                answer = problems.answer_of(error, status)
                if is_script(request):
                    answer = for_script(request, error, answer)
                if isinstance(error, VersionUnsupported):
                    answer.headers["Tus-Version"] = TUS
            answer.headers["Tus-Resumable"] = TUS
            return answer

        return handle


tus = APIRouter(prefix=PREFIX, tags=["uploads"], route_class=TusRoute)
plain = APIRouter(prefix="/api/v1", tags=["uploads"])

TusVersion = Annotated[str | None, Header(alias="Tus-Resumable", description="1.0.0")]
Metadata = Annotated[str, Header(alias="Upload-Metadata", description="`key base64,key base64`")]


@tus.options("", status_code=204)
async def abilities(services: ServicesDep) -> Response:
    """What of tus is spoken here."""
    return Response(
        status_code=204,
        headers={
            "Tus-Version": TUS,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(services.settings.quota_bytes),
            "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
        },
    )


@tus.post("", status_code=201)
async def create(
    request: Request,
    services: ServicesDep,
    caller: Writer,
    version: TusVersion = None,  # noqa: ARG001 - the route has looked at it
    length: Annotated[str | None, Header(alias="Upload-Length")] = None,
    metadata: Metadata = "",
) -> Response:
    """Begin an upload, with its first bytes or without any; Location is where the rest goes."""
    size = parse_count(length)
    if size is None:
        raise LengthInvalid(way_out="Send 'Upload-Length: <bytes>'.")
    with_bytes = request.headers.get("content-type", "").startswith(CONTENT_TYPE)
    part = _part(request) if with_bytes else None
    made = await services.uploads.create(caller.user_id, metadata=metadata, length=size)
    stand = Stand(made, 0)
    if part is not None and size > 0:
        stand = await services.uploads.receive(caller.user_id, made.id, 0, part)
    elif size == 0:
        stand = await services.uploads.stand(caller.user_id, made.id)
    headers = _headers(stand) | {"Location": f"{PREFIX}/{made.id}"}
    return Response(status_code=201, headers=headers)


@tus.get("")
async def unfinished(
    services: ServicesDep, caller: Writer, ask: PageAsk, tell: ToldTo
) -> Page[Upload]:
    """Your uploads of the last day, the newest first; ``offset`` of those that go on may be more."""
    found = await services.uploads.unfinished(caller.user_id, before=ask.after, limit=ask.limit + 1)
    rows = []
    for one in found:
        stand = await services.uploads.stand_of(one)
        rows.append(_shown(stand, tell))
    return page_of(rows, ask.limit)


@tus.head("/{upload}")
async def offset(
    upload: str,
    services: ServicesDep,
    caller: Writer,
    version: TusVersion = None,  # noqa: ARG001 - the route has looked at it
) -> Response:
    """How far an upload is: what counts is on disk for good."""
    stand = await services.uploads.stand(caller.user_id, upload, wait=True)
    if stand.upload.state is UploadState.REFUSED:
        assert stand.upload.refusal is not None
        refusal = stand.upload.refusal
        raise UploadRefused(refusal.detail, way_out=refusal.way_out, reason=refusal.code)
    headers = _headers(stand) | {"Upload-Length": str(stand.upload.length)}
    if stand.upload.metadata:
        headers["Upload-Metadata"] = stand.upload.metadata
    return Response(status_code=200, headers=headers)


@tus.get("/{upload}")
async def upload_of(upload: str, services: ServicesDep, caller: Writer, tell: ToldTo) -> Upload:
    """How an upload stands, and what became of it."""
    return _shown(await services.uploads.stand(caller.user_id, upload), tell)


@tus.patch("/{upload}", status_code=204)
async def append(
    upload: str,
    request: Request,
    services: ServicesDep,
    caller: Writer,
    version: TusVersion = None,  # noqa: ARG001 - the route has looked at it
    offset: Annotated[str | None, Header(alias="Upload-Offset")] = None,
) -> Response:
    """Add bytes at an offset. The last ones are answered when the file is in the drive, or, if that
    takes long, with the state ``landing``."""
    return await _append(upload, request, services, caller, offset)


@tus.delete("/{upload}", status_code=204)
async def cancel(
    upload: str,
    services: ServicesDep,
    caller: Writer,
    version: TusVersion = None,  # noqa: ARG001 - the route has looked at it
) -> Response:
    """Forget an upload and its bytes; what has landed in the drive stays there."""
    await services.uploads.cancel(caller.user_id, upload)
    return Response(status_code=204)


@tus.post("/{upload}", status_code=204)
async def overridden(
    upload: str,
    request: Request,
    services: ServicesDep,
    caller: Writer,
    override: Annotated[str, Header(alias="X-HTTP-Method-Override")] = "",
    offset: Annotated[str | None, Header(alias="Upload-Offset")] = None,
) -> Response:
    """PATCH or DELETE for clients that can't send those: X-HTTP-Method-Override names it."""
    if override.upper() == "PATCH":
        return await _append(upload, request, services, caller, offset)
    if override.upper() == "DELETE":
        await services.uploads.cancel(caller.user_id, upload)
        return Response(status_code=204)
    return problems.problem(405, said("This address does not know this method."))


@tus.post("/{upload}/land")
async def land(upload: str, services: ServicesDep, caller: Writer, tell: ToldTo) -> Upload:
    """Try again to bring a refused upload into the drive: there may be room by now."""
    return _shown(await services.uploads.land_again(caller.user_id, upload), tell)


@plain.post("/drive/unpack")
async def unpack(
    request: Request, services: ServicesDep, caller: Writer, path: PathQuery = "/"
) -> Unpacked:
    """The body, a zip or tar, is unpacked below the path: all its files in one commit.

    What else stands there stays. For what does not fit one request: an upload with ``as folder``.
    """
    parts = parse_path(path)
    async with services.database.begin() as tx:
        quota = await services.drive.quota(tx, caller.user_id)
    async with scratch(services.settings.home.uploads) as place:
        archive = place / "archive"
        room = partial(check_room, quota.used_bytes, quota.quota_bytes + _ARCHIVE_SPARE_BYTES)
        await take_body(request, archive, check=room)
        landed = await services.uploads.landing.folder(caller.user_id, archive, parts)
    assert landed.version is not None
    return Unpacked(path=show_path(parts), version=landed.version)


@plain.post("/projects/from-drive", status_code=201)
async def project_from_drive(
    wanted: ProjectFromDrive,
    services: ServicesDep,
    caller: Writer,
    key: IdempotencyKey = None,
) -> Project:
    """What stands at a path of your drive becomes the newest snapshot of a project."""
    await refuse_other(services, caller, key, wanted)
    made = await services.uploads.landing.project(
        caller.user_id, wanted.path, name=wanted.name, version=wanted.version
    )

    async def act(_: Any) -> Project:
        return made

    return await once(services, caller, key, wanted, act)


async def _append(
    upload: str, request: Request, services: ServicesDep, caller: Writer, offset: str | None
) -> Response:
    at = parse_count(offset)
    if at is None:
        raise OffsetMissing(way_out="Send 'Upload-Offset: <bytes>'.")
    stand = await services.uploads.receive(caller.user_id, upload, at, _part(request))
    return Response(status_code=204, headers=_headers(stand))


def _part(request: Request) -> Part:
    if request.headers.get("content-type", "").split(";")[0].strip() != CONTENT_TYPE:
        raise ContentTypeWrong
    checksum = request.headers.get("upload-checksum")
    return Part(
        stream=_until_gone(request),
        size=parse_count(request.headers.get("content-length")),
        checksum=parse_checksum(checksum) if checksum is not None else None,
    )


async def _until_gone(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        return  # what came counts


def _speaks_tus(request: Request) -> bool:
    """GET and ``/land`` are of our own, and OPTIONS is how versions are asked for."""
    if request.method in {"GET", "OPTIONS"}:
        return False
    return not request.url.path.endswith("/land")


def _headers(stand: Stand) -> dict[str, str]:
    expires = format_datetime(stand.upload.expires_at.astimezone(UTC), usegmt=True)
    return {
        "Upload-Offset": str(stand.offset),
        "Upload-Expires": expires,
        STATE: stand.upload.state.value,
    }


def _shown(stand: Stand, tell: Tell) -> Upload:
    upload: StoredUpload = stand.upload
    refusal = upload.refusal
    return Upload(
        id=upload.id,
        state=upload.state.value,
        become=upload.wish.become.value,
        path=show_path(upload.wish.path),
        filename=upload.wish.filename,
        filetype=upload.wish.filetype,
        length=upload.length,
        offset=stand.offset,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        version=upload.version,
        project=upload.project_id or upload.wish.project,
        error=UploadError(
            code=refusal.code,
            detail=tell(refusal.detail),
            way_out=refusal.way_out and tell(refusal.way_out),
        )
        if refusal
        else None,
    )
