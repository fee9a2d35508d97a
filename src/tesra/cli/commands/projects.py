"""What you bring: import, projects."""

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from tesra.cli import proposal, words
from tesra.cli.context import Session, connected

if TYPE_CHECKING:
    from tesra.sdk.importing import Imported

PANEL = "Projects"
_WARNINGS = 8


def register(app: typer.Typer) -> None:
    app.command(
        "import",
        rich_help_panel=PANEL,
        epilog="Example: tesra import examples/pytorch-digits --name digits",
    )(import_project)
    app.command("projects", rich_help_panel=PANEL, epilog="Example: tesra projects")(projects)
    group = typer.Typer(
        no_args_is_help=True,
        help="Look after a project: remove it.",
        epilog="Example: tesra project rm digits",
    )
    group.callback()(_project)
    group.command("rm", epilog="Example: tesra project rm digits --yes")(remove)
    app.add_typer(group, name="project", rich_help_panel=PANEL)


def _project() -> None:
    """Look after a project: remove it."""


@connected
def import_project(
    session: Session,
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR|ZIP|GIT-URL", help="A folder, a zip or tar file, or a git repository."
        ),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", help="The project's name; default: the source's."),
    ] = None,
) -> None:
    """Store a project. A folder's .gitignore is honoured; only what is new is uploaded."""
    imported = bring(session, source, name)
    project = imported.project
    data = {
        **project.model_dump(mode="json"),
        "project": project.id,
        "warnings": imported.warnings,
        "moved_bytes": imported.moved_bytes,
    }
    session.out.answer(data, lambda: session.out.say(_told(imported)))
    if not session.out.as_json and project.file_count:
        _say_how_to_run(session, project.name)


@connected
def projects(
    session: Session,
    *,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
) -> None:
    """List your projects."""
    found = session.client.projects(limit)
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Name", "Files", "Size", "Snapshots", "Updated", "Id"],
            [
                [
                    project.name,
                    str(project.file_count),
                    words.size(project.size_bytes),
                    str(project.snapshots),
                    words.moment(project.updated_at),
                    project.id,
                ]
                for project in found
            ],
            right=["Files", "Size", "Snapshots"],
            empty="No projects yet. `tesra import DIR` brings one.",
        ),
    )


@connected
def remove(
    session: Session,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project's name or id.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="I am sure; do not ask.")] = False,
) -> None:
    """Remove a project. Its runs' records and bills stay, with the code that they ran.

    Versions that no run used become garbage: their room comes back after a grace of a day. Refused
    while one of its runs or sweeps is active.
    """
    name = session.client.project(project).name
    session.confirm(f"Remove the project {name} with all its versions?", yes=yes)
    removed = session.client.remove_project(project)
    kept = f"; {words.plural(removed.kept, 'version')} stay with the runs" if removed.kept else ""
    session.out.answer(removed, lambda: session.out.say(f"{removed.name} is removed{kept}."))


def bring(session: Session, source: str, name: str | None) -> "Imported":
    """Import with a progress bar; warnings are told as they are known."""
    from tesra.sdk.importing import import_project as store  # brings the chunking and the ciphers

    with session.out.transfer("Importing") as report:
        imported = store(session.client.connection, source, name, report=report)
    for warning in imported.warnings:
        session.out.aside(f"tesra: warning: {warning}")
    return imported


def _say_how_to_run(session: Session, project: str) -> None:
    """What the doctor proposes, and what it warns of; on the side, since the import is done."""
    report = session.client.doctor(project).report
    if report.entry.entry is not None:
        session.out.aside(f"tesra: to run it: {proposal.command(report, project)}")
    for warning in report.warnings[:_WARNINGS]:
        session.out.aside(f"tesra: warning: {warning.place} {warning.text}")
    if len(report.warnings) > _WARNINGS:
        session.out.aside(f"tesra: `tesra doctor {shlex.quote(project)}` says more")


def _told(imported: "Imported") -> str:
    project = imported.project
    extent = f"{words.plural(project.file_count, 'file')}, {words.size(project.size_bytes)}"
    if project.unchanged:
        return f"{project.name} is unchanged: nothing uploaded ({extent})."
    return f"Imported {project.name}: {extent}, {words.size(imported.moved_bytes)} uploaded."
