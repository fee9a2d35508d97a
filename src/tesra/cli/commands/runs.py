"""What became of a run: runs, show, logs, stop, download."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tesra.cli import following, words
from tesra.cli.context import Session, connected
from tesra.cli.finding import find_best, find_run, find_sweep, is_sweep
from tesra.cli.quoting import forecast_facts
from tesra.cli.watching import record, watch
from tesra.kit.errors import Conflict

if TYPE_CHECKING:
    from tesra.wire.training import ResumedFrom, Run

PANEL = "Training"

RunRef = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, its beginning or end, or `last`."),
]
State = Literal["queued", "placing", "preparing", "running", "succeeded", "failed", "stopped"]


class FolderNotEmpty(Conflict):
    """The folder is not empty."""


def register(app: typer.Typer) -> None:
    def add(name: str, example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        return app.command(name, rich_help_panel=PANEL, epilog=f"Example: {example}")

    add("runs", "tesra runs --state running")(runs)
    add("show", "tesra show last")(show)
    add("logs", "tesra logs last --follow")(logs)
    add("stop", "tesra stop last")(stop)
    add("download", "tesra download last ./model")(download)


@connected
def runs(
    session: Session,
    *,
    state: Annotated[State | None, typer.Option("--state", help="Only those.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="Only of this project.")] = None,
    sweep: Annotated[
        str | None, typer.Option("--sweep", metavar="SWEEP", help="Only the trials of this sweep.")
    ] = None,
    no_trials: Annotated[bool, typer.Option("--no-trials", help="No trials of sweeps.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
) -> None:
    """List your runs, newest first."""
    found = session.client.runs(
        state=state,
        project=project,
        sweep=find_sweep(session.client, sweep).id if sweep else None,
        trials=not no_trials,
        limit=limit,
    )
    session.out.answer(
        [record(one) for one in found],
        lambda: _table(session, found),
    )


@connected
def show(session: Session, which: RunRef) -> None:
    """Show a run's record and its timeline."""
    found = find_run(session.client, which)
    if session.out.as_json:
        session.out.json(record(found))
        return
    session.out.facts(_facts(found))
    for warning in found.warnings:
        session.out.say(f"warning: {words.one_line(warning)}")
    for event in session.client.events(found.id):
        session.out.say(f"  {words.moment(event.at)}  {words.gist(event.text or event.kind)}")


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
        _log_as_json(session, found, rank=rank, follow=follow)
        return
    if follow:
        watch(session, found, rank=rank)
        return
    printer = following.LogPrinter(found, following.voice(), sys.stdout, rank=rank)
    printer.show_all(session.client.logs(found.id, rank=rank))


@connected
def stop(session: Session, which: RunRef) -> None:
    """Stop a run. What it wrote so far is kept; what it used is billed."""
    stopped = session.client.stop(find_run(session.client, which).id)
    told = "is stopping" if stopped.state not in following.ENDED else f"is {stopped.state}"
    session.out.answer(record(stopped), lambda: session.out.say(f"{stopped.id} {told}."))


@connected
def download(
    session: Session,
    which: RunRef,
    dest: Annotated[
        Path | None,
        typer.Argument(metavar="[DEST]", help="The folder; default: PROJECT-RUN, made here."),
    ] = None,
    *,
    best: Annotated[
        bool, typer.Option("--best", help="Of a sweep (its id, or `last`): its best trial's.")
    ] = False,
    checkpoint: Annotated[
        int | None,
        typer.Option("--checkpoint", metavar="N", min=1, help="Its checkpoint N instead."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that is not empty.")
    ] = False,
) -> None:
    """Download what a run, or the best trial of a sweep, wrote to its output folder."""
    find = find_best if best or is_sweep(which) else find_run
    found = find(session.client, which)
    folder = dest or Path(f"{_file_name(found.project_name)}-{words.short(found.id)}")
    if not force:
        _refuse_to_mix(folder)
    with session.out.transfer("Downloading") as report:
        if checkpoint is None:
            session.client.download(found, folder, report=report)
        else:
            session.client.download_checkpoint(found.id, checkpoint, folder, report=report)
    files = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )
    session.out.answer(
        {"path": str(folder.absolute()), "files": files, "run": found.id},
        lambda: session.out.say(f"{words.plural(len(files), 'file')} in {folder}"),
    )


