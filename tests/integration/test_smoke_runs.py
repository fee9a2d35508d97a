"""Smoke runs on the server: free, first in the queue, one at a time, so many a day."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from tesra.kit.ids import RunId, UserId
from tesra.training import smoke
from tesra.training.smoke import NoCpuSlot, SmokeRunning, SmokesUsedUp

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def network(fresh_database: FreshDatabase) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        yield network


@pytest_asyncio.fixture
async def ann(network: NetworkDouble) -> UserId:
    ann = await network.user("ann")
    await network.project(ann)
    return ann


async def test_a_smoke_run_costs_nothing_and_makes_no_bill(
    network: NetworkDouble, ann: UserId
) -> None:
    await network.site.enrol(2)
    run = await network.submit(ann, smoke=True, devices=2, launch="single")
    assert (run.smoke, run.devices, run.device_class) == (True, 1, "cpu")
    await network.dispatch()
    [assignment] = await network.site.assignments()
    assert assignment.spec.smoke_s == smoke.SMOKE_S
    assert (assignment.spec.launch, len(assignment.devices)) == ("gang", 1)
    await network.site.train(assignment, ms=20_000)
    ended = await network.run(ann, run.id)
    assert (ended.state, ended.bill, ended.amount_cny, ended.th) == ("succeeded", None, "0.00", "0")
    async with network.services.database.begin() as tx:
        assert await network.services.billing.bills(tx, ann) == []
        assert await network.services.billing.usage_of_run(tx, RunId(run.id)) == []
    record = (await network.services.records.record(ann, RunId(run.id))).record
    assert (record["bill"], record["usage"]) == (None, [])


async def test_a_smoke_run_goes_ahead_of_all_that_waits(
    network: NetworkDouble, ann: UserId
) -> None:
    await network.site.enrol(1)
    ben = await network.user("ben")
    await network.project(ben)
    await network.submit(ben, priority=100)
    await network.submit(ann, priority=100)
    quick = await network.submit(ann, smoke=True)
    assert await network.dispatch() == 1
    [assignment] = await network.site.assignments()
    assert assignment.run == quick.id


async def test_one_at_a_time_and_so_many_a_day(
    network: NetworkDouble, ann: UserId, monkeypatch: pytest.MonkeyPatch
) -> None:
    await network.site.enrol(1)
    monkeypatch.setattr(smoke, "A_DAY", 2)
    first = await network.submit(ann, smoke=True)
    with pytest.raises(SmokeRunning, match=first.id):
        await network.submit(ann, smoke=True)
    await network.stop(ann, first.id)
    await network.stop(ann, (await network.submit(ann, smoke=True)).id)
    with pytest.raises(SmokesUsedUp):
        await network.submit(ann, smoke=True)
    assert (await network.submit(ann)).state == "queued"  # what is paid for goes on


async def test_without_a_cpu_slot_it_is_refused_in_plain_words(
    network: NetworkDouble, ann: UserId
) -> None:
    with pytest.raises(NoCpuSlot) as refused:
        await network.submit(ann, smoke=True)
    assert refused.value.way_out is not None
