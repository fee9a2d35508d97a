"""``tesra account``: second factor, sessions, password."""

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tesra.cli import words
from tesra.cli.context import Session, connected
from tesra.cli.output import is_terminal
from tesra.kit.errors import Conflict, Invalid, NotFound, Unauthenticated

if TYPE_CHECKING:
    from tesra.wire.identity import ActiveSession

PANEL = "Account"
NEEDS_CODE = "second_factor_needed"
_EXAMPLE = "Example: tesra account "
_FACTOR = "second-factor "
Result = TypeVar("Result")

Code = Annotated[
    str | None,
    typer.Option(
        "--code", help="Of the authenticator app, or a recovery code.", show_default=False
    ),
]
Password = Annotated[
    str | None,
    typer.Option("--password", help="Asked for when left out.", show_default=False),
]


class SessionMissing(NotFound):
    """You have no such session."""


class OneOfBoth(Invalid):
    """Give --revoke or --others, not both."""


class FactorIsOn(Conflict):
    """The second factor is on already."""


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        no_args_is_help=True,
        help="Second factor, sessions, password.",
        epilog=_EXAMPLE + "second-factor on",
    )
    factor = typer.Typer(
        no_args_is_help=True,
        help="A code from your phone beside the password.",
        epilog=_EXAMPLE + "second-factor on",
    )
    for name, command in (("on", on), ("off", off), ("codes", codes), ("status", status)):
        factor.command(name, epilog=_EXAMPLE + _FACTOR + name)(command)
    group.add_typer(factor, name="second-factor")
    group.command("sessions", epilog=_EXAMPLE + "sessions --others")(sessions)
    group.command("password", epilog=_EXAMPLE + "password")(password)
    app.add_typer(group, name="account", rich_help_panel=PANEL)


@connected
def on(session: Session, *, password: Password = None, code: Code = None) -> None:
    """Turn it on: scan the QR code, type the code that the app shows, keep the recovery codes."""
    if session.client.second_factor().on:
        raise FactorIsOn(way_out="`tesra account second-factor off` first, to move to a new phone.")
    made = session.client.begin_second_factor(_password(session, password))
    session.out.aside(
        f"{_drawn(made.uri)}Scan this with an authenticator app, or type its secret there:"
        f"\n{made.secret}\n{made.uri}\n"
    )
    recovery = session.client.confirm_second_factor(code or session.ask("Code that the app shows"))
    data = {"on": True, "recovery_codes": recovery}
    session.out.answer(data, lambda: _show_codes(session, "The second factor is on.", recovery))


@connected
def off(session: Session, *, password: Password = None, code: Code = None) -> None:
    """Turn it off: the password alone signs in. Needs the password and a code."""
    secret = _password(session, password)
    session.client.second_factor_off(secret, code or session.ask("Code"))
    session.out.answer({"on": False}, lambda: session.out.say("The second factor is off."))


@connected
def codes(session: Session, *, password: Password = None, code: Code = None) -> None:
    """Make ten new recovery codes; all before stop working."""
    secret = _password(session, password)
    made = session.client.renew_recovery_codes(secret, code or session.ask("Code"))
    session.out.answer(
        {"recovery_codes": made},
        lambda: _show_codes(session, "The codes before work no more.", made),
    )


@connected
def status(session: Session) -> None:
    """Show whether it is on, and how many recovery codes are left."""
    found = session.client.second_factor()
    session.out.answer(
        found,
        lambda: session.out.facts(
            [
                ("Second factor", f"on since {words.moment(found.since)}" if found.on else "off"),
                ("Recovery codes", f"{found.recovery_codes_left} left" if found.on else "-"),
            ]
        ),
    )


@connected
def sessions(
    session: Session,
    *,
    revoke: Annotated[
        str | None,
        typer.Option("--revoke", metavar="ID", help="End this one.", show_default=False),
    ] = None,
    others: Annotated[bool, typer.Option("--others", help="End all but this one.")] = False,
) -> None:
    """Show where you are signed in, or end sessions. API tokens go on."""
    if revoke and others:
        raise OneOfBoth
    if others:
        ended = session.client.revoke_other_sessions()
        line = f"{words.plural(ended, 'session')} ended."
        session.out.answer({"revoked": ended}, lambda: session.out.say(line))
    elif revoke:
        found = _find(session, revoke)
        session.client.revoke_session(found.id)
        line = f"The session {words.short(found.id)} has ended."
        session.out.answer({"revoked": found.id}, lambda: session.out.say(line))
    else:
        _list(session)


@connected
def password(
    session: Session,
    *,
    old: Annotated[
        str | None,
        typer.Option("--old", help="Asked for when left out.", show_default=False),
    ] = None,
    new: Annotated[
        str | None,
        typer.Option("--new", help="Asked for when left out.", show_default=False),
    ] = None,
    code: Code = None,
) -> None:
    """Change the password. All your other sessions end; this one goes on."""
    before = old or session.ask("Password until now", hidden=True)
    after = new or session.ask("New password", hidden=True, confirm=is_terminal(sys.stdin))
    ended = with_code(
        session, code, lambda given: session.client.change_password(before, after, given)
    )
    line = f"The password is changed; {words.plural(ended, 'other session')} ended."
    session.out.answer({"revoked": ended}, lambda: session.out.say(line))


def with_code(session: Session, code: str | None, act: Callable[[str | None], Result]) -> Result:
    """``act`` with the code of a second factor, which is asked for only when it is needed."""
    try:
        return act(code)
    except Unauthenticated as error:
        if code is not None or error.code != NEEDS_CODE:
            raise
    return act(session.ask("Code of your authenticator app (or a recovery code)"))


def _password(session: Session, given: str | None) -> str:
    return given or session.ask("Password", hidden=True)


def _drawn(uri: str) -> str:
    """The QR code in characters, on a terminal that can show them."""
    if not is_terminal(sys.stderr):
        return ""
    import segno  # only for this one command

    drawn = io.StringIO()
    segno.make(uri, error="l", micro=False).terminal(drawn, compact=True, border=2)
    return drawn.getvalue()


def _show_codes(session: Session, line: str, recovery: list[str]) -> None:
    session.out.say(line)
    session.out.say("Recovery codes (shown this once; each works once, without the app):")
    for one in recovery:
        session.out.say(f"  {one}")


def _list(session: Session) -> None:
    found = session.client.sessions()
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Session", "Begun", "Last used", "Address", "Program"],
            [
                [
                    words.short(one.id) + (" (this one)" if one.current else ""),
                    words.moment(one.begun_at),
                    words.moment(one.last_used_at),
                    one.address or "-",
                    words.gist(one.user_agent or "-"),
                ]
                for one in found
            ],
            empty="You are signed in nowhere; you use an API token.",
        ),
    )


def _find(session: Session, which: str) -> "ActiveSession":
    found = [
        one
        for one in session.client.sessions()
        if one.id == which or (len(which) >= 4 and one.id.endswith(which))
    ]
    if len(found) != 1:
        raise SessionMissing(
            f"You have {len(found) or 'no'} sessions of that name: '{which}'.",
            way_out="`tesra account sessions` lists yours.",
        )
    return found[0]
