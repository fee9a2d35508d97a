"""A source becomes the newest snapshot of a project: collected, uploaded, named."""

from dataclasses import dataclass

from tesra.sdk.collect import collected
from tesra.sdk.connection import PREFIX, Connection
from tesra.sdk.transfer import HttpDoor, upload_tree
from tesra.storage.progress import Progress, Report, silent
from tesra.wire.drive import Project, ProjectCommit
from tesra.wire.identity import User


@dataclass(frozen=True, slots=True)
class Imported:
    """The project, and what it took to bring it."""

    project: Project
    warnings: list[str]
    moved_bytes: int


def import_project(
    connection: Connection, source: str, name: str | None = None, *, report: Report = silent
) -> Imported:
    """Store a folder, a zip or tar file, or a git repository; the default name is the source's."""
    moved_bytes = 0

    def count(progress: Progress) -> None:
        nonlocal moved_bytes
        moved_bytes = progress.moved_bytes
        report(progress)

    connection.get("/me", User)  # refused or away: told before anything is cloned or unpacked
    with collected(source) as found:
        door = HttpDoor(connection.http, f"{PREFIX}/drive")
        files = [path.absolute() for path in found.files]
        warnings = list(found.warnings)
        snapshot = upload_tree(door, found.root.absolute(), files, count, warnings.append)
        commit = ProjectCommit(name=name or found.name, snapshot=snapshot)
        project = connection.post("/projects", Project, commit, once=True)
        return Imported(project, warnings, moved_bytes)
