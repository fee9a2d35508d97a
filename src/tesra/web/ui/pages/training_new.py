"""The form of a run: filled from the code, quoted while it is typed, started once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Response

from tesra.db.engine import Tx
from tesra.doctor.report import Report
from tesra.kit.errors import TesraError
from tesra.kit.ids import RunId, SnapshotId
from tesra.kit.money import AmountInvalid, format_cny
from tesra.training import data, device_choice, entries, proposals
from tesra.training.engines.catalog import EngineUnknown
from tesra.web.idempotency import CallKey, once
from tesra.web.problems import status_of
from tesra.web.routes import billing, compute
from tesra.web.ui.forms import Posted
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.run_form import (
    TEMPLATE,
    RequestReader,
    Typed,
    parameter_row,
    proposed,
    repeated,
    typed_of,
)
from tesra.web.ui.visit import Member, Visit
from tesra.wire.billing import PayRequest
from tesra.wire.drive import Project
from tesra.wire.training import Run, RunRequest

MOST_VERSIONS = 50
PART = "x-part"  # a script asks for the part alone
_FIELDS: tuple[tuple[type[TesraError], str], ...] = (
    (entries.EntryMissing, "entry"),
    (proposals.EntryUnknown, "entry"),
    (entries.OutputPathInvalid, "output"),
    (EngineUnknown, "engine"),
    (device_choice.DevicesInvalid, "devices"),
    (AmountInvalid, "max_cost_cny"),
    (data.DataPathInvalid, "data"),
    (data.DataMissing, "data"),
    (data.PrivateData, "data"),
    (data.DataNamesClash, "data"),
)

router = PageRouter()


@dataclass(frozen=True, slots=True)
class Shown:
    """The form as it is shown: what stands in it, what the code says, what is wrong."""

    project: Project
    report: Report
    typed: Typed
    errors: Mapping[str, str] = field(default_factory=dict)
    error: TesraError | None = None


@router.get("/training/new")
async def form_page(visit: Member, project: str = "", run: str = "") -> Response:
    """Filled with what the doctor proposes, or with what an earlier run had."""
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        earlier = await services.training.run(tx, owner, RunId(run)) if run else None
        named = project or (earlier.project if earlier else "")
        if not named:
            own = await services.drive.projects(tx, owner, limit=2)
            if len(own) != 1:
                return visit.redirect("/training/projects" if own else "/training/import")
            named = own[0].id
        found = await services.drive.project(tx, owner, named)
    entry = proposals.started_file(earlier.entry) if earlier else None
    report = await _report(visit, found.snapshot, entry)
    backends = services.training.engines.backends_of(report.engine.name)
    typed = (
        repeated(found.id, earlier) if earlier else proposed(found.id, report, backends=backends)
    )
    return await _form(visit, Shown(found, report, typed))


@router.post("/training/new")
async def start(visit: Member, form: Posted) -> Response:
    """Queue the run, once for each form however often it is sent."""
    typed = typed_of(form)
    services, owner = visit.services, visit.writer.user_id
    async with services.database.begin() as tx:
        project = await services.drive.project(tx, owner, typed["project"])
    report = await _report(visit, typed["snapshot"] or project.snapshot, None)
    known = [one.entry for one in report.entry.candidates]
    reader = RequestReader(typed, visit.language, entries=known)
    request = reader.read(smoke=form["act"] == "smoke")
    if request is None:
        return await _form(visit, Shown(project, report, typed, reader.errors), status=422)
    try:
        run = await _submit(visit, request, form["once"])
    except TesraError as error:
        place = next((name for kind, name in _FIELDS if isinstance(error, kind)), None)
        if place is None:
            shown = Shown(project, report, typed, error=error)
        else:
            shown = Shown(project, report, typed, {place: _words(visit, error)})
        return await _form(visit, shown, status=status_of(error))
    return visit.redirect(f"/training/runs/{run.id}")


@router.post("/training/new/quote")
async def quote(visit: Member, form: Posted) -> Response:
    """What such a run would cost and when it could start."""
    reader = RequestReader(typed_of(form), visit.language)
    wanted = reader.quoted(form["proposed_launch"])
    if wanted is None:
        return visit.page("training/quote.html", quote=None, error=None, limit_cny=None)
    services, owner = visit.services, visit.member.user_id
    try:
        async with services.database.begin() as tx:
            found = await services.quotes.quote(tx, owner, wanted)
            credit = (await services.billing.credits(tx, {owner}))[owner]
    except TesraError as error:
        return visit.page(
            "training/quote.html", quote=None, error=_words(visit, error), limit_cny=None
        )
    room = format_cny(credit.room_micros)
    return visit.page("training/quote.html", quote=found, error=None, limit_cny=room)


@router.get("/training/new/unpaid")
async def unpaid(visit: Member) -> Response:
    """The bill that has to be paid before a run, if there is one."""
    async with visit.services.database.begin() as tx:
        return visit.page("training/unpaid.html", **await _unpaid(visit, tx))


@router.post("/training/new/pay")
async def pay(visit: Member, form: Posted) -> Response:
    """Pay in place: vouchers first, then the wallet; what was typed on the page stays."""
    key = CallKey.of(form["once"], f"POST /api/v1/bills/{form['bill']}/pay")
    body = PayRequest(voucher=form["voucher"][:64] or None)
    error: TesraError | None = None
    try:
        await billing.pay(form["bill"], body, visit.writer, visit.services, key)
    except TesraError as refused:
        error = refused
    if PART not in visit.request.headers and error is None:
        return visit.redirect(visit.here, flash=visit.say("The bill is paid."))
    async with visit.services.database.begin() as tx:
        left = await _unpaid(visit, tx)
    left["pay_error"] = _words(visit, error) if error else None
    left["paid"] = error is None
    return visit.page("training/unpaid.html", status=status_of(error) if error else 200, **left)


async def _submit(visit: Visit, request: RunRequest, key: str) -> Run:
    services, owner = visit.services, visit.member.user_id
    prepared = await services.training.check(owner, request)
    call = CallKey.of(key, "POST /training/new") if key else None
    return await once(
        services,
        visit.member,
        call,
        request,
        lambda tx: services.training.submit(tx, owner, prepared),
    )


async def _report(visit: Visit, snapshot: str, entry: str | None) -> Report:
    return await visit.services.training.doctor.report(
        SnapshotId(snapshot), owner=visit.member.user_id, entry=entry
    )


async def _form(visit: Visit, shown: Shown, *, status: int = 200) -> Response:
    services = visit.services
    engines = (await compute.engines(services, visit.member)).items
    devices = (await compute.devices(services, visit.member)).items
    async with services.database.begin() as tx:
        bill = await _unpaid(visit, tx)
        versions = await services.drive.versions(
            tx, visit.member.user_id, shown.project.id, limit=MOST_VERSIONS
        )
    error = shown.error
    return visit.page(
        TEMPLATE,
        status=status,
        project=shown.project,
        report=shown.report,
        typed=shown.typed,
        errors=shown.errors,
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
        engines=engines,
        chosen_engine=_chosen(visit, shown.typed["engine"]),
        devices=devices,
        versions=versions,
        suggested=_suggested(shown.report),
        **bill,
    )


def _chosen(visit: Visit, engine: str) -> tuple[str, str]:
    """The engine's name and version; what no engine here is shown as it was typed."""
    try:
        spec = visit.services.training.engines.resolve(engine)
    except EngineUnknown:
        return engine, ""
    return spec.name, spec.version


def _suggested(report: Report) -> list[dict[str, Any]]:
    """The script's own options as rows that can be added."""
    return [
        {**parameter_row(one.name, one.default), "kind": one.type, "help": one.help}
        for one in report.parameters
        if not one.positional
    ]


async def _unpaid(visit: Visit, tx: Tx) -> dict[str, Any]:
    owner = visit.member.user_id
    bill = await visit.services.billing.unpaid_bill(tx, owner)
    wallet = await visit.services.billing.wallet(tx, owner)
    return {
        "bill": bill,
        "at_hand_micros": wallet.vouchers_micros + max(0, wallet.balance_micros),
        "pay_error": None,
        "paid": False,
    }


def _words(visit: Visit, error: TesraError) -> str:
    way_out = visit.way_out(error).text
    return f"{visit.words(error)} {way_out}" if way_out else visit.words(error)
