"""Sweeps: begin (``tesra sweep DIR``), show, stop, resume; and the list of them."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from tesra.cli import arguments, sweeping
from tesra.cli.commands.projects import bring
from tesra.cli.context import Session, connected
from tesra.cli.finding import find_sweep
from tesra.cli.output import is_terminal
from tesra.kit.errors import Invalid
from tesra.kit.values import Value, typed
from tesra.wire.goals import mode_of
from tesra.wire.space import is_range, parse

if TYPE_CHECKING:
    from tesra.wire.sweeps import Sweep

PANEL = "Training"
BEGIN = "begin"
EXAMPLE = (
    "tesra sweep . --param 'lr=loguniform(1e-5,1e-1)' --param 'layers=choice(2,4)'"
    " --metric val_loss:min --trials 30 --parallel 4"
)
SweepRef = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep's id, its beginning or end, or `last`.")
]
MaxCost = Annotated[
    str | None,
    typer.Option("--max-cost", metavar="CNY", help="Stop when all trials together cost this much."),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME",
        help="Secret variable, its value from your environment or asked for; repeat it.",
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Print its id and return.")]


class NothingSearched(Invalid):
    """No parameter has a range."""


class SweepGroup(TyperGroup):
    """What is no command of the group is a project to begin a sweep of."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [BEGIN, *args]
        return list(super().parse_args(ctx, args))


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        cls=SweepGroup,
        help="Try many parameters: `tesra sweep DIR --param ... --metric ...`; show, stop, resume.",
        epilog=f"Example: {EXAMPLE}",
        no_args_is_help=True,
    )
    group.command(BEGIN, epilog=f"Example: {EXAMPLE}")(begin)
    group.command("show", epilog="Example: tesra sweep show last")(show)
    group.command("watch", epilog="Example: tesra sweep watch last")(watch)
    group.command("stop", epilog="Example: tesra sweep stop last")(stop)
    group.command("resume", epilog="Example: tesra sweep resume last --trials +10")(resume)
    app.add_typer(group, name="sweep", rich_help_panel=PANEL)
    app.command("sweeps", rich_help_panel=PANEL, epilog="Example: tesra sweeps")(sweeps)


@connected
def begin(
    session: Session,
    project: Annotated[
        str, typer.Argument(metavar="PROJECT|DIR", help="A project, or a folder to import first.")
    ],
    args: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGS", help="After `--`: for the script, passed as they are."),
    ] = None,
    *,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=RANGE",
            help="uniform(a,b), loguniform(a,b), int(a,b), logint(a,b), choice(x,y), with step=s"
            " where there are steps; or one fixed value. Repeat it.",
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            metavar="NAME[:min|max]",
            help="What trials are judged by, as the script reports it; min for a loss, max for an"
            " accuracy, unless said.",
        ),
    ],
    trials: Annotated[int, typer.Option("--trials", help="How many points to try.")] = 20,
    parallel: Annotated[int, typer.Option("--parallel", help="How many at a time.")] = 4,
    algorithm: Annotated[
        Literal["tpe", "random", "grid", "asha"],
        typer.Option(
            "--algorithm",
            help="tpe learns from the trials before; random; grid tries every point; asha is tpe"
            " that ends early what is not among the best third.",
        ),
    ] = "tpe",
    objective: Annotated[
        Literal["best", "last"],
        typer.Option("--objective", help="A trial's best value of the metric, or its last one."),
    ] = "best",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="The same seed draws the same points.")
    ] = None,
    max_cost: MaxCost = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", "-e", help="See `tesra engines`. Default: what the code imports."),
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", help="For engines with several, such as keras.")
    ] = None,
    entry: Annotated[
        str | None,
        typer.Option("--entry", help="As for `tesra run`; default: the file that trains."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="The folder that the script writes its model to."),
    ] = None,
    devices: Annotated[
        int, typer.Option("--devices", "-d", help="How many devices each trial has.")
    ] = 1,
    device_class: Annotated[
        str | None, typer.Option("--device-class", help="Of this class; see `tesra devices`.")
    ] = None,
    launch: Annotated[
        Literal["gang", "single"] | None,
        typer.Option("--launch", help="gang: a process for each device; single: one for all."),
    ] = None,
    param_format: Annotated[
        str,
        typer.Option(
            "--param-format",
            metavar="FORMAT",
            help="How a parameter reaches the script; see `run`.",
        ),
    ] = "--{name} {value}",
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="Environment variable; repeat it."),
    ] = None,
    secret: Secrets = None,
    package: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PACKAGE", help="Install this package too; repeat it."),
    ] = None,
    detach: Detach = False,
) -> None:
    """Begin a sweep: many runs over a space of parameters, under one bill. Watches it to its end.

    The same as `tesra sweep PROJECT|DIR`.
    """
    given = arguments.pairs(param or [], "--param")
    space, fixed = _space(given)
    name, mode = _metric(session, metric)
    wishes: dict[str, Any] = {
        "entry": arguments.entry(entry) if entry is not None else None,
        "engine": engine,
        "backend": backend,
        "args": args or [],
        "output": output,
        "devices": devices,
        "device_class": device_class,
        "launch": launch,
        "params": fixed,
        "param_format": param_format,
        "env": arguments.pairs(env or [], "--env"),
        "secrets": _secrets(session, secret),
        "packages": package or [],
    }
    plan = {
        "mode": mode,
        "trials": trials,
        "parallel": parallel,
        "algorithm": algorithm,
        "objective": objective,
        "seed": seed,
        "max_cost_cny": max_cost,
    }
    begun = session.client.sweep(
        _brought(session, project, wishes), space=space, metric=name, **wishes, sweep=plan
    )
    for note in begun.notes:
        session.out.aside(f"tesra: warning: {note}")
    _go_on(session, begun, detach=detach)


