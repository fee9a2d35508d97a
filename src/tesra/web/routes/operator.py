"""What operators read of the whole network, over HTTP; what they change has routes of its own."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from tesra.billing.books import TopUpMade, VoucherMade
from tesra.compute.network_map import MappedDevice, MappedNode
from tesra.db import job_board
from tesra.kit.ids import UserId
from tesra.kit.money import format_cny, format_micros
from tesra.training.board import NodeUse
from tesra.web import operating
from tesra.web.auth import Operator
from tesra.web.context import ServicesDep
from tesra.web.pages import MAX_DIGITS, PageAsk, page_of
from tesra.wire import operator as wire
from tesra.wire.common import Page

router = APIRouter(prefix="/api/v1/operator", tags=["operator"])

UserName = Annotated[str, Path(max_length=64)]
JobNumber = Annotated[int, Path(ge=1, lt=10**MAX_DIGITS)]


@router.get("/network")
async def network(_: Operator, services: ServicesDep) -> wire.Network:
    """Sites, nodes, devices, and the network's sums."""
    found = await operating.machines(services)
    sites = [
        wire.NetworkSite(
            id=site.id,
            name=site.name,
            reachable=site.reachable,
            last_seen=site.last_seen,
            nodes=[_node(node, found.use_of(node.id)) for node in site.nodes],
        )
        for site in found.sites
    ]
    return wire.Network(sites=sites, totals=_totals(await operating.totals(services), found))


@router.get("/users/{user}")
async def user(user: UserName, _: Operator, services: ServicesDep) -> wire.UserStand:
    """What somebody owes and may come to owe."""
    async with services.database.begin() as tx:
        known = await services.identity.user_by_name(tx, user)
    stand = await operating.stand_of(services, known.id)
    return wire.UserStand(
        id=known.id,
        name=known.name,
        role=known.role.value,
        created_at=known.created_at,
        unpaid_cny=format_cny(stand.credit.unpaid_micros),
        limit_cny=format_cny(stand.credit.limit_micros),
        wallet_cny=format_cny(stand.credit.wallet_micros),
        vouchers_cny=format_cny(stand.credit.vouchers_micros),
        second_factor=stand.factor.on,
    )


@router.get("/vouchers")
async def vouchers(
    _: Operator, services: ServicesDep, ask: PageAsk
) -> Page[wire.IssuedVoucherState]:
    """Vouchers that were issued, newest first; their codes are not kept."""
    found, names = await operating.vouchers(services, ask.after, ask.limit + 1)
    return page_of([_voucher(one, names) for one in found], ask.limit)


@router.get("/topups")
async def topups(_: Operator, services: ServicesDep, ask: PageAsk) -> Page[wire.TopUpEntry]:
    """Money received from users, newest first."""
    found, names = await operating.topups(services, ask.after, ask.limit + 1)
    return page_of([_topup(one, names) for one in found], ask.limit)


@router.post("/topups/take-back", status_code=204)
async def take_back(
    body: wire.TakeBackRequest, caller: Operator, services: ServicesDep
) -> Response:
    """Takes a whole top-up back, while all of it is in the wallet still."""
    async with services.database.begin() as tx:
        await services.billing.reverse(tx, caller.user_id, body.id, reason=body.reason)
    return Response(status_code=204)


@router.get("/queue")
async def queue(_: Operator, services: ServicesDep) -> wire.QueueBoard:
    """Who waits, in which order, and for what."""
    found, names = await operating.board(services)
    return wire.QueueBoard(
        total=found.total,
        live=found.live,
        runs=[
            wire.WaitingEntry(
                run=run.run,
                owner=names.get(run.owner, run.owner),
                devices=run.devices,
                device_class=run.device_class,
                priority=run.priority,
                waited_s=run.waited_s,
                place=run.place,
            )
            for run in found.runs
        ],
        turns=[
            wire.TurnEntry(
                user=names.get(turn.owner, turn.owner),
                waiting=turn.waiting,
                used_th=format_micros(round(turn.used_micro_th)),
                held_t=format_micros(turn.held_micro_t),
            )
            for turn in found.turns
        ],
    )


