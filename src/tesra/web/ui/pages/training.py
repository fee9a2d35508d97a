"""The training records: every run of a member's, live, with filters, tags and notes."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import Response

from tesra.db.engine import Tx
from tesra.kit.ids import RunId
from tesra.training.model import RunFilter
from tesra.web.pages import PageAsk, page_of
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member, Visit
from tesra.wire.common import Page
from tesra.wire.training import Run

MAX_TYPED = 128
STATES: Mapping[str, tuple[str, ...]] = {
    "live": ("queued", "placing", "preparing", "running"),
    "queued": ("queued",),
    "running": ("placing", "preparing", "running"),
    "succeeded": ("succeeded",),
    "failed": ("failed",),
    "stopped": ("stopped",),
}

router = PageRouter()


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters as they stand in the address."""

    state: str
    project: str
    tag: str
    q: str

    @classmethod
    def of(cls, visit: Visit) -> "Wanted":
        asked = visit.request.query_params
        state = asked.get("state", "")
        typed = {name: asked.get(name, "").strip()[:MAX_TYPED] for name in ("project", "tag", "q")}
        return cls(state if state in STATES else "", **typed)

    @property
    def filters(self) -> RunFilter:
        return RunFilter(
            states=STATES.get(self.state, ()),
            project=self.project or None,
            trials=False,
            tag=self.tag or None,
            text=self.q or None,
        )

    def address(self, **more: str | None) -> str:
        """The list with these filters."""
        said = {"state": self.state, "project": self.project, "tag": self.tag, "q": self.q, **more}
        query = urlencode({name: value for name, value in said.items() if value})
        return "/training" + (f"?{query}" if query else "")

    @property
    def any(self) -> bool:
        return self.address() != "/training"


@router.get("/training")
async def records(visit: Member, ask: PageAsk, part: str = "") -> Response:
    """The list, or with ``part=list`` what of it changes."""
    wanted = Wanted.of(visit)
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        found = await services.training.runs(
            tx, owner, wanted.filters, cursor=ask.after, limit=ask.limit + 1
        )
        page: Page[Run] = page_of(found, ask.limit)
        costs = await _costs(visit, tx, page.items)
        runs = await services.training.with_main_metric(tx, page.items)
        tags = await services.training.tags(tx, owner)
        projects = await services.drive.projects(tx, owner, limit=ask.limit)
    return visit.page(
        "training/records_list.html" if part == "list" else "training/records.html",
        runs=runs,
        costs=costs,
        tags=tags,
        projects=projects,
        wanted=wanted,
        first=ask.after is None,
        next_url=wanted.address(cursor=page.next) if page.next else None,
    )


@router.get("/training/rows/{run}")
async def row(run: str, visit: Member) -> Response:
    """One run as the list shows it."""
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        found = await services.training.run(tx, owner, RunId(run))
        costs = await _costs(visit, tx, [found])
        [shown] = await services.training.with_main_metric(tx, [found])
    return visit.page("training/records_row.html", run=shown, costs=costs)


async def _costs(visit: Visit, tx: Tx, runs: list[Run]) -> dict[str, str]:
    """What each of those that run has cost so far."""
    costs: dict[str, str] = {}
    for run in runs:
        forecast = await visit.services.forecasts.of(tx, RunId(run.id)) if _lives(run) else None
        if forecast is not None:
            costs[run.id] = forecast.cost_so_far
    return costs


def _lives(run: Run) -> bool:
    return run.bill is None and run.started_at is not None