def _table(session: Session, found: Sequence["Run"]) -> None:
    """The trials of sweeps say whose they are, if there are any."""
    headers = ["Run", "Project", "State", "Engine", "Devices", "Took", "CNY", "Made"]
    trials = ["Trial"] if any(one.sweep for one in found) else []
    rows = [
        [
            one.id,
            one.project_name,
            _state(one),
            one.engine,
            str(one.devices),
            words.between(one.started_at, one.ended_at),
            one.amount_cny or "-",
            words.moment(one.created_at),
            *(f"{one.trial} of …{words.short(one.sweep)}" if one.sweep else "" for _ in trials),
        ]
        for one in found
    ]
    session.out.table(
        [*headers, *trials],
        rows,
        right=["Devices", "CNY"],
        empty="No runs. `tesra run DIR` starts one.",
    )


def _facts(run: "Run") -> list[tuple[str, str]]:
    phase = f" ({run.phase})" if run.phase and run.phase != run.state else ""
    devices = f"{run.devices} {run.device_class or 'of any class'}, launch {run.launch}"
    devices += f" ({run.launch_reason})" if run.launch_reason else ""
    optional = [
        ("Place in the queue", _place(run)),
        ("Why", _why(run)),
        ("Priority", str(run.priority) if run.priority else ""),
        ("Caps", words.caps(run.max_cost_cny, run.max_time_s)),
        ("Arguments", " ".join(run.args)),
        ("Parameters", ", ".join(f"{name}={value}" for name, value in run.params.items())),
        ("Environment", ", ".join(f"{name}={value}" for name, value in run.env.items())),
        ("Secrets", ", ".join(run.secrets)),
        ("Packages", ", ".join(run.packages)),
        ("Data", ", ".join(words.data(one) for one in run.data)),
    ]
    stored = f"{run.output} ({words.size(run.output_size_bytes)})" if run.output else "none"
    return [
        ("Run", run.id),
        ("Project", run.project_name),
        ("State", run.state + phase),
        ("Engine", run.engine),
        ("Entry", words.entry(run.entry)),
        ("Devices", devices),
        *((name, words.gist(value)) for name, value in optional if value),
        ("Attempt", str(run.attempt)),
        *([("Resumed from", _origin(run.resumed_from))] if run.resumed_from else []),
        *_metrics(run),
        ("Exit code", "-" if run.exit_code is None else str(run.exit_code)),
        ("Made", words.moment(run.created_at)),
        ("Ran for", words.between(run.started_at, run.ended_at)),
        ("Output", f"{run.output_path}: {stored}"),
        ("Used", f"{run.th} T·H"),
        *forecast_facts(run),
        ("Bill", f"{run.bill or 'none'} ({words.money(run.amount_cny)})"),
    ]


def _metrics(run: "Run") -> list[tuple[str, str]]:
    values = ", ".join(f"{name} {words.number(value)}" for name, value in run.metrics.items())
    return [("Metrics", values)] if values else []


def _origin(origin: "ResumedFrom") -> str:
    return f"checkpoint {origin.checkpoint} of {origin.run}"


def _why(run: "Run") -> str | None:
    if run.queue is None:
        return run.reason
    return run.queue.why if run.reason in (None, run.queue.why) else f"{run.queue.why} {run.reason}"


def _state(run: "Run") -> str:
    """With its place in the queue, or what it needs its owner for."""
    if run.queue is None:
        return f"{run.state} (smoke)" if run.smoke else run.state
    where = run.queue.waits_for if run.queue.place is None else f"{run.queue.place}."
    return f"{run.state} {where}"


def _place(run: "Run") -> str | None:
    if run.queue is None or run.queue.place is None:
        return None
    by = f", starts by {words.moment(run.queue.start_by)}" if run.queue.start_by else ""
    return f"{run.queue.place} of {run.queue.of}{by}"


def _log_as_json(session: Session, run: "Run", *, rank: int | None, follow: bool) -> None:
    read = session.client.follow if follow else session.client.logs
    state: str | None = None
    for chunk in read(run.id, rank=rank):
        session.out.json(chunk, one_line=True)
        state = chunk.state or state
    if follow and state != "succeeded":
        raise typer.Exit(1)


def _refuse_to_mix(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderNotEmpty(
            f"{folder} exists and is not an empty folder.",
            way_out="Name another place, or write into it with --force.",
        )


def _file_name(name: str) -> str:
    """A project's name as the name of a folder."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
