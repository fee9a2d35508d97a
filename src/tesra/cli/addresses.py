"""How a path in a drive is written on the command line."""

from typing import Annotated

import typer

from tesra.kit.errors import Invalid
from tesra.sdk.private.places import parse_place, refuse_private, show_place

SCHEME = "xingpan:"

Remote = Annotated[
    str,
    typer.Argument(
        metavar="xingpan:/PATH", help="A path in your drive; xingpan:NAME:/PATH in a private one."
    ),
]


class NotInTheDrive(Invalid):
    """A path in your drive begins with ``xingpan:/``."""


def inside(path: str) -> str:
    """The path within the default drive; a private one's is refused: the server can't read it."""
    found = anywhere(path)
    refuse_private(found, "This")
    return found


def anywhere(path: str) -> str:
    """``/PATH`` in the default drive, ``NAME:/PATH`` in a private one."""
    if not path.startswith(SCHEME):
        raise NotInTheDrive(
            f"'{path}' is not in your drive.", way_out=f"Write it as {SCHEME}/{path.lstrip('/')}."
        )
    rest = path.removeprefix(SCHEME)
    place = parse_place(rest)
    return "/" + rest.lstrip("/") if place.drive is None else show_place(place.drive, place.path)


def shown(path: str) -> str:
    """A path as it is written on the command line."""
    return f"{SCHEME}{path}"
