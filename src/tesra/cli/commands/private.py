"""``tesra drive create --private`` and what belongs to it: the keys of private drives.

A password is never taken from the command line, where others see it: it is asked for, or read
from ``TESRA_DRIVE_PASSWORD``.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tesra.cli import words
from tesra.cli.context import Session, connected
from tesra.kit.errors import Conflict, Invalid, Unavailable

PASSWORD_VARIABLE = "TESRA_DRIVE_PASSWORD"  # noqa: S105 - the name of a variable
WARNING = """\
A private drive is encrypted on your devices. The network never sees its keys, its contents or its
names. Nobody can help you when you lose them:
  without the password AND without the recovery kit, everything in the drive is LOST FOR EVER.
The recovery kit is shown or written once, now. Print it, or keep it where this computer is not.
Previews, share links and `tesra run --data` do not work with a private drive."""
_EXAMPLE = "Example: tesra drive "

Name = Annotated[str, typer.Argument(metavar="NAME", help="The private drive.")]
KitFile = Annotated[
    Path | None,
    typer.Option(
        "--recovery-kit", metavar="FILE", help="Write the recovery kit here, instead of showing it."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="I have understood; do not ask.")]


class OnlyPrivate(Invalid):
    """Your default drive is there already; drives with a name are private."""


class KitInTheWay(Conflict):
    """There is a file at the place of the recovery kit."""


def register(group: typer.Typer) -> None:
    """Hang these commands on ``tesra drive``."""
    for name, command, example in (
        ("create", create, "create diary --private --recovery-kit kit.txt"),
        ("drives", drives, "drives"),
        ("unlock", unlock, "unlock diary"),
        ("lock", lock, "lock diary"),
        ("recover", recover, "recover --recovery-kit kit.txt"),
        ("passwd", passwd, "passwd diary"),
        ("kit", kit, "kit diary --recovery-kit new-kit.txt"),
        ("rotate", rotate, "rotate diary"),
        ("devices", devices, "devices diary --remove hld_01k…"),
        ("prune", prune, "prune diary --keep 10"),
        ("delete", delete, "delete diary"),
    ):
        group.command(name, epilog=_EXAMPLE + example, rich_help_panel="Private drives")(command)


@connected
def create(
    session: Session,
    name: Name,
    *,
    private: Annotated[
        bool, typer.Option("--private", help="Only your devices can read it, not the network.")
    ] = False,
    recovery_kit: KitFile = None,
    yes: Yes = False,
) -> None:
    """Make a private drive; its paths are xingpan:NAME:/PATH."""
    if not private:
        raise OnlyPrivate(way_out=f"`tesra drive create {name} --private` makes a private one.")
    session.out.aside(WARNING)
    session.confirm("Go on?", yes=yes)
    password = _new_password(session)
    shown: list[str] = []
    keep = _kit_keeper(recovery_kit, shown)
    try:
        made = session.client.private_drives.create(name, password, keep)
    except BaseException as error:
        if recovery_kit is not None and not isinstance(error, KitInTheWay | Unavailable):
            recovery_kit.unlink(missing_ok=True)  # of a drive that was never made
        raise
    answer = {"id": made.drive, "name": made.name, "recovery_kit": _where(recovery_kit, shown)}

    def draw() -> None:
        session.out.say(f"xingpan:{made.name}:/ is there, for this device ({made.drive}).")
        _show_kit(session, recovery_kit, shown)

    session.out.answer(answer, draw)


@connected
def drives(session: Session) -> None:
    """Your private drives; what those are called that are locked here, only your other devices know."""
    found = session.client.private_drives.known()
    session.out.answer(
        [
            {
                "id": one.id,
                "name": one.name,
                "version": one.version,
                "holders": one.holders,
                "created_at": one.created_at.isoformat(),
            }
            for one in found
        ],
        lambda: session.out.table(
            ["Name", "Id", "Version", "Made"],
            [
                [one.name or "(locked)", one.id, str(one.version), words.moment(one.created_at)]
                for one in found
            ],
            right=["Version"],
            empty="None. `tesra drive create NAME --private` makes one.",
        ),
    )


@connected
def unlock(session: Session, name: Name) -> None:
    """Open a private drive on this device with its password; asked once for each device."""
    made = session.client.private_drives.unlock(name, _password(session))
    session.out.answer(
        {"id": made.drive, "name": made.name},
        lambda: session.out.say(f"xingpan:{made.name}:/ is open on this device."),
    )


@connected
def lock(session: Session, name: Name) -> None:
    """Forget a private drive's key on this device; its password opens it again."""
    session.client.private_drives.lock(name)
    session.out.answer({"name": name}, lambda: session.out.say(f"{name} is locked on this device."))


