"""What a run measured: metrics, tensorboard."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tesra.cli import following, metric_views
from tesra.cli.commands.runs import PANEL, RunRef
from tesra.cli.context import Session, connected
from tesra.cli.finding import find_run
from tesra.cli.watching import INTERRUPTED
from tesra.kit.errors import Invalid

if TYPE_CHECKING:
    from tesra.sdk.client import LiveRun

HOME_AND_CLEAR = "\x1b[H\x1b[J"
Axis = Literal["step", "time"]


class ChoicesExclude(Invalid):
    """These options do not go together."""


def register(app: typer.Typer) -> None:
    app.command(
        "metrics",
        rich_help_panel=PANEL,
        epilog="Example: tesra metrics last loss val_loss --follow",
    )(metrics)


@connected
def metrics(
    session: Session,
    which: RunRef,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Chart these; default: a table of all."),
    ] = None,
    *,
    rank: Annotated[
        int | None, typer.Option("--rank", min=0, help="Of this rank; default: the lowest.")
    ] = None,
    x: Annotated[Axis, typer.Option("--x", help="What charts are drawn over.")] = "step",
    devices: Annotated[
        bool, typer.Option("--devices", help="Use, memory and power of the run's devices.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write all points, in full, to FILE.csv or FILE.parquet."),
    ] = None,
) -> None:
    """Show what a run measured: a table of its metrics, or charts of those that are named."""
    wanted = tuple(names or ())
    _check(wanted, devices=devices, follow=follow, export=export, rank=rank)
    if export is not None:
        from tesra.sdk.metric_export import check_target  # loads nothing of Parquet yet

        check_target(export)
    run = find_run(session.client, which)
    if export is not None:
        _export(session, run, wanted, export)
    elif follow:
        _follow(session, run, wanted, rank=rank, x=x)
    elif devices:
        use = session.client.device_use(run.id)
        session.out.answer(use, lambda: session.out.say(metric_views.devices(use) or _NO_SAMPLES))
    elif wanted:
        history = session.client.metric_history(run.id, *wanted, rank=rank, x=x)
        session.out.answer(history, lambda: session.out.say(metric_views.charts(history)))
    else:
        found = session.client.metrics(run.id, rank=rank)
        session.out.answer(found, lambda: metric_views.overview(session, run, found, rank))


_NO_SAMPLES = "No samples of device use yet: one is taken every few seconds while the run goes on."


def _check(
    names: tuple[str, ...],
    *,
    devices: bool,
    follow: bool,
    export: Path | None,
    rank: int | None,
) -> None:
    if devices and (names or follow or export or rank is not None):
        raise ChoicesExclude(
            "--devices goes with no names and no other option.", way_out="Ask for them apart."
        )
    if export and (follow or rank is not None):
        raise ChoicesExclude(
            "--export writes what is there, of all ranks.",
            way_out="Leave out --follow and --rank.",
        )


def _export(session: Session, run: "LiveRun", names: tuple[str, ...], target: Path) -> None:
    from tesra.sdk.metric_export import export_points  # brings Parquet, if it is asked for

    count = export_points(session.client.metric_points(run.id, *names), target)
    session.out.answer(
        {"run": run.id, "path": str(target.absolute()), "points": count},
        lambda: session.out.say(f"{count} points in {target}"),
    )


def _follow(
    session: Session, run: "LiveRun", names: tuple[str, ...], *, rank: int | None, x: Axis
) -> None:
    try:
        for news in session.client.metric_news(run.id):
            if session.out.as_json:
                session.out.json(news, one_line=True)
            elif session.out.on_terminal:
                _draw(session, run, names, rank=rank, x=x, clear=HOME_AND_CLEAR)
                hint = "" if news.state in following.ENDED else "; Ctrl-C stops watching"
                session.out.say(f"\n{run.id} {news.state}{hint}")
            else:
                told = [
                    (value.name, value.step, value.value)
                    for value in news.values
                    if not names or value.name in names
                    if value.rank == (rank or 0)
                ]
                if told:
                    session.out.say(metric_views.news_line(told))
            sys.stdout.flush()
    except KeyboardInterrupt:
        for line in following.detached(run.id):
            session.out.aside(line)
        raise typer.Exit(INTERRUPTED) from None
    if not (session.out.as_json or session.out.on_terminal):
        _draw(session, run, names, rank=rank, x=x)


def _draw(
    session: Session,
    run: "LiveRun",
    names: tuple[str, ...],
    *,
    rank: int | None,
    x: Axis,
    clear: str = "",
) -> None:
    """As far as the metrics are there: a name may only come later."""
    found = session.client.metrics(run.id, rank=rank)
    there = [name for name in names if any(name == one.name for one in found.names)]
    if there:
        history = session.client.metric_history(run.id, *there, rank=rank, x=x)
        session.out.say(clear + metric_views.charts(history))
    elif names:
        session.out.say(f"{clear}Nothing of {', '.join(names)} yet.")
    else:
        metric_views.overview(session, run, found, rank, clear=clear)
