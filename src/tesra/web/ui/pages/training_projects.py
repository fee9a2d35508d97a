"""Projects: what was imported, its versions, what the code says, and the ways to import more."""

from fastapi import Response

from tesra.kit.errors import TesraError
from tesra.kit.ids import SnapshotId
from tesra.training import proposals
from tesra.web.idempotency import CallKey
from tesra.web.pages import PageAsk, page_of
from tesra.web.problems import status_of
from tesra.web.routes import drive, uploads
from tesra.web.ui.forms import Posted
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member, Visit
from tesra.wire.drive import GitImport
from tesra.wire.uploads import ProjectFromDrive

MAX_TYPED = 2048
MOST_RUNS = 5

router = PageRouter()


@router.get("/training/projects")
async def projects(visit: Member, ask: PageAsk) -> Response:
    """All of them, the newest first."""
    async with visit.services.database.begin() as tx:
        found = await visit.services.drive.projects(
            tx, visit.member.user_id, cursor=ask.after, limit=ask.limit + 1
        )
    page = page_of(found, ask.limit)
    return visit.page(
        "training/projects.html",
        projects=page.items,
        first=ask.after is None,
        next_url=f"/training/projects?cursor={page.next}" if page.next else None,
    )


@router.get("/training/projects/{name_or_id}")
async def project(name_or_id: str, visit: Member, ask: PageAsk, entry: str = "") -> Response:
    """One project: the doctor's findings lead on to the form."""
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        found = await services.drive.project(tx, owner, name_or_id)
        versions = await services.drive.versions(
            tx, owner, found.id, before=ask.number_after or None, limit=ask.limit + 1
        )
    page = page_of(versions, ask.limit, id_of=lambda version: version.number)
    report = await services.training.doctor.report(
        SnapshotId(found.snapshot), owner=owner, entry=proposals.started_file(entry[:1024] or None)
    )
    here = f"/training/projects/{found.id}"
    return visit.page(
        "training/project.html",
        project=found,
        report=report,
        versions=page.items,
        first=ask.after is None,
        first_url=here,
        next_url=f"{here}?cursor={page.next}" if page.next else None,
    )


@router.post("/training/projects/{name_or_id}/remove")
async def remove(name_or_id: str, visit: Member, _form: Posted) -> Response:
    """Its runs' records stay; refused, with the run's name, while one is active."""
    async with visit.services.database.begin() as tx:
        gone = await visit.services.projects.remove(tx, visit.writer.user_id, name_or_id)
    return visit.redirect(
        "/training/projects", flash=visit.say("%(name)s is removed.", name=gone.name)
    )


@router.get("/training/import")
async def import_page(visit: Member, project: str = "", url: str = "") -> Response:
    """From this device, from git, from the drive."""
    typed = {"project": project[:128], "url": url[:MAX_TYPED]}
    return _import(visit, typed)


@router.post("/training/import/git")
async def import_git(visit: Member, form: Posted) -> Response:
    """A job of the server's; its page says how it goes."""
    try:
        wanted = GitImport(url=form["url"][:MAX_TYPED], name=form["project"][:128] or None)
        key = CallKey.of(form["once"], "POST /training/import/git")
        job = await drive.import_git(wanted, visit.services, visit.writer, key)
    except TesraError as error:
        return _import(visit, dict(form.items()), error=error, place="git")
    return visit.redirect(f"/training/imports/{job.id}")


@router.get("/training/imports/{job}")
async def import_job(job: str, visit: Member) -> Response:
    """How an import from git stands; leads on when it is done."""
    found = await drive.import_job(job, visit.services, visit.member)
    if found.project is not None and found.state == "done":
        return visit.redirect(f"/training/projects/{found.project.id}")
    return visit.page("training/import_job.html", job=found)


@router.post("/training/import/drive")
async def import_drive(visit: Member, form: Posted) -> Response:
    """A folder, or an archive, that is in the drive already: no content moves."""
    try:
        wanted = ProjectFromDrive(
            path="/" + form["path"].removeprefix("xingpan:").lstrip("/")[:8000],
            name=form["project"][:128] or None,
        )
        key = CallKey.of(form["once"], "POST /training/import/drive")
        made = await uploads.project_from_drive(wanted, visit.services, visit.writer, key)
    except TesraError as error:
        return _import(visit, dict(form.items()), error=error, place="drive")
    return visit.redirect(f"/training/projects/{made.id}", flash=visit.say("Imported."))


def _import(
    visit: Visit, typed: dict[str, str], *, error: TesraError | None = None, place: str = ""
) -> Response:
    return visit.page(
        "training/import.html",
        status=status_of(error) if error else 200,
        typed=typed,
        place=place,
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
    )