@router.get("/jobs")
async def jobs(_: Operator, services: ServicesDep, ask: PageAsk) -> wire.Jobs:
    """Background jobs by state, and those that failed, newest first."""
    async with services.database.begin() as tx:
        counts = await job_board.counts(tx)
        found = await job_board.failed(tx, before=ask.number_after or None, limit=ask.limit + 1)
    entries = [
        wire.FailedJobEntry(
            id=one.id, task=one.task, attempts=one.attempts, words=one.words, at=one.at
        )
        for one in found
    ]
    return wire.Jobs(
        waiting=counts.waiting,
        running=counts.running,
        failed=counts.failed,
        succeeded=counts.succeeded,
        failed_jobs=page_of(entries, ask.limit),
    )


@router.post("/jobs/{job}/retry", status_code=204)
async def retry(job: JobNumber, _: Operator, services: ServicesDep) -> Response:
    """Does a failed job again at once."""
    async with services.database.begin() as tx:
        await job_board.retry(tx, job)
    return Response(status_code=204)


@router.post("/collections/survey")
async def survey(_: Operator, services: ServicesDep) -> wire.GarbageSurvey:
    """What a collection of garbage would find in all drives (200 at most); changes nothing."""
    found = await services.collector.survey()
    return wire.GarbageSurvey(
        drives=found.drives,
        looked_at=found.looked_at,
        locked=found.locked,
        packs=found.packs,
        size_bytes=found.size_bytes,
        versions=found.versions,
    )


def _node(node: MappedNode, use: NodeUse) -> wire.NetworkNode:
    return wire.NetworkNode(
        id=node.id,
        name=node.name,
        address=node.address,
        cores=node.cores,
        memory_bytes=node.memory_bytes,
        online=node.online,
        engines=node.engines,
        runs=node.runs,
        last_day=wire.NodeLately(
            device_hours=round(use.device_ms / 3_600_000, 4),
            th=format_micros(use.micro_th),
            attempts=use.attempts,
        ),
        devices=[_device(device) for device in node.devices],
    )


def _device(device: MappedDevice) -> wire.NetworkDevice:
    return wire.NetworkDevice(
        id=device.id,
        index=device.index,
        name=device.name,
        device_class=device.device_class,
        rating_t=format_micros(device.rating_micro_t),
        measured_t=format_micros(device.measured_micro_t),
        state=device.state,
    )


def _totals(found: operating.Totals, machines: operating.Machines) -> wire.NetworkTotals:
    money, devices = found.money, machines.devices
    return wire.NetworkTotals(
        users=found.users,
        runs_waiting=found.board.total,
        runs_live=found.board.live,
        devices=devices.total,
        devices_free=devices.free,
        devices_busy=devices.busy,
        rating_t=format_micros(devices.rating_micro_t),
        unpaid_bills=money.unpaid_bills,
        unpaid_cny=format_cny(money.unpaid_micros),
        wallets_cny=format_cny(money.wallets_micros),
        vouchers_cny=format_cny(money.vouchers_micros),
        issued_cny=format_cny(money.issued_micros),
        day_cny=format_cny(money.day_micros),
        day_th=format_micros(money.day_micro_th),
        month_cny=format_cny(money.month_micros),
        month_th=format_micros(money.month_micro_th),
    )


def _voucher(one: VoucherMade, names: dict[UserId, str]) -> wire.IssuedVoucherState:
    def name(user: UserId | None) -> str | None:
        return None if user is None else names.get(user, user)

    return wire.IssuedVoucherState(
        id=one.id,
        amount_cny=format_cny(one.amount_micros),
        for_user=name(one.for_user),
        issued_by=name(one.issued_by),
        issued_at=one.issued_at,
        expires_at=one.expires_at,
        redeemed_by=name(one.redeemed_by),
        redeemed_at=one.redeemed_at,
        state=one.state,
    )


def _topup(one: TopUpMade, names: dict[UserId, str]) -> wire.TopUpEntry:
    return wire.TopUpEntry(
        id=one.key,
        user=names.get(one.user_id, one.user_id),
        amount_cny=format_cny(one.amount_micros),
        at=one.at,
        by=names.get(one.by, one.by),
        reversed=one.reversed,
    )
