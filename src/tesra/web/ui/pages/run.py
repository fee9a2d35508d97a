"""A run: its state, log, metrics, tuning, files, bill; live as far as a script of the page makes it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from tesra.billing.model import Bill
from tesra.db.engine import Tx
from tesra.kit.errors import NotFound, TesraError
from tesra.kit.ids import BillId, RunId, SnapshotId
from tesra.web.context import Services
from tesra.web.idempotency import CallKey, once
from tesra.web.log_stream import TERMINAL
from tesra.web.metric_stream import MetricView, metric_points
from tesra.web.pages import decode_cursor, page_of
from tesra.web.problems import status_of
from tesra.web.ranges import attachment
from tesra.web.routes import billing
from tesra.web.ui.first_steps import note_look
from tesra.web.ui.forms import Form, Posted
from tesra.web.ui.metric_table import csv_lines
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.run_words import Step, steps_of
from tesra.web.ui.visit import Member, Visit
from tesra.wire.billing import PayRequest
from tesra.wire.checkpoints import Checkpoint, ResumeRequest
from tesra.wire.common import Page
from tesra.wire.drive import FileEntry
from tesra.wire.training import Run, RunEvent
from tesra.wire.tuning import Tuning

MOST_EVENTS = 500
FILES_A_PAGE = 200
MOST_CHECKPOINTS = 50
MOST_WAYS_BACK = 20
PLACE = "/training/runs"

router = PageRouter()


class NoLockYet(NotFound):
    """This run's environment has not been built yet."""


@dataclass(frozen=True, slots=True)
class Story:
    """What the head of the page tells of a run."""

    run: Run
    events: list[RunEvent]
    bill: Bill | None

    @property
    def ended(self) -> bool:
        return self.run.state in TERMINAL

    @property
    def steps(self) -> list[Step]:
        return steps_of(self.run, self.events)

    @property
    def ranks(self) -> int:
        return self.run.devices if self.run.launch == "gang" else 1

    @property
    def cost_cny(self) -> str | None:
        """Of its bill, or so far."""
        if self.run.amount_cny is not None:
            return self.run.amount_cny
        return self.run.forecast.cost_so_far if self.run.forecast is not None else None


async def story_of(visit: Visit, run: RunId) -> Story:
    """One of the member's runs; raises ``RunNotFound``."""
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        found = await services.training.run(tx, owner, run)
        forecast = await services.forecasts.of(tx, run)
        events = await services.training.events(tx, owner, run, limit=MOST_EVENTS)
        bill = await services.billing.bill(tx, owner, BillId(found.bill)) if found.bill else None
    if forecast is not None:
        found = found.model_copy(update={"forecast": forecast})
    return Story(found, events, bill)


@router.get(PLACE + "/{run}")
async def run_page(visit: Member, run: str) -> Response:
    answer = await _page(visit, RunId(run))
    await note_look(visit, RunId(run))
    return answer


@router.get(PLACE + "/{run}/head")
async def head(visit: Member, run: str) -> Response:
    """The head of the page as it is now; what stands beside the live figures."""
    return visit.page("run/head.html", story=await story_of(visit, RunId(run)))


@router.get(PLACE + "/{run}/tune")
async def tune(visit: Member, run: str) -> Response:
    """What can be changed, and the timeline of changes."""
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        found = await services.training.run(tx, owner, RunId(run))
        tuning = await services.tuning.show(tx, owner, RunId(run))
        back = await _ways_back(services, tx, tuning)
    ended = found.state in TERMINAL
    return visit.page("run/tune.html", run=found, tuning=tuning, back=back, ended=ended)


@router.get(PLACE + "/{run}/files")
async def files(
    visit: Member, run: str, cursor: Annotated[str | None, Query(max_length=2048)] = None
) -> Response:
    """The output as it is stored, and the checkpoints."""
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        found = await services.training.run(tx, owner, RunId(run))
        checkpoints: list[Checkpoint] = await services.checkpoints.of_run(
            tx, RunId(run), limit=MOST_CHECKPOINTS
        )
    output: Page[FileEntry] = Page(items=[], next=None)
    if found.output is not None:
        entries = await services.drive.files_page(
            owner, SnapshotId(found.output), after=decode_cursor(cursor), limit=FILES_A_PAGE + 1
        )
        output = page_of(entries, FILES_A_PAGE, id_of=lambda entry: entry.path)
    return visit.page(
        "run/files.html",
        run=found,
        output=output,
        cursor=cursor,
        checkpoints=checkpoints,
        ended=found.state in TERMINAL,
    )


