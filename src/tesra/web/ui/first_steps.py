"""The first steps of a newcomer: each ticks itself from what exists."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tesra.billing.model import BillSummary
from tesra.identity.model import Step
from tesra.kit.ids import RunId
from tesra.web.ui.visit import Visit
from tesra.wire.drive import Project
from tesra.wire.training import Run


@dataclass(frozen=True, slots=True)
class FirstStep:
    """``href`` is where it is done; None while something has to come before."""

    done: bool
    label: str
    href: str | None


def first_steps(
    visit: Visit,
    projects: Sequence[Project],
    runs: Sequence[Run],
    bills: Sequence[BillSummary],
    *,
    seen: Collection[Step],
    factor: bool,
) -> list[FirstStep]:
    """In the order in which one takes them."""
    ran = next((run for run in runs if not run.smoke), None)
    unpaid = next((bill for bill in bills if bill.paid_at is None), None)
    made = next((run for run in runs if run.output), None)
    page = f"/training/runs/{ran.id}" if ran else None
    form = f"/training/new?project={projects[0].id}" if projects else None
    return [
        FirstStep(bool(projects), visit.say("Import a project"), "/training/import"),
        FirstStep(ran is not None, visit.say("Train it"), form),
        FirstStep(Step.METRICS in seen, visit.say("Look at its metrics"), page),
        FirstStep(
            any(bill.paid_at for bill in bills),
            visit.say("Pay the bill"),
            f"/bills/{unpaid.id}" if unpaid else None,
        ),
        FirstStep(
            Step.DOWNLOAD in seen,
            visit.say("Download the model"),
            f"/training/runs/{made.id}" if made else None,
        ),
        FirstStep(factor, visit.say("Turn on the second factor"), "/account/second-factor"),
    ]


async def note_look(visit: Visit, run: RunId) -> None:
    """A run's page was seen: if there were metrics on it, that step is taken."""
    services, who = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        if await services.metrics.cursor(tx, run):
            await services.account.note_step(tx, who, Step.METRICS)
