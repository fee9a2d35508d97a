"""What Tesra understands of a project's code, before anything runs: doctor."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tesra.cli import arguments, proposal
from tesra.cli.commands.projects import bring
from tesra.cli.context import Session, connected
from tesra.cli.smoke import watch_smoke
from tesra.cli.watching import record

if TYPE_CHECKING:
    from tesra.doctor.report import Report

PANEL = "Projects"


def register(app: typer.Typer) -> None:
    app.command(
        "doctor", rich_help_panel=PANEL, epilog="Example: tesra doctor examples/pytorch-digits"
    )(doctor)


@connected
def doctor(
    session: Session,
    project: Annotated[
        str,
        typer.Argument(
            metavar="DIR|PROJECT", help="A folder, archive or git repository; or a stored project."
        ),
    ],
    *,
    entry: Annotated[
        str | None,
        typer.Option("--entry", help="What is to be started; default: what looks most like it."),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="Then import it and run its first 20 seconds on a CPU slot, free."
        ),
    ] = False,
) -> None:
    """Read the code and propose how to run it: engine, entry, launch, output, packages, warnings.

    Nothing is executed, and a folder is not sent anywhere, but with --smoke.
    """
    report = look(session, project, entry)
    command = proposal.command(report, project)

    def draw() -> None:
        session.out.facts(proposal.facts(report))
        session.out.say(f"\nProposed:\n  {command}")

    told: dict[str, Any] = {**report.as_dict(), "command": report.command(project)}
    if not smoke:
        session.out.answer(told, draw)
        return
    if not session.out.as_json:
        draw()
    missing = [one.package for one in report.requirements.missing]
    wishes = {"entry": arguments.entry(entry) if entry else None, "packages": missing}
    ended = watch_smoke(session, _stored(session, project), **wishes)
    if session.out.as_json:
        session.out.json({**told, "smoke": record(ended)})


def _stored(session: Session, project: str) -> str:
    return bring(session, project, None).project.id if arguments.is_source(project) else project


def look(session: Session, project: str, entry: str | None) -> "Report":
    """The doctor's report on a place, or on a stored project."""
    if not arguments.is_source(project):
        return session.client.doctor(project, entry=entry).report
    from tesra.sdk import examining  # brings the doctor

    return examining.examine_source(project, entry=entry)
