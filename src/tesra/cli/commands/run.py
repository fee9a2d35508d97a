"""Training, from a folder or a project to a run that is watched."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tesra.cli import arguments, proposal
from tesra.cli.commands.projects import bring
from tesra.cli.context import Session, connected
from tesra.cli.output import is_terminal
from tesra.cli.quoting import show_quote, tell_rate
from tesra.cli.smoke import watch_smoke
from tesra.cli.watching import record, watch
from tesra.kit.errors import Conflict

if TYPE_CHECKING:
    from tesra.sdk.client import LiveRun

PANEL = "Training"


class OnlyOne(Conflict):
    """--follow and --detach exclude each other."""


def register(app: typer.Typer) -> None:
    example = "tesra run . --entry train.py --devices 2 -- --epochs 5"
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
        str | None,
        typer.Option(
            "--engine",
            "-e",
            help="pytorch, keras, jax==VERSION, …; see `tesra engines`. Default: what the code imports.",
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="For engines with several, such as keras: jax, torch, …"),
    ] = None,
    entry: Annotated[
        str | None,
        typer.Option(
            "--entry",
            help="A file, package.module, module:function, or a JSON list of a program's"
            " arguments; default: the file that trains; see `tesra doctor`.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder that the script writes its model to; default: where the code says so.",
        ),
    ] = None,
    devices: Annotated[int, typer.Option("--devices", "-d", help="How many devices.")] = 1,
    device_class: Annotated[
        str | None, typer.Option("--device-class", help="Of this class; see `tesra devices`.")
    ] = None,
    launch: Annotated[
        Literal["gang", "single"] | None,
        typer.Option(
            "--launch",
            help="gang: a process for each device; single: one for all. Default: what the code uses.",
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="Parameter; repeat it."),
    ] = None,
    range_: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="NAME=LOW..HIGH",
            help="What `tesra tune` may change a parameter to; repeat it.",
        ),
    ] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option(
            "--choices",
            metavar="NAME=A,B",
            help="The values that `tesra tune` may change a parameter to; repeat it.",
        ),
    ] = None,
    param_format: Annotated[
        str,
        typer.Option(
            "--param-format",
            metavar="FORMAT",
            help="How a parameter stands on the script's command line, such as '--{name}={value}' or"
            " '{name}={value}'; `file` for --config FILE (JSON); `none`.",
        ),
    ] = "--{name} {value}",
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
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="[NAME=]xingpan:/PATH",
            help="Data of your drive, read-only at TESRA_DATA_DIR (or TESRA_DATA_DIR/NAME); repeat it.",
        ),
    ] = None,
    priority: Annotated[
        str,
        typer.Option(
            "--priority",
            help="Among your own runs that wait: low, normal, high, or -100 to 100.",
        ),
    ] = "normal",
    max_cost: Annotated[
        str | None,
        typer.Option(
            "--max-cost",
            metavar="CNY",
            help="Ask it to checkpoint and stop it before its bill is above this.",
        ),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            "--max-time", metavar="TIME", help="The same after so long, e.g. 90s, 30min, 2h."
        ),
    ] = None,
    quote: Annotated[
        bool, typer.Option("--quote", help="Only say what it would cost and when it could start.")
    ] = False,
    checkpoint_every: Annotated[
        str,
        typer.Option(
            "--checkpoint-every",
            metavar="TIME",
            help="Store what it saves so often, e.g. 30s, 5min.",
        ),
    ] = "5min",
    max_restarts: Annotated[
        int,
        typer.Option(
            "--max-restarts",
            min=0,
            help="How often to go on from its last checkpoint when its node is lost.",
        ),
    ] = 3,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="First 20 seconds on a CPU slot, free of charge; go on if they pass."
        ),
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch it (the default).")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print its id and return.")] = False,
) -> None:
    """Train. Watches the run to its end and exits with 1 when it did not succeed."""
    if follow and detach:
        raise OnlyOne
    ask = (lambda name: session.ask(name, hidden=True)) if is_terminal(sys.stdin) else None
    wishes: dict[str, Any] = {
        "entry": arguments.entry(entry) if entry is not None else None,
        "engine": engine,
        "backend": backend,
        "args": args or [],
        "output": output,
        "devices": devices,
        "device_class": device_class,
        "launch": launch,
        "params": arguments.params(param or []),
        "param_format": param_format,
        "ranges": arguments.ranges(range_ or [], choices or []),
        "env": arguments.pairs(env or [], "--env"),
        "secrets": arguments.secrets(secret or [], os.environ, ask),
        "packages": package or [],
        "data": arguments.data(data or []),
        "priority": arguments.priority(priority),
        "max_cost_cny": max_cost,
        "max_time_s": arguments.seconds(max_time) if max_time else None,
        "checkpoint_every_s": arguments.seconds(checkpoint_every),
        "max_restarts": max_restarts,
    }
    if quote:
        show_quote(session, wishes)
        return
    if smoke:
        project, wishes = _try_out(session, project, wishes)
    started = _start(session, project, wishes)
    if detach:
        session.out.answer(record(started), lambda: session.out.say(started.id))
        return
    session.out.aside(f"tesra: {started.id}")
    tell_rate(session, wishes, started)
    watch(session, started, rank=None)


def _try_out(session: Session, project: str, wishes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A smoke run of the same snapshot that is run then; exits when it fails."""
    if arguments.is_source(project):
        stored = bring(session, project, None).project
    else:
        stored = session.client.project(project)
    wishes = {**wishes, "snapshot": stored.snapshot}
    watch_smoke(session, stored.id, **wishes)
    return stored.id, wishes


def _start(session: Session, project: str, wishes: dict[str, Any]) -> "LiveRun":
    """Import if a place is meant, submit, and tell what the server read from the code."""
    client = session.client
    if arguments.is_source(project):
        stored = bring(session, project, None).project
        if not stored.unchanged:
            session.out.aside(f"tesra: imported {stored.name}")
        started = client.run(stored.id, snapshot=stored.snapshot, **wishes)
    else:
        started = client.run(project, **wishes)
    for line in proposal.filled(wishes, started, project):
        session.out.aside(f"tesra: {line}")
    for warning in started.warnings:
        session.out.aside(f"tesra: warning: {warning}")
    return started