@router.get(PLACE + "/{run}/lock.txt", response_class=PlainTextResponse)
async def lock(visit: Member, run: str) -> Response:
    """Exactly the packages that the run had, as a requirements file."""
    async with visit.services.database.begin() as tx:
        found = await visit.services.training.run(tx, visit.member.user_id, RunId(run))
    if not found.environment_lock:
        raise NoLockYet
    return PlainTextResponse(found.environment_lock, headers=attachment(f"{run}-lock.txt"))


@router.get(PLACE + "/{run}/metrics.csv", response_class=StreamingResponse)
async def metrics_csv(
    visit: Member,
    run: str,
    name: Annotated[list[Annotated[str, Query(max_length=512)]], Query(max_length=50)] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """All points of these metrics, or of all, as a table."""
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        await services.training.own(tx, owner, RunId(run))
        await services.metrics.check_names(tx, RunId(run), name)
    points = metric_points(services, MetricView(owner, RunId(run), names=tuple(name) or None))
    return StreamingResponse(
        csv_lines(points),
        media_type="text/csv; charset=utf-8",
        headers=attachment(f"{run}-metrics.csv"),
    )


@router.post(PLACE + "/{run}/stop")
async def stop(visit: Member, run: str, form: Posted) -> Response:  # noqa: ARG001 - proves the request
    """Ask for the end; the output so far is kept."""
    async with visit.services.database.begin() as tx:
        stopped = await visit.services.training.stop(tx, visit.writer.user_id, RunId(run))
    over = stopped.state in TERMINAL
    said = visit.say("The run has ended.") if over else visit.say("The run is being stopped.")
    return visit.redirect(f"{PLACE}/{run}", flash=said)


@router.post(PLACE + "/{run}/pay")
async def pay(visit: Member, run: str, form: Posted) -> Response:
    """The run's bill, from vouchers and wallet; pressed twice it is paid once."""
    services, caller = visit.services, visit.writer
    async with services.database.begin() as tx:
        found = await services.training.run(tx, caller.user_id, RunId(run))
    key = CallKey.of(form["once"], f"POST /api/v1/bills/{found.bill}/pay")
    try:
        await billing.pay(found.bill or "", PayRequest(), caller, services, key)
    except TesraError as error:
        return await _page(visit, RunId(run), error=error)
    return visit.redirect(f"{PLACE}/{run}", flash=visit.say("The bill is paid. Thank you."))


@router.post(PLACE + "/{run}/resume")
async def resume(visit: Member, run: str, form: Posted) -> Response:
    """A new run that goes on from a checkpoint of this one."""
    services, caller = visit.services, visit.writer
    try:
        wanted = ResumeRequest(
            checkpoint=int(form["checkpoint"]) if form["checkpoint"].isdecimal() else None,
            secrets={
                name.removeprefix("secret:"): form.raw(name)
                for name in form
                if name.startswith("secret:")
            },
        )
        resumption = await services.resuming.check(caller.user_id, RunId(run), wanted)
        begun = await once(
            services,
            caller,
            _key(form, f"resume {run}"),
            wanted,
            lambda tx: services.resuming.submit(tx, caller.user_id, resumption),
        )
    except TesraError as error:
        return await _page(visit, RunId(run), error=error)
    said = visit.say("A new run goes on from checkpoint %(number)s.", number=form["checkpoint"])
    return visit.redirect(f"{PLACE}/{begun.id}", flash=said)


async def _page(visit: Visit, run: RunId, *, error: TesraError | None = None) -> Response:
    story = await story_of(visit, run)
    async with visit.services.database.begin() as tx:
        tuning = await visit.services.tuning.show(tx, visit.member.user_id, run)
        back = await _ways_back(visit.services, tx, tuning)
    return visit.page(
        "run/page.html",
        status=status_of(error) if error else 200,
        story=story,
        run=story.run,
        tuning=tuning,
        back=back,
        ended=story.ended,
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
    )


async def _ways_back(services: Services, tx: Tx, tuning: Tuning) -> dict[int, int | None]:
    """The checkpoint that a rollback of each change would go back to, for the newest that were made."""
    made = [change for change in tuning.changes if change.state == "applied"]
    back: dict[int, int | None] = {}
    for change in made[-MOST_WAYS_BACK:]:
        before = await services.checkpoints.before(tx, RunId(tuning.run), change.at)
        back[change.seq] = before.number if before is not None else None
    return back


def _key(form: Form, call: str) -> CallKey | None:
    return CallKey.of(form["once"], call) if form["once"] else None