@connected
def sweeps(
    session: Session,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
) -> None:
    """List your sweeps, newest first."""
    found = session.client.sweeps(limit)
    session.out.answer(
        [sweeping.record(one) for one in found],
        lambda: session.out.table(
            ["Sweep", "Project", "State", "Trials", "Metric", "Best", "CNY", "Made"],
            [sweeping.row_of(one) for one in found],
            right=["Trials", "Best", "CNY"],
            empty="No sweeps. `tesra sweep DIR --param ... --metric ...` begins one.",
        ),
    )


@connected
def show(
    session: Session,
    which: SweepRef,
    *,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many trials, the best first.")
    ] = None,
) -> None:
    """Show a sweep: its trials by rank, and how the best value came down (or up)."""
    found = find_sweep(session.client, which)
    trials = session.client.trials(found.id)
    if session.out.as_json:
        session.out.json({**sweeping.record(found), "ranking": sweeping.ranked(trials, found)})
        return
    session.out.facts(sweeping.facts(found))
    shown = sweeping.ranked(trials, found)[:limit]
    session.out.table(
        sweeping.headers(found),
        [sweeping.trial_row(found, trial) for trial in shown],
        right=sweeping.NUMBERS,
        empty="No trial has begun.",
    )
    sweeping.draw_history(session, found, trials)


@connected
def watch(session: Session, which: SweepRef) -> None:
    """Watch a sweep to its end; exits with 1 when it has not finished."""
    _go_on(session, find_sweep(session.client, which), detach=False)


@connected
def stop(session: Session, which: SweepRef) -> None:
    """Stop a sweep and all its trials. What they wrote is kept; what they used is billed."""
    stopped = session.client.stop_sweep(find_sweep(session.client, which).id)
    told = "is stopping" if stopped.state == "stopping" else f"is {stopped.state}"
    session.out.answer(sweeping.record(stopped), lambda: session.out.say(f"{stopped.id} {told}."))


@connected
def resume(
    session: Session,
    which: SweepRef,
    *,
    trials: Annotated[
        str, typer.Option("--trials", metavar="+N", help="So many more, such as +10.")
    ],
    max_cost: MaxCost = None,
    secret: Secrets = None,
    detach: Detach = False,
) -> None:
    """Try more points, learning from those that were. After its end they have a bill of their own."""
    begun = session.client.resume_sweep(
        find_sweep(session.client, which).id,
        _count(trials),
        max_cost_cny=max_cost,
        secrets=_secrets(session, secret),
    )
    _go_on(session, begun, detach=detach)


def _go_on(session: Session, sweep: "Sweep", *, detach: bool) -> None:
    if detach:
        session.out.answer(sweeping.record(sweep), lambda: session.out.say(sweep.id))
        return
    session.out.aside(f"tesra: {sweep.id}")
    sweeping.watch(session, sweep)


def _brought(session: Session, project: str, wishes: dict[str, Any]) -> str:
    """The project's id or name, imported if a place is meant."""
    if not arguments.is_source(project):
        return project
    stored = bring(session, project, None).project
    if not stored.unchanged:
        session.out.aside(f"tesra: imported {stored.name}")
    wishes["snapshot"] = stored.snapshot
    return stored.id


def _space(given: dict[str, str]) -> tuple[dict[str, str], dict[str, Value]]:
    """What is searched, and what is fixed; a mistake is told before anything is uploaded."""
    space = {name: text for name, text in given.items() if is_range(text)}
    if not space:
        raise NothingSearched(
            "No --param has a range, so that all trials would be the same.",
            way_out="Give one, such as --param 'lr=loguniform(1e-5,1e-1)'.",
        )
    for name, text in space.items():
        parse(name, text)
    return space, {name: typed(text) for name, text in given.items() if name not in space}


def _metric(session: Session, text: str) -> tuple[str, str | None]:
    """The name, and its direction if that is said, or asked for."""
    name, mode = sweeping.metric_of(text)
    if mode is not None:
        return name, mode
    if mode_of(text) is None and is_terminal(sys.stdin):
        answer = session.ask(f"Is less or more of {text} better (min or max)")
        return text, answer.strip().lower()
    return text, None


def _secrets(session: Session, names: Sequence[str] | None) -> dict[str, str]:
    ask = (lambda name: session.ask(name, hidden=True)) if is_terminal(sys.stdin) else None
    return arguments.secrets(names or [], os.environ, ask)


def _count(text: str) -> int:
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 7):
        raise arguments.ArgumentInvalid(
            f"--trials {text} is not a number of trials.", way_out="Write it like --trials +10."
        )
    return int(digits)
