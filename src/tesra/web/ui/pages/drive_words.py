"""How pages of the drive show paths: addresses, crumbs, and names that can't disguise themselves."""

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from tesra.drive.files.service import Found
from tesra.storage.editing import Parts, show_path
from tesra.storage.tree import File, Folder, Link

# What turns the direction of the text around it, or can't be seen at all.
_HIDDEN = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a list. ``shown`` is the name for people, ``path`` what it is really called."""

    path: str
    shown: str
    kind: str
    size_bytes: int
    url: str


@dataclass(frozen=True, slots=True)
class Crumb:
    shown: str
    url: str


def row_of(found: Found) -> Row:
    """An entry as a line of a list."""
    kind = {File: "file", Folder: "dir", Link: "link"}[type(found.entry)]
    return Row(
        path=show_path(found.path),
        shown=shown_name(found.path[-1]) if found.path else "/",
        kind=kind,
        size_bytes=found.entry.size if isinstance(found.entry, File) else 0,
        url=folder_url(found.path),
    )


def shown_name(name: str) -> str:
    """A name with a mark for each character that would hide something."""
    marked = _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", name)
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in {"Cc", "Cs"} else c
        for c in marked
    )


def crumbs_of(parts: Parts) -> list[Crumb]:
    """The folders above a place, and the place itself, without the drive's root."""
    return [
        Crumb(shown_name(name), folder_url(parts[: depth + 1])) for depth, name in enumerate(parts)
    ]


def folder_url(parts: Parts) -> str:
    """The page of a place in the drive."""
    return "/drive/files" + quote(show_path(parts)) if parts else "/drive"
