"""Training: run, runs, show, logs, stop, download."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tesra.cli import arguments, following, words
from tesra.cli.commands.projects import bring
from tesra.cli.context import Session, connected
from tesra.cli.finding import find_run
from tesra.cli.output import is_terminal
from tesra.kit.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from tesra.sdk.client import Client, LiveRun
    from tesra.wire.drive import Project
    from tesra.wire.training import Run

PANEL = "Training"
INTERRUPTED = 130

RunRef = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, its beginning or end, or `last`."),
]
State = Literal["queued", "placing", "preparing", "running", "succeeded", "failed", "stopped"]


class FolderNotEmpty(Conflict):
    """The folder is not empty."""


class OnlyOne(Conflict):
    """--follow and --detach exclude each other."""


def register(app: typer.Typer) -> None:
    def add(name: str, example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        return app.command(name, rich_help_panel=PANEL, epilog=f"Example: {example}")

    add("run", "tesra run . --engine pytorch --devices 2 --param lr=0.1 -- --epochs 5")(run)
    add("runs", "tesra runs --state running")(runs)
    add("show", "tesra show last")(show)
    add("logs", "tesra logs last --follow")(logs)
    add("stop", "tesra stop last")(stop)
    add("download", "tesra download last ./model")(download)


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
        typer.Option("--engine", "-e", help="pytorch, or pytorch==VERSION; see `tesra engines`."),
    ] = "pytorch",
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
        session.out.answer(_record(started), lambda: session.out.say(started.id))
        return
    session.out.aside(f"tesra: {started.id}")
    _watch(session, started, rank=None)


@connected
def runs(
    session: Session,
    *,
    state: Annotated[State | None, typer.Option("--state", help="Only those.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="Only of this project.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
) -> None:
    """List your runs, newest first."""
    found = session.client.runs(state=state, project=project, limit=limit)
    session.out.answer(
        [_record(one) for one in found],
        lambda: session.out.table(
            ["Run", "Project", "State", "Engine", "Devices", "Took", "CNY", "Made"],
            [
                [
                    one.id,
                    one.project_name,
                    one.state,
                    one.engine,
                    str(one.devices),
                    words.between(one.started_at, one.ended_at),
                    one.amount_cny or "-",
                    words.moment(one.created_at),
                ]
                for one in found
            ],
            right=["Devices", "CNY"],
            empty="No runs. `tesra run DIR` starts one.",
        ),
    )


@connected
def show(session: Session, which: RunRef) -> None:
    """Show a run's record and its timeline."""
    found = find_run(session.client, which)
    if session.out.as_json:
        session.out.json(_record(found))
        return
    session.out.facts(_facts(found))
    for warning in found.warnings:
        session.out.say(f"warning: {words.one_line(warning)}")
    for event in session.client.events(found.id):
        session.out.say(f"  {words.moment(event.at)}  {words.one_line(event.text or event.kind)}")


@connected
def logs(
    session: Session,
    which: RunRef,
    *,
    rank: Annotated[
        int | None, typer.Option("--rank", min=-1, help="Only this rank; -1 is Tesra's own voice.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
) -> None:
    """Print a run's log; with --json as chunks, a line each.

    With --follow, exits with 1 when the run did not succeed.
    """
    found = find_run(session.client, which)
    if session.out.as_json:
        chunks = session.client.follow if follow else session.client.logs
        for chunk in chunks(found.id, rank=rank):
            session.out.json(chunk, one_line=True)
        return
    if follow:
        _watch(session, found, rank=rank)
        return
    printer = following.LogPrinter(found, following.voice(), sys.stdout)
    printer.show_all(session.client.logs(found.id, rank=rank))


@connected
def stop(session: Session, which: RunRef) -> None:
    """Stop a run. What it wrote so far is kept; what it used is billed."""
    stopped = session.client.stop(find_run(session.client, which).id)
    told = "is stopping" if stopped.state not in following.ENDED else f"is {stopped.state}"
    session.out.answer(_record(stopped), lambda: session.out.say(f"{stopped.id} {told}."))


@connected
def download(
    session: Session,
    which: RunRef,
    dest: Annotated[
        Path | None,
        typer.Argument(metavar="[DEST]", help="The folder; default: PROJECT-RUN, made here."),
    ] = None,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that is not empty.")
    ] = False,
) -> None:
    """Download what a run wrote to its output folder."""
    found = find_run(session.client, which)
    folder = dest or Path(f"{_file_name(found.project_name)}-{words.short(found.id)}")
    if not force:
        _refuse_to_mix(folder)
    with session.out.transfer("Downloading") as report:
        session.client.download(found, folder, report=report)
    files = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )
    session.out.answer(
        {"path": str(folder.absolute()), "files": files, "run": found.id},
        lambda: session.out.say(f"{words.plural(len(files), 'file')} in {folder}"),
    )


