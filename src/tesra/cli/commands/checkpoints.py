"""Going on where a run came to: checkpoints, resume."""

import os
import sys
from typing import Annotated, Any

import typer

from tesra.cli import arguments, words
from tesra.cli.commands.run import OnlyOne
from tesra.cli.commands.runs import RunRef
from tesra.cli.context import Session, connected
from tesra.cli.finding import find_run
from tesra.cli.output import is_terminal
from tesra.cli.watching import record, watch

PANEL = "Training"


def register(app: typer.Typer) -> None:
    for name, example, command in (
        ("checkpoints", "tesra checkpoints last", checkpoints),
        ("resume", "tesra resume last --param lr=0.001", resume),
    ):
        app.command(name, rich_help_panel=PANEL, epilog=f"Example: {example}")(command)


@connected
def checkpoints(
    session: Session,
    which: RunRef,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
) -> None:
    """List the stored checkpoints of a run, newest first."""
    run = find_run(session.client, which)
    found = session.client.checkpoints(run.id, limit=limit)
    session.out.answer(
        [one.model_dump(mode="json") for one in found],
        lambda: session.out.table(
            ["Checkpoint", "Finished", "Step", "Attempt", "Files", "Size", "State", "Newest"],
            [
                [
                    str(one.number),
                    words.moment(one.finished_at),
                    "-" if one.step is None else str(one.step),
                    str(one.attempt),
                    str(one.files),
                    words.size(one.size_bytes),
                    one.state,
                    one.newest or "-",
                ]
                for one in found
            ],
            right=["Checkpoint", "Step", "Attempt", "Files", "Size"],
            empty="No checkpoints. A script writes them to the folder that TESRA_CHECKPOINT_DIR names.",
        ),
    )


@connected
def resume(
    session: Session,
    which: RunRef,
    *,
    from_: Annotated[
        int | None,
        typer.Option("--from", metavar="N", help="Checkpoint N; default: the last one."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="Another value; repeat it."),
    ] = None,
    devices: Annotated[
        int | None, typer.Option("--devices", "-d", help="How many devices; default: as before.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="NAME",
            help="Secret variable, its value from your environment or asked for; repeat it.",
        ),
    ] = None,
    max_restarts: Annotated[
        int | None,
        typer.Option("--max-restarts", min=0, help="How often to begin again when a node is lost."),
    ] = None,
    max_cost: Annotated[
        str | None, typer.Option("--max-cost", metavar="CNY", help="As for `tesra run`.")
    ] = None,
    max_time: Annotated[
        str | None, typer.Option("--max-time", metavar="TIME", help="As for `tesra run`.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch it (the default).")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print its id and return.")] = False,
) -> None:
    """Go on from a checkpoint of a run that has ended, as a new run of the same snapshot."""
    if follow and detach:
        raise OnlyOne
    ask = (lambda name: session.ask(name, hidden=True)) if is_terminal(sys.stdin) else None
    wishes: dict[str, Any] = {
        "params": arguments.params(param or []),
        "devices": devices,
        "secrets": arguments.secrets(secret or [], os.environ, ask),
        "max_restarts": max_restarts,
        "max_cost_cny": max_cost,
        "max_time_s": arguments.seconds(max_time) if max_time else None,
    }
    run = find_run(session.client, which)
    started = session.client.resume(run.id, checkpoint=from_, **wishes)
    if detach:
        session.out.answer(record(started), lambda: session.out.say(started.id))
        return
    session.out.aside(f"tesra: {started.id}")
    watch(session, session.client.show(started.id), rank=None)
