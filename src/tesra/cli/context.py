"""What every command that speaks to a server shares: its four flags, and a session made of them.

The client is made when a command first needs it, so that ``--help`` loads nothing of it.
"""

import functools
import gc
import inspect
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, Self

import typer

import tesra
from tesra.cli.output import Output, is_terminal
from tesra.kit.errors import Invalid

if TYPE_CHECKING:
    from tesra.sdk.client import Client

Own = ParamSpec("Own")

PANEL = "Connection and output"
_HTTPX_COMMAND_LINE = (
    "httpx._main"  # click, rich and pygments: 0.15 s that no command of ours needs
)
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Address of the server [TESRA_URL].",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", help="Token to use [TESRA_TOKEN].", show_default=False, rich_help_panel=PANEL
    ),
]
HomeFolder = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Use the network that runs in this folder [TESRA_HOME].",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Show the result as JSON.", rich_help_panel=PANEL)
]


class InputNeeded(Invalid):
    """Something is missing, and there is no terminal to ask."""


class NotConfirmed(Invalid):
    """Nothing was done."""


class Session:
    """One command's connection and output."""

    def __init__(
        self, *, url: str | None, token: str | None, home: Path | None, as_json: bool
    ) -> None:
        self.given_token = token
        self.out = Output(as_json=as_json)
        self._where = (url, token, home)
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.close()

    @functools.cached_property
    def client(self) -> "Client":
        sys.modules.setdefault(_HTTPX_COMMAND_LINE, None)  # type: ignore[arg-type]  # says "not there"
        gc.disable()  # what is imported stays: looking for what does not would take 30 ms
        try:
            client: Client = tesra.Client(*self._where)
        finally:
            gc.enable()
        return self._exits.enter_context(client)

    def ask(self, what: str, *, hidden: bool = False, confirm: bool = False) -> str:
        """Asked on the terminal; a pipe gives one line of standard input."""
        if is_terminal(sys.stdin):
            answer: str = typer.prompt(
                what, hide_input=hidden, confirmation_prompt=confirm, err=True
            )
            return answer
        line = sys.stdin.readline().rstrip("\r\n")
        if not line:
            raise InputNeeded(f"{what} is missing, and there is no terminal to ask for it.")
        return line

    def confirm(self, what: str, *, yes: bool) -> None:
        """Asks unless ``yes``; raises ``InputNeeded``, ``NotConfirmed``."""
        if yes:
            return
        if not is_terminal(sys.stdin):
            raise InputNeeded("This has to be confirmed.", way_out="Give --yes if you are sure.")
        if self.ask(f"{what} Write 'yes'").strip().lower() != "yes":
            raise NotConfirmed


def connected(command: Callable[Concatenate[Session, Own], None]) -> Callable[..., None]:
    """A command for Typer: its own options and the shared four, which become its session."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = [
        _option("url", Url, None),
        _option("token", Token, None),
        _option("home", HomeFolder, None),
        _option("as_json", Json, False),
    ]

    @functools.wraps(command)
    def run(
        *args: Own.args,
        **options: Own.kwargs,
    ) -> None:
        where: dict[str, Any] = {option.name: options.pop(option.name) for option in shared}
        with Session(**where) as session:
            command(session, *args, **options)

    named = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in (*own, *shared)]
    vars(run)["__signature__"] = inspect.Signature(named)
    run.__annotations__ = {option.name: option.annotation for option in named}
    return run


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