def _start(
    session: Session, project: str, entry: str | list[str] | None, wishes: dict[str, Any]
) -> "LiveRun":
    """Import if a place is meant, find the entry if none is given, and submit."""
    client = session.client
    if arguments.is_source(project):
        imported = bring(session, project, None)
        stored, names = imported.project, imported.top_names
        if not stored.unchanged and not session.out.as_json:
            session.out.aside(f"tesra: imported {stored.name}")
    elif entry is None:
        stored = client.project(project)
        names = _top_names(client, stored)
    else:
        return client.run(project, entry, **wishes)
    if entry is None:
        entry = arguments.default_entry(names, stored.name)
    return client.run(stored.id, entry, snapshot=stored.snapshot, **wishes)


def _top_names(client: "Client", project: "Project") -> list[str]:
    return [file.path for file in client.files(project.snapshot) if file.kind != "dir"]


def _watch(session: Session, run: "LiveRun", *, rank: int | None) -> None:
    """Follow to the end; exit with 1 unless the run succeeded. Ctrl-C leaves it running."""
    from tesra.sdk.follow import Reconnection  # brings the wire's models

    voice = following.voice()

    def on_gap(trouble: Unavailable) -> None:
        voice.say(f"connection lost, trying again ({words.one_line(trouble.detail)})")

    printer = following.LogPrinter(run, voice, sys.stdout)
    try:
        printer.show_all(
            session.client.follow(run.id, rank=rank, again=Reconnection(on_gap=on_gap))
        )
        ended = session.client.show(run.id)
    except KeyboardInterrupt:
        for line in following.detached(run.id):
            voice.say(line)
        raise typer.Exit(INTERRUPTED) from None
    for line in following.summary(ended):
        voice.say(line)
    if session.out.as_json:
        session.out.json(_record(ended), one_line=True)
    if ended.state != "succeeded":
        raise typer.Exit(1)


def _record(run: "Run") -> dict[str, Any]:
    """The run's JSON: the wire's own keys, and its id as ``run`` too."""
    return {"run": run.id, **run.model_dump(mode="json")}


def _facts(run: "Run") -> list[tuple[str, str]]:
    phase = f" ({run.phase})" if run.phase else ""
    devices = f"{run.devices} {run.device_class or 'of any class'}, launch {run.launch}"
    optional = [
        ("Why", run.reason),
        ("Arguments", " ".join(run.args)),
        ("Parameters", ", ".join(f"{name}={value}" for name, value in run.params.items())),
        ("Environment", ", ".join(f"{name}={value}" for name, value in run.env.items())),
        ("Secrets", ", ".join(run.secrets)),
        ("Packages", ", ".join(run.packages)),
    ]
    stored = f"{run.output} ({words.size(run.output_size_bytes)})" if run.output else "none"
    return [
        ("Run", run.id),
        ("Project", run.project_name),
        ("State", run.state + phase),
        ("Engine", run.engine),
        ("Entry", words.entry(run.entry)),
        ("Devices", devices),
        *((name, words.one_line(value)) for name, value in optional if value),
        ("Attempt", str(run.attempt)),
        ("Exit code", "-" if run.exit_code is None else str(run.exit_code)),
        ("Made", words.moment(run.created_at)),
        ("Ran for", words.between(run.started_at, run.ended_at)),
        ("Output", f"{run.output_path}: {stored}"),
        ("Used", f"{run.th} T·H"),
        ("Bill", f"{run.bill or 'none'} ({words.money(run.amount_cny)})"),
    ]


def _refuse_to_mix(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderNotEmpty(
            f"{folder} exists and is not an empty folder.",
            way_out="Name another place, or write into it with --force.",
        )


def _file_name(name: str) -> str:
    """A project's name as the name of a folder."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
