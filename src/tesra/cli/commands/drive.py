"""``tesra drive``: the place where you keep your work. Paths in it begin with ``xingpan:``.

``xingpan:/PATH`` is in your default drive, ``xingpan:NAME:/PATH`` in the private drive NAME.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tesra.cli import words
from tesra.cli.addresses import Remote, anywhere, shown
from tesra.cli.commands import drive_history, finding, private, shares, storage
from tesra.cli.commands.sync import SyncWish, sync_command
from tesra.cli.context import Session, connected
from tesra.cli.tally import Tally, extent
from tesra.sdk.private.places import parse_place

PANEL = "Drive"
_EXAMPLE = "Example: tesra drive "

Version = Annotated[
    int | None,
    typer.Option("--version", min=1, help="As it was in this version; see `tesra drive log`."),
]
Force = Annotated[
    bool, typer.Option("--force", "-f", help="Replace what stands there (into the trash).")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.callback()(_drive)
    for name, command, example in (
        ("ls", ls, "ls xingpan:/models"),
        ("put", put, "put ./data xingpan:/datasets/digits"),
        ("get", get, "get xingpan:/models/best.pt ."),
        ("cat", cat, "cat xingpan:/notes.txt"),
        ("mkdir", mkdir, "mkdir xingpan:/models/2026"),
        ("mv", mv, "mv xingpan:/a.pt xingpan:/models/"),
        ("cp", cp, "cp xingpan:/models xingpan:/backup"),
        ("rm", rm, "rm xingpan:/old"),
        ("du", du, "du xingpan:/datasets"),
        ("sync", sync, "sync ./data xingpan:/datasets/digits -n"),
    ):
        group.command(name, epilog=_EXAMPLE + example)(command)
    drive_history.extend(group)
    private.register(group)
    storage.extend(group)
    shares.extend(group)
    finding.extend(group)
    app.add_typer(group, name="drive", rich_help_panel=PANEL, epilog=f"{_EXAMPLE}ls xingpan:/")


def _drive() -> None:
    """Files that stay: upload, download, versions, trash."""


@connected
def ls(session: Session, path: Remote = "xingpan:/", *, version: Version = None) -> None:
    """List a folder."""
    found = list(session.client.drive_list(anywhere(path), version=version))
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Name", "Size"],
            [
                [
                    entry.name + "/" * (entry.kind == "dir"),
                    "-" if entry.kind == "dir" else words.size(entry.size_bytes),
                ]
                for entry in found
            ],
            right=["Size"],
            empty="Nothing here yet. `tesra drive put FILE xingpan:/` brings something.",
        ),
    )


@connected
def put(
    session: Session,
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A file or a folder here.")],
    path: Remote = "xingpan:/",
    *,
    merge: Annotated[
        bool, typer.Option("--merge", help="Keep what the folder there has besides.")
    ] = False,
) -> None:
    """Upload; only what is new is sent, and what was cut off goes on. What stood there is a version.

    A path that ends with a slash takes a file or a folder under its own name.
    """
    client, left_out = session.client, list[str]()
    place = client.drive_put_target(source, anywhere(path), merge=merge)
    with session.out.transfer("Uploading", lambda: extent(source)) as show:
        tally = Tally(show)
        if source.is_dir():
            landed = client.drive_put(
                source, place, merge=merge, report=tally.report, warn=left_out.append
            )
        else:
            landed = client.drive_put_file(source, place, report=tally.report)
    how_much = tally.words or f"1 file, {words.size(source.stat().st_size)}"
    session.out.answer(
        landed.model_dump(mode="json") | {"path": place, "left_out": left_out},
        lambda: session.out.say(f"{shown(place)}: version {landed.head.version}, {how_much}"),
    )
    for what in dict.fromkeys(left_out):
        session.out.aside(f"Warning: {what}")
    for one in landed.renamed:
        session.out.aside(f"Others had changed {one.path} meanwhile: yours is at {one.to}.")


@connected
def get(
    session: Session,
    path: Remote,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="A folder, or a new name.")] = Path(),
    *,
    version: Version = None,
) -> None:
    """Download; each file appears whole or not at all, and what is there already is not fetched."""
    client, source = session.client, anywhere(path)

    def total_bytes() -> int:
        return client.drive_use(source, version=version).size_bytes

    with session.out.transfer("Downloading", total_bytes) as report:
        place = client.drive_get(source, dest, version=version, report=report)
    session.out.answer({"path": str(place)}, lambda: session.out.say(str(place)))


@connected
def cat(session: Session, path: Remote, *, version: Version = None) -> None:
    """Write a file's bytes to standard output."""
    for piece in session.client.drive_read(anywhere(path), version=version):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@connected
def mkdir(session: Session, path: Remote) -> None:
    """Make a folder, and those above it."""
    landed = session.client.drive_make_folder(anywhere(path))
    session.out.answer(landed, lambda: session.out.say(path))


@connected
def mv(session: Session, path: Remote, to: Remote, *, force: Force = False) -> None:
    """Move or rename; nothing is copied."""
    place = session.client.drive_target(anywhere(path), anywhere(to))
    landed = session.client.drive_move(anywhere(path), anywhere(to), replace=force)
    session.out.answer(landed, lambda: session.out.say(f"{path} -> {shown(place)}"))


@connected
def cp(session: Session, path: Remote, to: Remote, *, force: Force = False) -> None:
    """Copy; equal content is stored once, so it takes no room."""
    place = session.client.drive_target(anywhere(path), anywhere(to))
    landed = session.client.drive_copy(anywhere(path), anywhere(to), replace=force)
    session.out.answer(landed, lambda: session.out.say(f"{path} -> {shown(place)}"))


@connected
def rm(session: Session, path: Remote) -> None:
    """Throw away; `tesra drive trash` has it."""
    place = parse_place(anywhere(path))
    landed = session.client.drive_remove(anywhere(path))
    back = "is in the trash: `tesra drive trash` gives it back."
    if place.drive is not None:
        version = f"--version {landed.head.version - 1}"
        back = f"is removed: `tesra drive restore {path} {version}` gives it back."
    session.out.answer(landed, lambda: session.out.say(f"{path} {back}"))


@connected
def du(session: Session, path: Remote = "xingpan:/") -> None:
    """How much stands below a path, and how much of your quota is used."""
    use, quota = session.client.drive_use(anywhere(path)), session.client.drive_quota()
    data = use.model_dump() | quota.model_dump()
    session.out.answer(
        data,
        lambda: session.out.facts(
            [
                ("Files", str(use.files)),
                ("Size", words.size(use.size_bytes)),
                (
                    "Quota",
                    f"{words.size(quota.used_bytes)} of {words.size(quota.quota_bytes)} used:"
                    " all versions, the trash, projects and outputs, equal content once,"
                    " compressed and encrypted",
                ),
            ]
        ),
    )


@connected
def sync(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder here.")],
    path: Remote,
    *,
    delete: Annotated[
        bool, typer.Option("--delete", help="Carry deletions over as well, both ways.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be done, and do nothing.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until it is interrupted.")] = False,
) -> None:
    """Make a folder here and one in the drive equal, both ways; only what differs is moved."""
    wanted = SyncWish(folder, anywhere(path), delete=delete, dry_run=dry_run, watch=watch)
    sync_command(session, wanted)
