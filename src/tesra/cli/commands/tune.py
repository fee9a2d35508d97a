"""Changing parameters of a run while it goes on."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tesra.cli import arguments, words
from tesra.cli.commands.runs import PANEL, RunRef
from tesra.cli.context import Session, connected
from tesra.cli.finding import find_run
from tesra.kit.errors import Conflict

if TYPE_CHECKING:
    from tesra.wire.tuning import TunableParameter, TuneChange, Tuning

LOOK_EVERY_S = 0.2
HINT_AFTER_S = 15.0


class OneAtATime(Conflict):
    """Values, --withdraw and --rollback exclude each other."""


class NotMade(Conflict):
    """The change was not made."""


def register(app: typer.Typer) -> None:
    example = "tesra tune last lr=0.003"
    app.command("tune", rich_help_panel=PANEL, epilog=f"Example: {example}")(tune)


@connected
def tune(
    session: Session,
    which: RunRef,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE", help="New values; they take effect together."),
    ] = None,
    *,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take back the last change that still waits.")
    ] = False,
    rollback: Annotated[
        bool,
        typer.Option(
            "--rollback", help="Begin again from the checkpoint before the last change made."
        ),
    ] = False,
    change: Annotated[
        int | None,
        typer.Option("--change", min=1, help="With --withdraw or --rollback: of this change."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until all ranks have made it.")
    ] = True,
) -> None:
    """Change parameters of a running job, at the same step on all its ranks.

    Without values: show what can be changed, to what, and the timeline of what was changed.
    """
    if sum((bool(values), withdraw, rollback)) > 1:
        raise OneAtATime
    run = find_run(session.client, which).id
    if withdraw:
        _withdraw(session, run, change)
    elif rollback:
        _rollback(session, run, change)
    elif values:
        _change_values(session, run, values, wait=wait)
    else:
        answer = session.client.tuning(run)
        session.out.answer(answer, lambda: _show(session, answer))


def _withdraw(session: Session, run: str, change: int | None) -> None:
    waiting = [one.seq for one in session.client.tuning(run).changes if one.state == "waiting"]
    seq = change or (waiting[-1] if waiting else 1)
    answer = session.client.withdraw_change(run, seq)
    session.out.answer(answer, lambda: session.out.say(f"Change {seq} is withdrawn."))


def _rollback(session: Session, run: str, change: int | None) -> None:
    answer = session.client.rollback(run, change)
    holds = _values({one.name: one.value for one in answer.parameters})
    why = next(one.reason for one in reversed(answer.changes) if one.state == "rolled_back")
    session.out.answer(answer, lambda: session.out.say(f"{why} It goes on with {holds}."))


def _change_values(session: Session, run: str, values: list[str], *, wait: bool) -> None:
    asked = session.client.tune(run, arguments.params(values, flag=""))
    seq = asked.changes[-1].seq
    answer = _until_made(session, asked, seq) if wait else asked
    made = _change(answer, seq)
    session.out.answer(answer, lambda: session.out.say(_sentence(made)))
    if made.state in ("failed", "withdrawn"):
        raise typer.Exit(1)


def _until_made(session: Session, asked: "Tuning", seq: int) -> "Tuning":
    """Follow the change until it is settled; a queued run's is, for all that can be done now."""
    began, hinted = time.monotonic(), False
    while (change := _change(asked, seq)).state == "waiting":
        if session.client.show(asked.run).state == "queued":
            break
        if not hinted and time.monotonic() - began > HINT_AFTER_S:
            hinted = True
            session.out.aside(f"tesra: waiting: {change.reason} Ctrl-C leaves it waiting.")
        time.sleep(LOOK_EVERY_S)
        asked = session.client.tuning(asked.run)
    return asked


def _change(tuning: "Tuning", seq: int) -> "TuneChange":
    return next(change for change in tuning.changes if change.seq == seq)


def _sentence(change: "TuneChange") -> str:
    values = _values(change.values)
    if change.state == "applied":
        return f"{values}: {change.reason}"
    return f"{values}: {change.state.replace('_', ' ')}. {change.reason or ''}".rstrip()


def _show(session: Session, tuning: "Tuning") -> None:
    out = session.out
    out.table(
        ["Parameter", "Now", "Start", "May be", "Made by"],
        [
            [one.name, str(one.value), str(one.start), _may_be(one), ", ".join(one.where) or "-"]
            for one in tuning.parameters
        ],
        empty="This run has declared no parameter (--param).",
    )
    for change in tuning.changes:
        state = change.state.replace("_", " ")
        out.say(
            f"  {words.moment(change.at)}  {change.seq}  {_values(change.values)}"
            f" (was {_values(change.before)})  {state}: {change.reason or ''}".rstrip(": ")
        )


def _may_be(parameter: "TunableParameter") -> str:
    if parameter.choices is not None:
        return ", ".join(map(str, parameter.choices))
    if parameter.low is None and parameter.high is None:
        return {"int": "a whole number", "float": "a number", "bool": "true, false"}.get(
            parameter.kind, "a text"
        )
    ends = ("" if end is None else f"{end:g}" for end in (parameter.low, parameter.high))
    return "..".join(ends)


def _values(values: "dict[str, str | int | float | bool]") -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
