"""Forms that a browser posts: read in bounded memory, meant by whoever sends them."""

from collections.abc import Iterator, Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from tesra.kit.errors import Invalid
from tesra.web.session import CSRF_HEADER, require_meant
from tesra.web.ui.visit import Visitor

MAX_FORM_BYTES = 2**20
MAX_FIELDS = 5000
CSRF_FIELD = "csrf"


class FormInvalid(Invalid):
    """This form could not be read."""


class Form(Mapping[str, str]):
    """A form's fields: ``form["name"]`` is the first value, stripped; missing ones are ``""``."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        values = self._fields.get(name)
        return values[0].strip() if values else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def raw(self, name: str) -> str:
        """The value as it was typed, spaces too (passwords, texts)."""
        return (self._fields.get(name) or [""])[0]

    def all(self, name: str) -> list[str]:
        """All values of a field that may come many times."""
        return [value.strip() for value in self._fields.get(name, [])]

    def all_raw(self, name: str) -> list[str]:
        """The same as they were sent, spaces too."""
        return list(self._fields.get(name, []))

    def flag(self, name: str) -> bool:
        """Whether a box was ticked."""
        return self[name] in {"on", "1", "true", "yes"}


async def _posted(request: Request, visit: Visitor) -> Form:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise FormInvalid(way_out="Send it as application/x-www-form-urlencoded.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise FormInvalid(f"A form has at most {MAX_FORM_BYTES // 2**20} MiB.")
    form = Form(_fields(bytes(body)))
    given = form[CSRF_FIELD] or request.headers.get(CSRF_HEADER)
    require_meant(visit.secret, given)
    return form


Posted = Annotated[Form, Depends(_posted)]


def _fields(body: bytes) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise FormInvalid from error
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\x00" in name or "\x00" in value:
            raise FormInvalid("Text can't hold the character NUL.")
        fields.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return fields
