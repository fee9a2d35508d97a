"""Who you are: register, login, logout, whoami."""

import secrets
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tesra.cli import words
from tesra.cli.commands.account_safety import Code, with_code
from tesra.cli.context import Session, connected
from tesra.cli.output import is_terminal
from tesra.kit.errors import TesraError, Unauthenticated, Unavailable
from tesra.sdk.credentials import Login, login_store

if TYPE_CHECKING:
    from tesra.wire.identity import Session as SignedIn

PANEL = "Account"


def register(app: typer.Typer) -> None:
    app.command(
        "register",
        rich_help_panel=PANEL,
        epilog="Example: tesra register --name ann",
    )(make_account)
    app.command("login", rich_help_panel=PANEL, epilog="Example: tesra login --name ann")(login)
    app.command("logout", rich_help_panel=PANEL, epilog="Example: tesra logout")(logout)
    app.command("whoami", rich_help_panel=PANEL, epilog="Example: tesra whoami --json")(whoami)


Name = Annotated[str, typer.Option("--name", "-n", help="The account's name.")]
Password = Annotated[
    str | None,
    typer.Option(
        "--password",
        help="Its password; asked for when left out; - reads it from a pipe.",
        show_default=False,
    ),
]
_ASK = "-"


@connected
def make_account(session: Session, *, name: Name, password: Password = None) -> None:
    """Make an account and sign in. In a pipe, a password that is left out is made up and shown once."""
    generated = None
    if password is None or password == _ASK:
        if password or is_terminal(sys.stdin):
            password = session.ask("Password", hidden=True, confirm=True)
        else:
            password = generated = secrets.token_urlsafe(18)
    signed_in = session.client.register(name, password)
    answer = _remember(session, signed_in)
    if generated:
        answer["password"] = generated
    session.out.answer(answer, lambda: _greet(session, signed_in, generated))


@connected
def login(
    session: Session,
    *,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="The account's name.", show_default=False)
    ] = None,
    password: Password = None,
    code: Code = None,
) -> None:
    """Sign in and remember it. With --token, that token is checked and remembered."""
    if session.given_token and name is None:
        _login_by_token(session, session.given_token)
        return
    who = name or session.ask("Name")
    asked = not password or password == _ASK
    secret = session.ask("Password", hidden=True) if asked else str(password)
    signed_in = with_code(session, code, lambda given: session.client.login(who, secret, given))
    answer = _remember(session, signed_in)
    session.out.answer(answer, lambda: _greet(session, signed_in, None))


@connected
def logout(session: Session) -> None:
    """Revoke the token in use and forget the stored login."""
    url = session.client.url
    try:
        if session.client.token:
            session.client.logout()
    except (Unauthenticated, Unavailable) as error:
        # An expired token is as good as revoked; a server that is gone must not keep us signed in.
        if isinstance(error, Unavailable):
            session.out.aside("tesra: the server did not answer; the token ends when it expires.")
    finally:
        login_store().forget(url)
    session.out.answer({"url": url}, lambda: session.out.say(f"Signed out of {url}."))


@connected
def whoami(session: Session) -> None:
    """Show who you are, and where."""
    user = session.client.whoami()
    data = {**user.model_dump(mode="json"), "url": session.client.url}
    session.out.answer(
        data,
        lambda: session.out.facts(
            [
                ("Name", user.name),
                ("Role", user.role),
                ("Id", user.id),
                ("Since", words.moment(user.created_at)),
                ("Server", session.client.url),
            ]
        ),
    )


def _login_by_token(session: Session, token: str) -> None:
    user = session.client.whoami()
    url = session.client.url
    login_store().save(Login(url=url, token=token, name=user.name))
    session.out.answer(
        {"token": token, "name": user.name, "id": user.id, "url": url},
        lambda: session.out.say(f"Signed in as {user.name} at {url}."),
    )


def _remember(session: Session, signed_in: "SignedIn") -> dict[str, str]:
    url = session.client.url
    try:
        login_store().save(Login(url=url, token=signed_in.token, name=signed_in.user.name))
    except (OSError, TesraError) as error:
        session.out.aside(f"tesra: the login could not be stored ({error}); use TESRA_TOKEN.")
    return {
        "token": signed_in.token,
        "name": signed_in.user.name,
        "id": signed_in.user.id,
        "url": url,
    }


def _greet(session: Session, signed_in: "SignedIn", generated: str | None) -> None:
    session.out.say(f"Signed in as {signed_in.user.name} at {session.client.url}.")
    if generated:
        session.out.say(f"Password (shown this once): {generated}")
