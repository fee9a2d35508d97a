"""A smoke run, watched: whether it passed."""

import sys
from typing import TYPE_CHECKING, Any

import typer

from tesra.cli import following, words
from tesra.cli.context import Session

if TYPE_CHECKING:
    from tesra.sdk.client import LiveRun


def watch_smoke(session: Session, project: str, **wishes: Any) -> "LiveRun":
    """Start one and follow it to its end; exits with 1 when it failed."""
    started = session.client.run(project, smoke=True, **wishes)
    session.out.aside(f"tesra: {started.id} (smoke, free of charge)")
    printer = following.LogPrinter(started, following.voice(), sys.stdout, rank=None)
    try:
        printer.show_all(session.client.follow(started.id))
    except KeyboardInterrupt:
        started.stop()
        raise typer.Exit(130) from None
    ended = started.refresh()
    if ended.state != "succeeded":
        session.out.aside("tesra: the smoke run failed; nothing was billed")
        raise typer.Exit(1)
    session.out.aside(f"tesra: {words.one_line(ended.reason or 'the smoke run passed')}")
    return ended
