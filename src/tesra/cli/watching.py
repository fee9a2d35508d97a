"""Watching a run to its end, as ``run`` and ``logs --follow`` do."""

import sys
from typing import TYPE_CHECKING, Any

import typer

from tesra.cli import following, words
from tesra.cli.context import Session
from tesra.kit.errors import Unavailable

if TYPE_CHECKING:
    from tesra.sdk.client import LiveRun
    from tesra.wire.training import Run

INTERRUPTED = 130


def watch(session: Session, run: "LiveRun", *, rank: int | None) -> None:
    """Follow to the end; exit with 1 unless the run succeeded. Ctrl-C leaves it running."""
    from tesra.sdk.follow import Reconnection  # brings the wire's models

    voice = following.voice()

    def on_gap(trouble: Unavailable) -> None:
        voice.say(f"connection lost, trying again ({words.one_line(trouble.detail)})")

    printer = following.LogPrinter(run, voice, sys.stdout, rank=rank)
    try:
        printer.show_all(
            session.client.follow(run.id, rank=rank, again=Reconnection(on_gap=on_gap))
        )
        ended = session.client.show(run.id)
        owed = ended.bill is not None and session.client.bill(ended.bill).state == "unpaid"
    except KeyboardInterrupt:
        for line in following.detached(run.id):
            voice.say(line)
        raise typer.Exit(INTERRUPTED) from None
    for line in following.summary(ended, owed=owed):
        voice.say(line)
    if session.out.as_json:
        session.out.json(record(ended), one_line=True)
    if ended.state != "succeeded":
        raise typer.Exit(1)


def record(run: "Run") -> dict[str, Any]:
    """The run's JSON: the wire's own keys, and its id as ``run`` too."""
    return {"run": run.id, **run.model_dump(mode="json")}
