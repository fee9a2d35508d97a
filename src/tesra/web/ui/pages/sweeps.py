"""Sweeps: all of them, a new one, and one with its trials, live."""

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import Response

from tesra.kit.errors import TesraError
from tesra.training.sweeps.importance import importances
from tesra.training.sweeps.model import MAX_TRIALS, SweepId
from tesra.web.idempotency import CallKey, once
from tesra.web.pages import PageAsk, page_of
from tesra.web.problems import status_of
from tesra.web.routes import compute
from tesra.web.ui.forms import Form, Posted
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.sweep_form import FIELDS, SweepReader
from tesra.web.ui.visit import Member, Visit
from tesra.wire.sweeps import Sweep, SweepMore, Trial

PLACE = "/training/sweeps"
LIVE = frozenset({"running", "stopping"})
MOST_PROJECTS = 100

router = PageRouter()


@dataclass(frozen=True, slots=True)
class Standing:
    """A sweep and its trials, the best first."""

    sweep: Sweep
    trials: list[Trial]

    @property
    def live(self) -> bool:
        return self.sweep.state in LIVE

    @property
    def drawn(self) -> dict[str, Any]:
        """What the charts are drawn from."""
        kept = {"number", "state", "params", "value", "run", "rank"}
        return {
            "space": self.sweep.space,
            "metric": self.sweep.metric,
            "mode": self.sweep.mode,
            "trials": [one.model_dump(mode="json", include=kept) for one in self.trials],
        }


@router.get(PLACE)
async def sweeps(visit: Member, ask: PageAsk) -> Response:
    """The newest first."""
    async with visit.services.database.begin() as tx:
        found = await visit.services.sweeps.sweeps(
            tx, visit.member.user_id, cursor=ask.after, limit=ask.limit + 1
        )
    page = page_of(found, ask.limit)
    return visit.page(
        "sweeps/list.html",
        sweeps=page.items,
        first=ask.after is None,
        next_url=f"{PLACE}?cursor={page.next}" if page.next else None,
    )


@router.get(PLACE + "/new")
async def new(visit: Member, project: str = "") -> Response:
    return await _form(visit, {**FIELDS, "project": project})


@router.post(PLACE + "/new")
async def begin(visit: Member, form: Posted) -> Response:
    """Begin a sweep, once for each form however often it is sent."""
    typed = {name: form[name] for name in FIELDS}
    services, caller = visit.services, visit.writer
    reader = SweepReader(typed, visit.language)
    wanted = reader.read()
    if wanted is None:
        return await _form(visit, typed, errors=reader.errors, status=422)
    try:
        checked = await services.sweeps.check(caller.user_id, wanted)
        begun = await once(
            services,
            caller,
            _key(form, "POST /training/sweeps/new"),
            wanted,
            lambda tx: services.sweeps.create(tx, caller.user_id, checked),
        )
    except TesraError as error:
        return await _form(visit, typed, error=error, status=status_of(error))
    return visit.redirect(f"{PLACE}/{begun.id}")


@router.get(PLACE + "/{sweep}")
async def sweep_page(visit: Member, sweep: str) -> Response:
    return await _page(visit, sweep)


@router.get(PLACE + "/{sweep}/standing")
async def standing(visit: Member, sweep: str) -> Response:
    """What of the page changes."""
    return visit.page("sweeps/standing.html", standing=await _standing(visit, sweep))


@router.post(PLACE + "/{sweep}/stop")
async def stop(visit: Member, sweep: str, form: Posted) -> Response:  # noqa: ARG001 - proves the request
    """All its trials are asked to end."""
    async with visit.services.database.begin() as tx:
        await visit.services.sweeps.stop(tx, visit.writer.user_id, SweepId(sweep))
    return visit.redirect(f"{PLACE}/{sweep}", flash=visit.say("The sweep is being stopped."))


@router.post(PLACE + "/{sweep}/resume")
async def resume(visit: Member, sweep: str, form: Posted) -> Response:
    """Some more trials."""
    services, caller = visit.services, visit.writer
    count = form["trials"]
    more = SweepMore(trials=int(count) if count.isdecimal() and len(count) < 9 else 0)
    try:
        await once(
            services,
            caller,
            _key(form, f"POST {PLACE}/{sweep}/resume"),
            more,
            lambda tx: services.sweeps.resume(tx, caller.user_id, SweepId(sweep), more),
        )
    except TesraError as error:
        return await _page(visit, sweep, error=error)
    return visit.redirect(f"{PLACE}/{sweep}", flash=visit.say("The sweep goes on."))


async def _page(visit: Visit, sweep: str, *, error: TesraError | None = None) -> Response:
    shown = await _standing(visit, sweep)
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        judged = await services.sweeps.judged(tx, owner, SweepId(sweep))
    shares = await asyncio.to_thread(importances, *judged)
    return visit.page(
        "sweeps/page.html",
        status=status_of(error) if error else 200,
        standing=shown,
        importances=shares,
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
    )


async def _standing(visit: Visit, sweep: str) -> Standing:
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        found = await services.sweeps.sweep(tx, owner, SweepId(sweep))
        trials = await services.sweeps.trials(tx, owner, SweepId(sweep), limit=MAX_TRIALS)
    return Standing(found, sorted(trials, key=lambda one: (one.rank or MAX_TRIALS + 1, one.number)))


async def _form(
    visit: Visit,
    typed: dict[str, str],
    *,
    errors: dict[str, str] | None = None,
    error: TesraError | None = None,
    status: int = 200,
) -> Response:
    services = visit.services
    async with services.database.begin() as tx:
        projects = await services.drive.projects(tx, visit.member.user_id, limit=MOST_PROJECTS)
    engines = (await compute.engines(services, visit.member)).items
    return visit.page(
        "sweeps/new.html",
        status=status,
        typed=typed,
        projects=projects,
        engines=engines,
        errors=errors or {},
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
    )


def _key(form: Form, call: str) -> CallKey | None:
    return CallKey.of(form["once"], call) if form["once"] else None
