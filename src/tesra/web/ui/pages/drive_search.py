"""Searching the drive by name."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Response

from tesra.drive.search.repository import path_hash
from tesra.kit.errors import TesraError
from tesra.storage.editing import parse_path
from tesra.web.pages import CursorInvalid, decode_cursor, encode_cursor
from tesra.web.problems import status_of
from tesra.web.ui.pages.drive import Cursor
from tesra.web.ui.pages.drive_words import folder_url, shown_name
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member

HITS = 100
router = PageRouter()


@router.get("/drive/search")
async def search(
    visit: Member,
    q: Annotated[str, Query(max_length=255)] = "",
    cursor: Cursor = None,
) -> Response:
    """All that has every part of the query in its name, by path."""
    owner, error, hits, complete = visit.member.user_id, None, [], True
    after = _after(decode_cursor(cursor))
    try:
        if q.strip():
            found = await visit.services.search.search(owner, q, after=after, limit=HITS + 1)
            hits, complete = found.found, found.complete
    except TesraError as refused:
        error = refused
    following = None
    if len(hits) > HITS:
        last = encode_cursor(path_hash(hits[HITS - 1].path).hex())
        following = f"/drive/search?{urlencode({'q': q, 'cursor': last})}"
    shown = [
        (hit, shown_name(hit.name), shown_name(hit.path), folder_url(parse_path(hit.path)))
        for hit in hits[:HITS]
    ]
    return visit.page(
        "drive/search.html",
        status=status_of(error) if error else 200,
        query=q,
        hits=shown,
        complete=complete,
        next_url=following,
        first_url=f"/drive/search?{urlencode({'q': q})}" if cursor else None,
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
    )


def _after(place: str | None) -> bytes | None:
    try:
        return bytes.fromhex(place) if place is not None else None
    except ValueError as error:
        raise CursorInvalid from error
