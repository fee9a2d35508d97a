"""Training, from a folder or a project to a run that is watched."""

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tesra.cli import arguments
from tesra.cli.commands.projects import bring
from tesra.cli.context import Session, connected
from tesra.cli.output import is_terminal
from tesra.cli.watching import record, watch
from tesra.kit.errors import Conflict

if TYPE_CHECKING:
    from tesra.sdk.client import LiveRun

PANEL = "Training"


class OnlyOne(Conflict):
    """--follow and --detach exclude each other."""


def register(app: typer.Typer) -> None:
    example = "tesra run . --engine pytorch --devices 2 --param lr=0.1 -- --epochs 5"
    app.command("run", rich_help_panel=PANEL, epilog=f"Example: {example}")(run)


@connected
def run(
    session: Session,
    project: Annotated[
        str,
        typer.Argument(metavar="PROJECT|DIR", help="A project, or a folder to import first."),
    ],
    args: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGS", help="After `--`: for the script, passed as they are."),
    ] = None,
    *,
    engine: Annotated[
        str,
        typer.Option(
            "--engine", "-e", help="pytorch, keras, jax==VERSION, …; see `tesra engines`."
        ),
    ] = "pytorch",
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="For engines with several, such as keras: jax, torch, …"),
    ] = None,
    entry: Annotated[
        str | None,
        typer.Option(
            "--entry",
            help="A file, package.module, module:function, or a JSON list of a program's"
            " arguments; default: train.py or main.py.",
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The folder that the script writes its model to.")
    ] = "out",
    devices: Annotated[int, typer.Option("--devices", "-d", help="How many devices.")] = 1,
    device_class: Annotated[
        str | None, typer.Option("--device-class", help="Of this class; see `tesra devices`.")
    ] = None,
    launch: Annotated[
        Literal["gang", "single"],
        typer.Option("--launch", help="gang: a process for each device; single: one for all."),
    ] = "gang",
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="Parameter; repeat it."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="Environment variable; repeat it."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="NAME",
            help="Secret variable, its value from your environment or asked for; repeat it.",
        ),
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PACKAGE", help="Install this package too; repeat it."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch it (the default).")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print its id and return.")] = False,
) -> None:
    """Train. Watches the run to its end and exits with 1 when it did not succeed."""
    if follow and detach:
        raise OnlyOne
    ask = (lambda name: session.ask(name, hidden=True)) if is_terminal(sys.stdin) else None
    wishes: dict[str, Any] = {
        "engine": engine,
        "backend": backend,
        "args": args or [],
        "output": output,
        "devices": devices,
        "device_class": device_class,
        "launch": launch,
        "params": arguments.params(param or []),
        "env": arguments.pairs(env or [], "--env"),
        "secrets": arguments.secrets(secret or [], os.environ, ask),
        "packages": package or [],
    }
    given = arguments.entry(entry) if entry is not None else None
    started = _start(session, project, given, wishes)
    if detach:
        session.out.answer(record(started), lambda: session.out.say(started.id))
        return
    session.out.aside(f"tesra: {started.id}")
    watch(session, started, rank=None)


def _start(
    session: Session, project: str, entry: str | list[str] | None, wishes: dict[str, Any]
) -> "LiveRun":
    """Import if a place is meant, find the entry if none is given, and submit."""
    client = session.client
    if arguments.is_source(project):
        stored = bring(session, project, None).project
        if not stored.unchanged:
            session.out.aside(f"tesra: imported {stored.name}")
    elif entry is None:
        stored = client.project(project)
    else:
        return client.run(project, entry, **wishes)
    if entry is None:
        entry = arguments.default_entry(partial(client.has_file, stored.snapshot), stored.name)
    return client.run(stored.id, entry, snapshot=stored.snapshot, **wishes)
