"""What a user can do with runs that wait: priority."""

from typing import Annotated

import typer

from tesra.cli import arguments
from tesra.cli.commands.runs import PANEL, RunRef
from tesra.cli.context import Session, connected
from tesra.cli.finding import find_run
from tesra.cli.watching import record


def register(app: typer.Typer) -> None:
    app.command("priority", rich_help_panel=PANEL, epilog="Example: tesra priority last high")(
        priority
    )


@connected
def priority(
    session: Session,
    which: RunRef,
    wanted: Annotated[
        str, typer.Argument(metavar="PRIORITY", help="low, normal, high, or -100 to 100.")
    ],
) -> None:
    """Put a run that waits before your others, or behind them."""
    number = arguments.priority(wanted)
    found = session.client.prioritise(find_run(session.client, which).id, number)
    place = f", place {found.queue.place} of {found.queue.of}" if found.queue else ""
    session.out.answer(
        record(found), lambda: session.out.say(f"{found.id} has priority {found.priority}{place}.")
    )
