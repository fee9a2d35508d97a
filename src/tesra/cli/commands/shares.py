"""``tesra drive share | shares | unshare``: links for people who have no account."""

from typing import Annotated

import typer

from tesra.cli import arguments, words
from tesra.cli.addresses import inside
from tesra.cli.context import Session, connected

Shared = Annotated[
    str, typer.Argument(metavar="xingpan:/PATH", help="A file or a folder in your drive.")
]

_ASK = "-"


def extend(group: typer.Typer) -> None:
    """Hang the commands on ``tesra drive``."""
    for name, command, example in (
        ("share", share, "share xingpan:/models/best.pt --expires 7d --downloads 3"),
        ("shares", shares, "shares"),
        ("unshare", unshare, "unshare shr_01k…"),
    ):
        group.command(name, epilog=f"Example: tesra drive {example}")(command)


@connected
def share(
    session: Session,
    path: Shared,
    *,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="Such as 12h or 7d; else never.")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option("--password", help="Who downloads has to know it; - asks for it."),
    ] = None,
    downloads: Annotated[
        int | None, typer.Option("--downloads", metavar="N", min=1, help="At most so many.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="What stands there at the time, not as it is now.")
    ] = False,
) -> None:
    """Print a URL that downloads a file, or a folder as a zip, without an account."""
    if password == _ASK:
        password = session.ask("Password", hidden=True, confirm=True)
    made = session.client.drive_share(
        inside(path),
        live=live,
        expires_s=arguments.seconds(expires) if expires else None,
        password=password,
        downloads=downloads,
    )
    session.out.answer(made, lambda: session.out.say(made.url))
    session.out.aside(f"Shown this once. `tesra drive unshare {made.id}` withdraws it.")


@connected
def shares(session: Session) -> None:
    """List your links; those that ended stay for 30 days."""
    found = list(session.client.drive_shares())
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Id", "Path", "Shows", "Downloads", "Expires", "State"],
            [
                [
                    one.id,
                    f"xingpan:{one.path}",
                    f"version {one.version}" if one.version else "live",
                    f"{one.downloads} of {one.max_downloads}"
                    if one.max_downloads
                    else str(one.downloads),
                    words.moment(one.expires_at) if one.expires_at else "never",
                    one.state.replace("_", " ") + (", with password" if one.password else ""),
                ]
                for one in found
            ],
            right=["Downloads"],
            empty="No links. `tesra drive share xingpan:/PATH` makes one.",
        ),
    )


@connected
def unshare(
    session: Session,
    share: Annotated[str, typer.Argument(metavar="ID", help="See `tesra drive shares`.")],
) -> None:
    """Withdraw a link: it opens nothing any more."""
    session.client.drive_unshare(share)
    session.out.answer({"id": share}, lambda: session.out.say(f"{share} is withdrawn."))
