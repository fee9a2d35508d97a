"""A run as a file, and a run from a file: record, rerun."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tesra.cli import arguments
from tesra.cli.context import Session, connected
from tesra.cli.finding import find_run
from tesra.cli.output import is_terminal
from tesra.cli.watching import record as run_record
from tesra.cli.watching import watch
from tesra.kit.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from tesra.wire.record import SignedRecord

PANEL = "Training"
VERIFY = "verify"


class FileThere(Conflict):
    """The file exists."""


class NoRecordFile(NotFound):
    """There is no such file."""


class NothingToVerify(Invalid):
    """Which file to verify is not said."""


def register(app: typer.Typer) -> None:
    example = "tesra record last -o digits.json, then: tesra record verify digits.json"
    app.command("record", rich_help_panel=PANEL, epilog=f"Example: {example}")(record)
    example = "tesra rerun digits.json --param epochs=20"
    app.command("rerun", rich_help_panel=PANEL, epilog=f"Example: {example}")(rerun)


@connected
def record(
    session: Session,
    which: Annotated[
        str, typer.Argument(metavar="RUN|verify", help="A run; or the word `verify` and a file.")
    ],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="With `verify`: the record.")
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it here instead of printing it.")
    ] = None,
) -> None:
    """Export the training record of a run, signed by the network; or verify one.

    It holds code and environment, engine, parameters, devices, attempts, metrics, usage and bill.
    """
    if which == VERIFY:
        _verify(session, file)
        return
    made = session.client.record(find_run(session.client, which).id)
    text = json.dumps(made.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    if output is None:
        session.out.say(text.rstrip("\n"))
        return
    if output.exists():
        raise FileThere(f"{output} exists.", way_out="Name another file, or remove it first.")
    output.write_text(text, encoding="utf-8")
    session.out.answer(
        {"path": str(output.absolute()), "sha256": made.sha256},
        lambda: session.out.say(f"The record of {made.record['run']} is in {output}."),
    )


@connected
def rerun(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="RECORD|RUN", help="A record's file, or a run.")],
    *,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="Another value; repeat it."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME", help="As in `tesra run`; no record holds them."),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option("--project", help="Where the same code is, if it is not where it was."),
    ] = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Also a record that was changed or is foreign.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print its id and return.")] = False,
) -> None:
    """Repeat a run: same code, packages, arguments, devices, and parameters as at its start.

    What was changed while it ran is in the record's timeline and is not repeated.
    """
    from tesra.sdk import records  # brings the client

    signed = _found(session, source, unverified=unverified)
    ask = (lambda name: session.ask(name, hidden=True)) if is_terminal(sys.stdin) else None
    started = records.rerun(
        session.client,
        signed,
        params=arguments.params(param or []),
        secrets=arguments.secrets(secret or [], os.environ, ask),
        project=project,
    )
    for warning in started.warnings:
        session.out.aside(f"tesra: warning: {warning}")
    if detach:
        session.out.answer(run_record(started), lambda: session.out.say(started.id))
        return
    session.out.aside(f"tesra: {started.id}, as {signed.record['run']} was")
    watch(session, started, rank=None)


def _found(session: Session, source: str, *, unverified: bool) -> "SignedRecord":
    from tesra.sdk import records  # brings the client

    path = Path(source)
    if not path.is_file():
        if path.suffix == ".json" or len(path.parts) > 1:
            raise NoRecordFile(
                f"There is no file '{source}'.",
                way_out="`tesra record RUN -o FILE` makes a record; `tesra rerun RUN` needs none.",
            )
        return session.client.record(find_run(session.client, source).id)
    signed = records.read_record(path)
    if unverified:
        session.out.aside("tesra: warning: the record was not verified")
    else:
        records.check_record(signed, session.client.keys().keys)
    return signed


def _verify(session: Session, file: Path | None) -> None:
    from tesra.sdk import records  # brings the client

    if file is None:
        raise NothingToVerify(way_out="`tesra record verify FILE`.")
    signed = records.read_record(file)
    records.check_record(signed, session.client.keys().keys)
    told: dict[str, Any] = {
        "verified": True,
        "run": signed.record["run"],
        "sha256": signed.sha256,
        "key": signed.signature.key,
    }
    session.out.answer(
        told, lambda: session.out.say(f"{file} is the record of {told['run']}, as it was signed.")
    )
