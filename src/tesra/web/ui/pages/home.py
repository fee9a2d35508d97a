"""The home page: signed out, what Tesra is; signed in, where one stands and what comes next."""

from fastapi import Response

from tesra.drive.intake import Intake
from tesra.kit.errors import TesraError
from tesra.training.model import RunFilter
from tesra.web.problems import status_of
from tesra.web.ui.bundled import bundled
from tesra.web.ui.first_steps import first_steps
from tesra.web.ui.forms import Posted
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Visit, Visitor

router = PageRouter()

RUNS_SHOWN = 6
DEMO_NAME = "pytorch-digits"


@router.get("/")
async def home(visit: Visitor, part: str = "") -> Response:
    """``part=runs``: the list of runs alone, as it is now."""
    return await (_welcome(visit) if visit.who is None else _start(visit, part=part))


@router.post("/demo")
async def import_demo(visit: Visitor, form: Posted) -> Response:  # noqa: ARG001 - proves the request
    """The demo project into the drive, then its form of training; twice is once."""
    intake = Intake(visit.services.database, visit.services.drive)
    try:
        project = await intake.folder(visit.writer.user_id, bundled("demo"), name=DEMO_NAME)
    except TesraError as error:
        return await _start(visit, error=error)
    return visit.redirect(f"/training/new?project={project.id}")


async def _welcome(visit: Visit) -> Response:
    async with visit.services.database.begin() as tx:
        price_micros = await visit.services.billing.current_price_micros(tx)
    return visit.page(
        "home/welcome.html",
        price_micros=price_micros,
        quota_bytes=visit.services.drive.quota_bytes,
        welcome_micros=visit.services.billing.welcome_micros,
    )


async def _start(visit: Visit, *, part: str = "", error: TesraError | None = None) -> Response:
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        runs = await services.training.runs(tx, owner, RunFilter(trials=False), limit=RUNS_SHOWN)
        if part == "runs":
            return visit.page("home/runs.html", runs=runs)
        projects = await services.drive.projects(tx, owner, limit=1)
        quota = await services.drive.quota(tx, owner)
        unpaid = await services.billing.unpaid_bill(tx, owner)
        bills = await services.billing.bills(tx, owner, limit=10)
        factor = await services.factors.state(tx, owner)
        seen = await services.account.steps(tx, owner)
    steps = first_steps(visit, projects, runs, bills, seen=seen, factor=factor.on)
    return visit.page(
        "home/start.html",
        status=status_of(error) if error else 200,
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
        runs=runs,
        has_projects=bool(projects),
        quota=quota,
        unpaid=unpaid,
        steps=steps,
    )
