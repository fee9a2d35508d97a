"""The drive: its folders and files, as they are now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Response

from tesra.drive.files.browsing import Sort, place_of
from tesra.drive.files.service import Found
from tesra.kit.errors import TesraError
from tesra.storage.editing import Parts, parse_path, show_path
from tesra.storage.tree import Folder, Link
from tesra.web.pages import decode_cursor, encode_cursor
from tesra.web.problems import status_of
from tesra.web.ui.pages.drive_words import crumbs_of, folder_url, row_of
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member, Visit

ROWS = 100
router = PageRouter()

Cursor = Annotated[str | None, Query(max_length=1024)]
PathAsked = Annotated[str, Query(max_length=4096)]


@dataclass(frozen=True, slots=True)
class Told:
    """What a folder's page says beside its list: what went wrong, and what was typed."""

    error: TesraError | None = None
    typed: str = ""
    undo: int | None = None
    thrown: int = 0


@router.get("/drive")
async def root(
    visit: Member,
    sort: Sort = Sort.NAME,
    cursor: Cursor = None,
    undo: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    thrown: Annotated[int, Query(ge=0, le=10_000)] = 0,
) -> Response:
    """The top folder of the visitor's drive."""
    told = Told(undo=undo, thrown=thrown)
    return await folder_page(visit, (), sort=sort, cursor=cursor, told=told)


@router.get("/drive/files/{path:path}")
async def place(
    visit: Member,
    path: str,
    sort: Sort = Sort.NAME,
    cursor: Cursor = None,
    undo: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    thrown: Annotated[int, Query(ge=0, le=10_000)] = 0,
) -> Response:
    """A folder's list, or all about a file."""
    parts = parse_path(path)
    if not parts:
        return visit.redirect("/drive")
    found = await visit.services.files.find(visit.member.user_id, show_path(parts))
    if isinstance(found.entry, Folder):
        told = Told(undo=undo, thrown=thrown)
        return await folder_page(visit, parts, sort=sort, cursor=cursor, told=told)
    return await _file_page(visit, found)


@router.get("/drive/preview")
async def preview(
    visit: Member,
    path: PathAsked,
    version: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> Response:
    """A part of a file's page: what can be seen of it."""
    try:
        seen = await visit.services.previews.preview(visit.member.user_id, path, version=version)
    except TesraError as error:
        return visit.page("drive/preview.html", seen=None, error=visit.words(error), where=path)
    return visit.page("drive/preview.html", seen=seen, error=None, where=path, version=version)


@router.get("/drive/use")
async def use(visit: Member, path: PathAsked = "/") -> Response:
    """A part of a page: how much stands below a folder."""
    found = await visit.services.files.use(visit.member.user_id, path)
    return visit.page("drive/use.html", files=found.files, size_bytes=found.size_bytes)


async def folder_page(
    visit: Visit,
    parts: Parts,
    *,
    sort: Sort = Sort.NAME,
    cursor: str | None = None,
    told: Told | None = None,
) -> Response:
    """A folder's list with all that can be done in it."""
    owner, services, told = visit.member.user_id, visit.services, told or Told()
    found = await services.browser.listing(
        owner, show_path(parts), sort=sort, after=decode_cursor(cursor), limit=ROWS + 1
    )
    rows = [row_of(one) for one in found[:ROWS]]
    async with services.database.begin() as tx:
        quota = await services.drive.quota(tx, owner)
    here = folder_url(parts)
    return visit.page(
        "drive/folder.html",
        status=status_of(told.error) if told.error else 200,
        rows=rows,
        parts=parts,
        folder=show_path(parts),
        crumbs=crumbs_of(parts),
        sort=sort.value,
        sort_urls=_sort_urls(here, sort),
        next_url=_next_url(here, sort, found),
        first_url=f"{here}?sort={sort.value}" if cursor else None,
        quota=quota,
        error=visit.words(told.error) if told.error else None,
        way_out=visit.way_out(told.error) if told.error else None,
        typed=told.typed,
        undo=told.undo,
        thrown=told.thrown,
    )


async def _file_page(visit: Visit, found: Found) -> Response:
    return visit.page(
        "drive/file.html",
        row=row_of(found),
        parts=found.path,
        where=show_path(found.path),
        crumbs=crumbs_of(found.path),
        target=found.entry.target if isinstance(found.entry, Link) else None,
    )


def _sort_urls(here: str, sort: Sort) -> dict[str, str]:
    """Where a click on a column's head leads: sorted by it, or the other way round."""
    turned = {
        "name": Sort.NAME_DOWN if sort is Sort.NAME else Sort.NAME,
        "size": Sort.SIZE if sort is Sort.SIZE_DOWN else Sort.SIZE_DOWN,
    }
    return {column: f"{here}?sort={target.value}" for column, target in turned.items()}


def _next_url(here: str, sort: Sort, found: Sequence[Found]) -> str | None:
    if len(found) <= ROWS:
        return None
    cursor = encode_cursor(place_of(sort, found[ROWS - 1]))
    return f"{here}?sort={sort.value}&cursor={cursor}"
