"""Names that the drive tells apart and a file system may not: ``A`` and ``a``, composed or not.

Of two such the first is written and the second left out and told; nothing is written over.
"""

import os
import secrets
import unicodedata
from collections.abc import Callable
from pathlib import Path

from tesra.kit.errors import Conflict

Parts = tuple[str, ...]
Form = Callable[[str], str]

_TOLD = 5


class NamesClash(Conflict):
    """Two names can't both be written here: this file system takes them for one."""


class Clashes:
    """One walk over names, each folder before what it holds."""

    def __init__(self, dest: Path, form: Form | None) -> None:
        """``form``: see ``name_form``."""
        self._dest = dest
        self._form = form
        self._taken: dict[str, Parts] = {}
        self._left_out: dict[Parts, Parts | None] = {}

    def leaves_out(self, parts: Parts) -> bool:
        """Whether an earlier name is the same one to the file system, or that of a folder above
        is; never where every name is its own."""
        if self._form is None:
            return False
        if parts[:-1] in self._left_out:
            self._left_out[parts] = None
            return True
        first = self._taken.setdefault("/".join(map(self._form, parts)), parts)
        if first != parts:
            self._left_out[parts] = first
        return first != parts

    def tell(self) -> None:
        """Raises ``NamesClash`` when anything was left out."""
        told = [
            f"{_shown(parts)} (beside {_shown(first)})"
            for parts, first in self._left_out.items()
            if first is not None
        ]
        if told:
            more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
            raise NamesClash(
                f"Left out, since '{self._dest}' is on a file system that takes both names for "
                f"one: {', '.join(told[:_TOLD])}{more}. All else is there.",
                way_out="Rename one of each in the drive (`tesra drive mv`), then get it again.",
            )


def name_form(folder: Path) -> Form | None:
    """How the file system of a folder compares names; None where every name is its own."""
    if _is_one(folder, "case", "CASE"):
        return lambda name: unicodedata.normalize("NFC", name).casefold()
    if _is_one(folder, "\u00e9", "e\u0301"):
        return lambda name: unicodedata.normalize("NFC", name)
    return None


def _is_one(folder: Path, name: str, other: str) -> bool:
    mark = secrets.token_hex(6)
    probe = folder / f"{mark}{name}"
    try:
        probe.touch(exist_ok=False)
        found = os.path.lexists(folder / f"{mark}{other}")
        probe.unlink()
    except OSError:  # it takes no such names at all
        return False
    return found


def _shown(parts: Parts) -> str:
    """A path, and its name's characters one by one where accents hide how they are composed."""
    path, codes = "/".join(parts), ascii(parts[-1])
    return f"'{path}'" if parts[-1].isascii() else f"'{path}' [{codes[1:-1]}]"
