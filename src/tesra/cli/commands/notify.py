"""``tesra notify``: be told by e-mail or webhook of what happens to your runs."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from tesra.cli import words
from tesra.cli.context import Session, connected
from tesra.kit.errors import Invalid, NotFound

if TYPE_CHECKING:
    from tesra.wire.notices import Channel

PANEL = "Training"
_EXAMPLE = "Example: tesra notify "
_EVENTS = "ended,failed,cap,near-cap,again,bill,sweep,alarm"

Events = Annotated[
    str | None,
    typer.Option("--events", metavar="LIST", help=f"Of these only: {_EVENTS}.", show_default=False),
]
Language = Annotated[
    str | None,
    typer.Option("--language", metavar="zh|en", help="Default: your terminal's."),
]
Which = Annotated[str, typer.Argument(metavar="CHANNEL", help="Its id, its end, or its address.")]


class ChannelMissing(NotFound):
    """You have no such channel."""


class LanguageUnknown(Invalid):
    """Notices come in zh or en."""


def register(app: typer.Typer) -> None:
    group = typer.Typer(invoke_without_command=True)
    group.callback()(notify)
    for name, command, example in (
        ("email", email, "email me@example.org --language zh --events ended,failed,bill"),
        ("confirm", confirm, "confirm 123456"),
        ("webhook", webhook, "webhook https://example.org/hook"),
        ("test", test, "test me@example.org"),
        ("remove", remove, "remove me@example.org"),
    ):
        group.command(name, epilog=_EXAMPLE + example)(command)
    app.add_typer(
        group, name="notify", rich_help_panel=PANEL, epilog=f"{_EXAMPLE}email me@example.org"
    )


@connected
def notify(session: Session, context: typer.Context) -> None:
    """Be told when a run ends, fails, nears its cap, is queued again, or has made a bill."""
    if context.invoked_subcommand is not None:
        return
    found = session.client.notice_channels()
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Channel", "Kind", "Address", "Language", "Events", "State"],
            [
                [
                    words.short(one.id),
                    one.kind,
                    one.address,
                    one.language,
                    ",".join(one.events),
                    _state(one),
                ]
                for one in found
            ],
            empty="You are told nowhere: `tesra notify email me@example.org`.",
        ),
    )


@connected
def email(
    session: Session,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Your mailbox.")],
    *,
    language: Language = None,
    events: Events = None,
) -> None:
    """Be told by e-mail; a code comes first. Given again, it changes events and language."""
    made = session.client.notify(
        "email", address, language=_language(language), events=_events(events)
    )
    line = (
        f"{made.address} is told of {', '.join(made.events)}."
        if made.confirmed
        else f"A code is on its way to {made.address}: `tesra notify confirm CODE`."
    )
    session.out.answer(made, lambda: session.out.say(line))


@connected
def confirm(
    session: Session,
    code: Annotated[str, typer.Argument(metavar="CODE", help="It came by mail.")],
) -> None:
    """Give back the code that came by mail."""
    found = session.client.confirm_notices(code)
    session.out.answer(
        found,
        lambda: session.out.say(f"{found.address} is told of {', '.join(found.events)}."),
    )


@connected
def webhook(
    session: Session,
    address: Annotated[str, typer.Argument(metavar="URL", help="Where a POST is sent to.")],
    *,
    language: Language = None,
    events: Events = None,
) -> None:
    """Be told by a signed POST; its secret is shown this once (see docs/QUEUE.md)."""
    made = session.client.notify(
        "webhook", address, language=_language(language), events=_events(events)
    )
    session.out.answer(made, lambda: _show_hook(session, made))


@connected
def test(session: Session, which: Which) -> None:
    """Send a notice there that says only that it comes."""
    found = session.client.test_notices(_find(session, which).id)
    line = f"A notice is on its way to {found.address}; `tesra notify` shows if it can't be told."
    session.out.answer(found, lambda: session.out.say(line))


@connected
def remove(session: Session, which: Which) -> None:
    """Be told nothing more there."""
    found = _find(session, which)
    session.client.remove_notices(found.id)
    session.out.answer(
        {"removed": found.id}, lambda: session.out.say(f"{found.address} is told nothing more.")
    )


def _find(session: Session, which: str) -> "Channel":
    found = [
        one
        for one in session.client.notice_channels()
        if which in (one.id, one.address) or (len(which) >= 4 and one.id.endswith(which))
    ]
    if len(found) != 1:
        raise ChannelMissing(
            f"You have {len(found) or 'no'} channels of that name: '{which}'.",
            way_out="`tesra notify` lists yours.",
        )
    return found[0]


def _show_hook(session: Session, made: "Channel") -> None:
    session.out.say(f"{made.address} is told of {', '.join(made.events)}.")
    if made.secret:
        session.out.say(f"Secret (shown this once): {made.secret}")
        session.out.aside(f"tesra: try it with `tesra notify test {words.short(made.id)}`.")


def _state(channel: "Channel") -> str:
    if channel.problem:
        return f"failing: {words.gist(channel.problem)}"
    if not channel.confirmed:
        return "waits for its code"
    return f"told {words.moment(channel.told_at)}" if channel.told_at else "ready"


def _events(given: str | None) -> list[str]:
    return [name.strip() for name in (given or _EVENTS).split(",") if name.strip()]


def _language(given: str | None) -> str:
    if given is None:
        said = next(
            (os.environ[n] for n in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(n)), ""
        )
        return "zh" if said.startswith("zh") else "en"
    if given not in ("zh", "en"):
        raise LanguageUnknown(f"Notices come in zh or en, not in '{given}'.")
    return given
