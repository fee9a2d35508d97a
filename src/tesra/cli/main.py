"""The ``tesra`` command line without the parts that need a server: ``app`` hangs those on.

Exit codes: 0 done, 1 refused or failed (one line on stderr says why and the way out), 2 not
understood, 130 interrupted. No traceback reaches a user; ``TESRA_DEBUG=1`` shows it.
"""

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tesra.cli.commands import (
    account,
    account_safety,
    billing,
    checkpoints,
    compute,
    doctor,
    drive,
    metrics,
    notify,
    operator,
    projects,
    queue,
    records,
    run,
    runs,
    storage,
    sweep,
    tensorboard,
    tune,
)
from tesra.cli.output import complaint, is_terminal
from tesra.cli.words import one_line
from tesra.kit.errors import TesraError

GROUPS = (  # in the order of the help
    account,
    account_safety,
    projects,
    doctor,
    drive,
    storage,
    compute,
    run,
    runs,
    checkpoints,
    metrics,
    tensorboard,
    sweep,
    tune,
    queue,
    records,
    notify,
    billing,
    operator,
)
EXAMPLE = "Example: tesra register --name ann, then: tesra run . --devices 2"


class TesraGroup(TyperGroup):
    """The outermost edge: whatever went wrong becomes one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            error.message = error.message.replace("Value error, ", "")  # pydantic's own words
            raise
        except (typer.Exit, typer.Abort, BrokenPipeError, EOFError):
            raise  # Typer knows what to do with these
        except Exception as error:  # a user gets a line, never a traceback
            if os.environ.get("TESRA_DEBUG"):
                raise
            typer.secho(f"tesra: {_line(error)}", fg=typer.colors.RED, err=True)
            raise typer.Exit(1) from None


def build_cli() -> typer.Typer:
    """The command line; ``app`` adds the commands that start processes."""
    app = typer.Typer(
        name="tesra",
        cls=TesraGroup,
        help="Train on other people's GPUs, pay after, keep your work.",
        epilog=EXAMPLE,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if is_terminal(sys.stdout) else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for group in GROUPS:
        group.register(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tesra {_version()}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    pass


def _version() -> str:
    try:
        return version("tesra")
    except PackageNotFoundError:  # run from the source tree
        return "from source"


def _line(error: Exception) -> str:
    if isinstance(error, TesraError):
        return complaint(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return one_line(f"{where}{error.strerror or error}.")
    if type(error).__name__ == "ValidationError" and hasattr(error, "errors"):  # pydantic's
        return _not_possible(error.errors(include_url=False, include_input=False))
    what = one_line(f"{type(error).__name__}: {error}")
    return f"Something unexpected went wrong ({what}). TESRA_DEBUG=1 shows where."


def _not_possible(mistakes: list[dict[str, Any]]) -> str:
    """What was asked for can't even be sent; no value is repeated, it may be a password."""
    said = [
        f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}"
        for one in mistakes
    ]
    return one_line(f"That is not possible. {'; '.join(said)}.")
