"""What can be seen of files of the drive without downloading them."""

from fastapi import APIRouter
from fastapi.responses import Response

from tesra.web.auth import Reader
from tesra.web.context import ServicesDep
from tesra.web.routes.files import PathQuery, VersionQuery
from tesra.wire.previews import Preview

router = APIRouter(prefix="/api/v1/drive", tags=["drive"])


@router.get("/preview")
async def preview(
    services: ServicesDep, caller: Reader, path: PathQuery, version: VersionQuery = None
) -> Preview:
    """An image made small, the beginning of a text or a table, Markdown as safe HTML, tensors."""
    return await services.previews.preview(caller.user_id, path, version=version)


@router.get(
    "/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/png": {}, "image/jpeg": {}}}},
)
async def thumbnail(
    services: ServicesDep, caller: Reader, path: PathQuery, version: VersionQuery = None
) -> Response:
    """An image made small: 512 pixels at most each way, without what a camera wrote into it."""
    small, media_type = await services.previews.thumbnail(caller.user_id, path, version=version)
    return Response(
        small,
        media_type=media_type,
        headers={
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, max-age=60",
        },
    )
