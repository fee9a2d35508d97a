"""Caps and limits of unpaid use, on a real database; the site is played by the test."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import pytest_asyncio
from sqlalchemy import text

from factories.network import NetworkDouble, network_on
from tesra.kit.errors import Invalid
from tesra.kit.ids import RunId, UserId
from tesra.training.checkpoints.service import CheckpointService
from tesra.training.model import RunState
from tesra.wire.site import Assignment, Ended, RunLimit, Started, Usage
from tesra.wire.training import Run

pytestmark = pytest.mark.postgres

TEN_T = 10_000_000  # two devices of 10 T at CNY 0.5 a T.H: CNY 10 an hour


@pytest_asyncio.fixture
async def network(fresh_database) -> AsyncIterator[NetworkDouble]:
    async with network_on(
        await fresh_database(), exposure_limit_micros=2_000_000, welcome_voucher_micros=0
    ) as network:
        await network.site.enrol(4, rating_micro_t=TEN_T)
        async with network.services.database.begin() as tx:
            await tx.execute(text("UPDATE devices SET rating_micro_t = :r"), {"r": TEN_T})
        yield network


async def started(network: NetworkDouble, owner: UserId, **request: object) -> Assignment:
    run = await network.submit(owner, **{"devices": 2, **request})
    assert await network.dispatch() == 1
    (assignment,) = [a for a in await network.site.assignments() if a.run == run.id]
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE attempts SET created_at = created_at - interval '9 hours'"))
    await network.site.say(assignment, Started(at=datetime.now(UTC)))
    return assignment


async def use(network: NetworkDouble, assignment: Assignment, number: int, seconds: float) -> None:
    now = datetime.now(UTC)
    await network.site.say(
        assignment, Usage(number=number, started_at=now, duration_ms=round(seconds * 1000))
    )


async def state_of(network: NetworkDouble, owner: UserId, run: str) -> Run:
    return await network.run(owner, run)


async def allow(network: NetworkDouble, user: UserId, micros: int | None) -> None:
    async with network.services.database.begin() as tx:
        await network.services.billing.set_exposure_limit(tx, user, micros)


async def listed(network: NetworkDouble, run: str) -> Assignment:
    return next(a for a in await network.site.assignments() if a.run == run)


async def test_at_its_cost_cap_a_run_is_asked_to_end_and_billed_the_cap(
    network: NetworkDouble,
) -> None:
    ann = await network.user()
    await allow(network, ann, 100_000_000)
    await network.project(ann)
    assignment = await started(network, ann, max_cost_cny="2.00")  # 720 s
    assert assignment.limit is not None
    assert (assignment.limit.stop_after_ms, assignment.limit.grace_s) == (660_000, 60)
    await use(network, assignment, 1, 570)
    going = await state_of(network, ann, assignment.run)
    assert (going.state, going.phase, going.max_cost_cny) == ("running", None, "2.00")
    await use(network, assignment, 2, 20)
    await use(network, assignment, 3, 60)
    going = await state_of(network, ann, assignment.run)
    assert (going.state, going.phase) == ("running", "stopping")
    told = await listed(network, assignment.run)
    assert (told.stop, told.grace_s) == ("cap", 60)
    await use(network, assignment, 4, 600)  # a node that does not listen
    await network.site.say(assignment, Ended(outcome="stopped", reason="Stopped at its cap."))
    done = await state_of(network, ann, assignment.run)
    assert (done.state, done.amount_cny) == ("stopped", "2.00")
    assert done.reason == (f"Stopped at your cap of CNY 2.00; `tesra resume {done.id}` goes on.")
    async with network.services.database.begin() as tx:
        events = await network.services.training.events(tx, ann, RunId(done.id))
    assert [event.text for event in events if event.kind == "cap"] == [
        "80 % of your cap of CNY 2.00 is used."
    ]


async def test_a_cap_reached_while_the_server_was_away_is_kept_too(network: NetworkDouble) -> None:
    ann = await network.user()
    await allow(network, ann, 100_000_000)
    await network.project(ann)
    assignment = await started(network, ann, max_time_s=600)
    assert assignment.limit is not None
    assert assignment.limit.stop_after_ms == 540_000
    for number in range(1, 4):
        await use(network, assignment, number, 300)
    await network.site.say(assignment, Ended(outcome="stopped", reason="Stopped at its cap."))
    done = await state_of(network, ann, assignment.run)
    assert done.state == RunState.STOPPED
    assert "your cap of 10 min" in str(done.reason)
    assert done.amount_cny == "1.67"  # 600 s at CNY 10 an hour, up to the fen
    assert done.th == f"{Decimal(20) / 6:.6f}"


async def test_a_bill_is_clamped_to_its_cap_and_says_so(network: NetworkDouble) -> None:
    ann = await network.user()
    await allow(network, ann, 100_000_000)
    await network.project(ann)
    assignment = await started(network, ann)
    await use(network, assignment, 1, 600)
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE runs SET max_cost_micros = 1000000"))
    await network.site.say(assignment, Ended(outcome="succeeded", exit_code=0))
    done = await state_of(network, ann, assignment.run)
    async with network.services.database.begin() as tx:
        bill = await network.services.billing.bill(tx, ann, done.bill)  # type: ignore[arg-type]
    assert (bill.amount_cny, bill.note) == ("1.00", "Capped at CNY 1.00: the use was CNY 1.67.")


async def test_a_run_waits_while_its_owner_may_owe_no_more(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    first = await started(network, ann)  # its reserve: ten minutes, CNY 1.67 of 2
    second = await network.submit(ann, devices=2)
    assert await network.dispatch() == 0
    waits = await state_of(network, ann, second.id)
    assert (waits.state, waits.phase) == ("queued", "limit reached")
    for words in ("CNY 2.00", "CNY 1.67", "1.6667", "top up"):
        assert words in str(waits.reason)
    assert waits.queue is not None
    assert (waits.queue.waits_for, waits.queue.place) == ("limit", None)
    async with network.services.database.begin() as tx:
        await network.services.billing.topup(tx, ann, ann, amount_micros=2_000_000)
    assert await network.dispatch() == 1
    assert (await state_of(network, ann, second.id)).phase is None
    assert first.limit is None


async def test_a_run_that_would_pass_the_limit_is_stopped_like_at_a_cap(
    network: NetworkDouble,
) -> None:
    ann = await network.user()
    await network.project(ann)
    assignment = await started(network, ann)
    await use(network, assignment, 1, 500)  # CNY 1.39, and 70 s more come to 1.58
    assert (await state_of(network, ann, assignment.run)).phase is None
    await use(network, assignment, 2, 160)
    told = await listed(network, assignment.run)
    assert (told.stop, told.grace_s) == ("cap", 60)
    await network.site.say(assignment, Ended(outcome="stopped", exit_code=143))
    done = await state_of(network, ann, assignment.run)
    assert done.state == "stopped"
    assert "your limit of CNY 2.00" in str(done.reason)
    assert Decimal(str(done.amount_cny)) < 2


async def test_an_operators_limit_for_one_user_holds(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    await allow(network, ann, 0)
    run = await network.submit(ann, devices=2)
    assert await network.dispatch() == 0
    assert "CNY 0.00" in str((await state_of(network, ann, run.id)).reason)
    await allow(network, ann, None)
    assert await network.dispatch() == 1


@pytest.mark.parametrize("amount", ["0", "-1", "2.001", "much", "", "NaN"])
async def test_a_cap_that_is_no_amount_is_refused(network: NetworkDouble, amount: str) -> None:
    ann = await network.user()
    await network.project(ann)
    with pytest.raises(Invalid):
        await network.submit(ann, max_cost_cny=amount)


async def test_trials_without_a_bill_yet_count_towards_the_limit(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    assignment = await started(network, ann)
    await network.site.say(assignment, Ended(outcome="succeeded", exit_code=0))
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE runs SET bill_id = NULL, billed_micros = 1900000"))
    run = await network.submit(ann, devices=2)
    assert await network.dispatch() == 0
    assert "CNY 1.90" in str((await state_of(network, ann, run.id)).reason)


async def test_a_cap_counts_what_is_paid_for_of_earlier_attempts(network: NetworkDouble) -> None:
    ann = await network.user()
    await allow(network, ann, 100_000_000)
    await network.project(ann)
    first = await started(network, ann, max_time_s=600)
    await use(network, first, 1, 300)
    async with network.services.database.begin() as tx:
        await CheckpointService(network.services.domains).restart(
            tx, RunId(first.run), checkpoint=None, why="Begun anew."
        )
    await network.site.say(first, Ended(outcome="stopped", exit_code=143))
    assert await network.dispatch() == 1
    again = await listed(network, first.run)
    assert (again.number, again.limit) == (2, RunLimit(stop_after_ms=240_000, grace_s=60))
    await network.site.say(again, Ended(outcome="lost"))
    assert await network.dispatch() == 1
    assert (await listed(network, first.run)).limit == again.limit  # what is lost is not paid for
