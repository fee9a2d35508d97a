"""Search by name in the caller's drive."""

from typing import Annotated

from fastapi import APIRouter, Query

from tesra.drive.search.repository import path_hash
from tesra.web.auth import Reader
from tesra.web.context import ServicesDep
from tesra.web.pages import CursorInvalid, PageAsk, page_of
from tesra.web.routes.files import PathQuery
from tesra.wire.files import SearchHit, SearchPage

router = APIRouter(prefix="/api/v1/drive", tags=["drive"])


@router.get("/search")
async def search(
    services: ServicesDep,
    caller: Reader,
    ask: PageAsk,
    q: Annotated[str, Query(max_length=200, description="Parts of a name, with blanks between")],
    path: PathQuery = "/",
) -> SearchPage:
    """What is named so below a folder: every part of the query has to be in the name.

    Case, width and composition of characters make no difference. ``complete`` is false while a
    large change is still being taken in: ask again.
    """
    hits = await services.search.search(
        caller.user_id, q, below=path, after=_after(ask.after), limit=ask.limit + 1
    )
    rows = [
        SearchHit(path=one.path, name=one.name, kind=one.kind, size_bytes=one.size_bytes)
        for one in hits.found
    ]
    page = page_of(rows, ask.limit, id_of=lambda hit: path_hash(hit.path).hex())
    return SearchPage(items=page.items, next=page.next, complete=hits.complete)


def _after(cursor: str | None) -> bytes | None:
    try:
        return bytes.fromhex(cursor) if cursor is not None else None
    except ValueError as error:
        raise CursorInvalid from error
