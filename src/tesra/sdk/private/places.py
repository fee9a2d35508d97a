"""Paths of drives: ``/a/b`` in the default drive, ``NAME:/a/b`` in the private drive NAME."""

import re
import unicodedata
from dataclasses import dataclass

from tesra.kit.errors import Forbidden, Invalid

MAX_NAME = 64
_PRIVATE = re.compile(r"([^/:]+):(/.*|$)", re.DOTALL)
_REFUSED = frozenset("/:\\?#%")


class DriveNameInvalid(Invalid):
    """This can't be the name of a drive."""


class NeedsTheServersEyes(Forbidden):
    """The server can't do this with a private drive: it has no key."""


@dataclass(frozen=True, slots=True)
class Place:
    """``drive`` is None in the default drive."""

    drive: str | None
    path: str


def parse_place(text: str) -> Place:
    """``NAME:/PATH``, ``NAME:`` or a path in the default drive."""
    found = _PRIVATE.fullmatch(text)
    if found is None:
        return Place(None, text)
    return Place(unicodedata.normalize("NFC", found[1]), found[2] or "/")


def show_place(drive: str, path: str) -> str:
    return f"{drive}:{path}"


def refuse_private(text: str, what: str) -> None:
    """Raise ``NeedsTheServersEyes`` for a path of a private drive; ``what`` needs the content."""
    place = parse_place(text)
    if place.drive is not None:
        raise NeedsTheServersEyes(
            f"{what} is not possible in the private drive '{place.drive}': it would need a key"
            " on the server, and there is none.",
            way_out=f"`tesra drive get xingpan:{place.drive}:{place.path} .` brings it here; what"
            " the network is to work with belongs in your default drive (`tesra drive put`).",
        )


def check_drive_name(name: str) -> str:
    """The name in one Unicode form; it must be printable and fit in a path."""
    plain = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(plain) <= MAX_NAME:
        raise DriveNameInvalid(f"A drive's name has 1 to {MAX_NAME} characters.")
    if not plain.isprintable() or _REFUSED & set(plain) or plain in {".", ".."}:
        raise DriveNameInvalid(
            f"{plain!r} can't be the name of a drive.",
            way_out="Use letters, digits, blanks and -_.+@ only.",
        )
    return plain
