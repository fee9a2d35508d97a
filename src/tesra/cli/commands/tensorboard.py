"""A TensorBoard on runs: tensorboard."""

import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesra.cli import words
from tesra.cli.commands.runs import PANEL
from tesra.cli.context import Session, connected
from tesra.cli.finding import find_run
from tesra.kit.errors import TesraError

if TYPE_CHECKING:
    from tesra.sdk.client import LiveRun

_POLL_S = 0.5


def register(app: typer.Typer) -> None:
    app.command(
        "tensorboard", rich_help_panel=PANEL, epilog="Example: tesra tensorboard last --port 6006"
    )(tensorboard)


@connected
def tensorboard(
    session: Session,
    which: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="A run's id, its beginning or end, or `last`; several to compare.",
        ),
    ],
    *,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Of 127.0.0.1; default: any free one."),
    ] = None,
) -> None:
    """Open a TensorBoard on runs, live while they go on. Ctrl-C ends it and leaves nothing."""
    from tesra.cli import board
    from tesra.sdk.event_files import require_tensorboard

    require_tensorboard()
    chosen = board.choose_port(port)
    runs = {run.id: run for run in (find_run(session.client, one) for one in which)}
    folder = Path(tempfile.mkdtemp(prefix="tesra-tensorboard-"))
    shown = folder / "runs"
    shown.mkdir()
    ending = threading.Event()
    try:
        for run in runs.values():
            threading.Thread(
                target=_feed, args=(session, run, shown, ending), daemon=True, name=run.id
            ).start()
        with board.running_board(shown, chosen, folder / "log") as process:
            _tell(session, f"http://{board.HOST}:{chosen}/", list(runs))
            while process.poll() is None:
                ending.wait(_POLL_S)
        raise board.BoardFailed(f"TensorBoard has ended. {board.last_words(folder / 'log')}")
    except KeyboardInterrupt:
        session.out.aside("TensorBoard is closed.")
    finally:
        ending.set()
        shutil.rmtree(folder, ignore_errors=True)


def _tell(session: Session, url: str, runs: list[str]) -> None:
    if session.out.as_json:
        session.out.json({"url": url, "runs": runs}, one_line=True)
        return
    session.out.say(f"TensorBoard on {words.plural(len(runs), 'run')}: {url}  (Ctrl-C closes it)")
    session.out.flush()


def _feed(session: Session, run: "LiveRun", shown: Path, ending: threading.Event) -> None:
    """Write what a run measures, until it has ended or the board is closed."""
    from tesra.sdk.event_files import EventFiles, fetch_event_files

    folder = shown / f"{run.project_name}-{words.short(run.id)}".replace("/", "-")
    files: EventFiles | None = None
    try:
        own = fetch_event_files(session.client, run, folder / "output")
        files = EventFiles(folder, without=frozenset({"tensorboard"} if own else ()))
        for points in session.client.follow_points(run.id):
            if ending.is_set():
                return
            files.add(points)
    except (TesraError, OSError) as error:
        if not ending.is_set():
            session.out.aside(f"{run.id} is not followed any more: {words.one_line(str(error))}")
    finally:
        if files is not None:
            files.close()
