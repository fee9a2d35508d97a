"""Cursor pages: a cursor is the last id of a page, made opaque; the next page begins behind it.

A handler takes ``ask: PageAsk``, has its service fetch ``ask.limit + 1`` rows behind ``ask.after``
in the order of the list, and answers ``page_of(rows, ask.limit)``.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query

from tesra.kit.errors import Invalid
from tesra.wire.common import Page

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_DIGITS = 18  # of a number that a BIGINT holds

Item = TypeVar("Item")

Cursor = Annotated[str | None, Query(max_length=512, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]


class CursorInvalid(Invalid):
    """This cursor is not one that a page has given."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """``after`` is the id of the last item seen, None for the first page."""

    after: str | None
    limit: int

    @property
    def number_after(self) -> int:
        """``after`` of a list in the order of a number from 1 on; raises ``CursorInvalid``."""
        if self.after is None:
            return 0
        if not (self.after.isascii() and self.after.isdigit() and len(self.after) <= MAX_DIGITS):
            raise CursorInvalid
        return int(self.after)


async def _page_request(cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> PageRequest:
    return PageRequest(decode_cursor(cursor), limit)


PageAsk = Annotated[PageRequest, Depends(_page_request)]


def encode_cursor(last_id: str) -> str:
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> str | None:
    """The id inside a cursor; raises ``CursorInvalid`` for anything that is not one."""
    if not cursor:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        last_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode("utf-8")
    except (binascii.Error, UnicodeError) as error:
        raise CursorInvalid from error
    if not last_id or not last_id.isprintable():
        raise CursorInvalid
    return last_id


def page_of(
    rows: Sequence[Item], limit: int, *, id_of: Callable[[Item], Any] | None = None
) -> Page[Item]:
    """A page of the first ``limit`` rows; one row more than that means that there is a next one."""
    items = list(rows[:limit])
    if len(rows) <= limit or not items:
        return Page(items=items, next=None)
    last = items[-1]
    last_id = id_of(last) if id_of else getattr(last, "id")  # noqa: B009 - Item has no bound
    return Page(items=items, next=encode_cursor(str(last_id)))