@connected
def recover(
    session: Session,
    *,
    recovery_kit: Annotated[
        Path, typer.Option("--recovery-kit", metavar="FILE", help="The kit; - reads it from stdin.")
    ],
) -> None:
    """Open a private drive with its recovery kit and set a new password. Nothing is lost."""
    text = sys.stdin.read() if str(recovery_kit) == "-" else _read_kit(recovery_kit)
    made = session.client.private_drives.recover(text, _new_password(session))
    session.out.answer(
        {"id": made.drive, "name": made.name},
        lambda: session.out.say(
            f"xingpan:{made.name}:/ is open on this device and has a new password. The recovery"
            " kit stays good."
        ),
    )


@connected
def passwd(session: Session, name: Name) -> None:
    """Set a new password, on a device that can open the drive."""
    session.client.private_drives.set_password(name, _new_password(session))
    session.out.answer(
        {"name": name},
        lambda: session.out.say(
            f"{name} has a new password. If somebody may know the old one:"
            f" `tesra drive rotate {name}`."
        ),
    )


@connected
def kit(session: Session, name: Name, *, recovery_kit: KitFile = None) -> None:
    """Make a new recovery kit; the old one is void."""
    shown: list[str] = []
    session.client.private_drives.new_kit(name, _kit_keeper(recovery_kit, shown))
    session.out.answer(
        {"name": name, "recovery_kit": _where(recovery_kit, shown)},
        lambda: _show_kit(session, recovery_kit, shown),
    )


@connected
def rotate(session: Session, name: Name) -> None:
    """Begin a new epoch: what is put from now on has new keys. What is there keeps its own."""
    epochs = session.client.private_drives.rotate(name)
    session.out.answer(
        {"name": name, "epoch": epochs},
        lambda: session.out.say(
            f"{name} writes with new keys from now on (epoch {epochs}). What was put before stays"
            " readable, and keeps its old keys."
        ),
    )


@connected
def devices(
    session: Session,
    name: Name,
    *,
    remove: Annotated[
        str | None,
        typer.Option("--remove", metavar="ID", help="Take it off, and rotate the keys."),
    ] = None,
) -> None:
    """Who can open a private drive: your devices, the password, the recovery kit."""
    owner = session.client.private_drives
    if remove is not None:
        epochs = owner.remove_device(name, remove)
        session.out.answer(
            {"name": name, "removed": remove, "epoch": epochs},
            lambda: session.out.say(
                f"{remove} can't read what is put from now on (epoch {epochs}). What it could read"
                " before, it may have kept; if it was stolen, set a new password for your account"
                " too."
            ),
        )
        return
    found = owner.holders(name)
    session.out.answer(
        [{"id": one.id, "kind": one.kind, "label": one.label, "here": one.here} for one in found],
        lambda: session.out.table(
            ["Id", "Kind", "What"],
            [[one.id, one.kind, one.label + " (this one)" * one.here] for one in found],
        ),
    )


@connected
def prune(
    session: Session,
    name: Name,
    *,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Keep so many versions.")],
) -> None:
    """Forget old versions; the room that only they took is given back by and by."""
    forgotten = session.client.private_drives.tree(name).prune(keep)
    session.out.answer(
        {"name": name, "forgotten": forgotten},
        lambda: session.out.say(f"{forgotten} versions of {name} are forgotten."),
    )


@connected
def delete(session: Session, name: Name, *, yes: Yes = False) -> None:
    """Delete a private drive with all its versions, for all your devices."""
    session.confirm(f"Delete {name} with everything in it, for ever?", yes=yes)
    session.client.private_drives.end(name)
    session.out.answer({"name": name}, lambda: session.out.say(f"{name} is deleted."))


def _password(session: Session) -> str:
    return os.environ.get(PASSWORD_VARIABLE) or session.ask("Password of the drive", hidden=True)


def _new_password(session: Session) -> str:
    given = os.environ.get(PASSWORD_VARIABLE)
    return given or session.ask("New password of the drive", hidden=True, confirm=True)


def _kit_keeper(place: Path | None, shown: list[str]) -> Callable[[str], None]:
    def keep(text: str) -> None:
        if place is None:
            shown.append(text)
            return
        try:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise KitInTheWay(
                f"'{place}' is there already, and may be a kit that you need.",
                way_out="Choose another file.",
            ) from error
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    return keep


def _show_kit(session: Session, place: Path | None, shown: list[str]) -> None:
    if place is not None:
        session.out.say(f"The recovery kit is in {place}. Print it, then delete the file.")
    for text in shown:
        session.out.say("\nThis is the recovery kit. It is not shown again:\n\n" + text)


def _where(place: Path | None, shown: list[str]) -> str:
    return str(place) if place is not None else "".join(shown)


def _read_kit(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
