"""``tesra drive``: what was before. The history, versions that come back, the trash."""

from typing import TYPE_CHECKING, Annotated

import typer

from tesra.cli import words
from tesra.cli.addresses import SCHEME, Remote, anywhere, shown
from tesra.cli.context import Session, connected
from tesra.kit.errors import Invalid
from tesra.sdk.private.places import Place, parse_place

if TYPE_CHECKING:
    from tesra.wire.files import Committed, DriveEntry

_EXAMPLE = "Example: tesra drive "


class HistoryOfAll(Invalid):
    """The history of a private drive is of all of it."""


def extend(group: typer.Typer) -> None:
    """Add these to ``tesra drive``."""
    for name, command, example in (
        ("log", log, "log xingpan:/models/best.pt"),
        ("restore", restore, "restore xingpan:/notes.txt --version 12"),
        ("trash", trash, "trash --restore trs_01k…"),
    ):
        group.command(name, epilog=_EXAMPLE + example)(command)


@connected
def log(
    session: Session,
    path: Annotated[
        str,
        typer.Argument(
            metavar="[xingpan:/PATH]",
            help="A path in your drive, or xingpan:NAME: of a private one.",
        ),
    ] = "xingpan:/",
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
) -> None:
    """The history of a drive, or of what stood at a path of it, the newest first."""
    place = parse_place(anywhere(path))
    if place.path.strip("/"):
        _log_of_path(session, place, limit)
        return
    found = list(session.client.drive_history(place.drive, limit))
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Version", "When", "What"],
            [[str(one.version), words.moment(one.made_at), one.words] for one in found],
            right=["Version"],
            empty="No history yet.",
        ),
    )


def _log_of_path(session: Session, place: Place, limit: int) -> None:
    if place.drive is not None:
        raise HistoryOfAll(way_out=f"`tesra drive log xingpan:{place.drive}:` has all of it.")
    found = list(session.client.drive_path_history(place.path, limit))
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Version", "When", "What", "Size"],
            [
                [
                    str(one.version),
                    words.moment(one.made_at),
                    one.words,
                    _size(one.entry) if one.entry else "gone",
                ]
                for one in found
            ],
            right=["Version", "Size"],
            empty="Nothing has stood there.",
        ),
    )


def _size(entry: "DriveEntry") -> str:
    return words.size(entry.size_bytes) if entry.kind == "file" else entry.kind


@connected
def restore(
    session: Session,
    path: Remote,
    *,
    version: Annotated[int, typer.Option("--version", min=1, help="See `tesra drive log`.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="xingpan:/PATH", help="Default: where it was.")
    ] = None,
) -> None:
    """Bring a path of an earlier version back, beside what stands there now."""
    landed = session.client.drive_restore(anywhere(path), version, anywhere(to) if to else None)
    place = f"{path} of version {version} is back{_at(landed, anywhere(to or path), asked=to)}."
    session.out.answer(landed, lambda: session.out.say(place))


@connected
def trash(
    session: Session,
    *,
    back: Annotated[
        str | None, typer.Option("--restore", metavar="ID", help="Bring this one back.")
    ] = None,
    empty: Annotated[
        bool,
        typer.Option("--empty", help="Forget all of it; earlier versions have it for 90 days."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="I am sure; do not ask.")] = False,
) -> None:
    """What you have thrown away."""
    if empty:
        session.confirm("Empty the trash?", yes=yes)
        session.client.drive_empty_trash()
        said = "The trash is empty. Its room is given back with the versions that have it: "
        session.out.answer({}, lambda: session.out.say(f"{said}tesra drive gc"))
        return
    if back is not None:
        thrown = (one.path for one in session.client.drive_trash() if one.id == back)
        path = next(thrown, "")
        landed = session.client.drive_restore_trash(back)
        said = f"{shown(path)} is back{_at(landed, path)}."
        session.out.answer(landed, lambda: session.out.say(said))
        return
    found = list(session.client.drive_trash())
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Id", "Path", "Thrown away"],
            [[one.id, f"{SCHEME}{one.path}", words.moment(one.thrown_at)] for one in found],
            empty="The trash is empty.",
        ),
    )


def _at(landed: "Committed", path: str, *, asked: str | None = None) -> str:
    """Where something was brought back to, if that is not where it was."""
    beside = next((one.to for one in landed.renamed if one.path == path), None)
    if beside is not None:
        return f", at {shown(beside)}, since something else stands at {shown(path)}"
    return f", at {shown(path)}" if asked else ""
