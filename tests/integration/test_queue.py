"""The queue on a real database: priorities, fair share, and what a run that waits is told."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from sqlalchemy import text

from factories.network import NetworkDouble, network_on
from tesra.kit.errors import Conflict, NotFound
from tesra.kit.ids import RunId, UserId
from tesra.wire.site import Assignment, Ended, Started, Usage
from tesra.wire.training import Run

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def network(fresh_database) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


async def prioritise(network: NetworkDouble, owner: UserId, run: str, priority: int) -> Run:
    async with network.services.database.begin() as tx:
        return await network.services.training.prioritise(tx, owner, RunId(run), priority=priority)


async def age(network: NetworkDouble, attempt: str, seconds: float) -> None:
    async with network.services.database.begin() as tx:
        await tx.execute(
            text(
                "UPDATE attempts SET created_at = created_at - make_interval(secs => :s)"
                " WHERE id = :a"
            ),
            {"s": seconds, "a": attempt},
        )


async def listed(network: NetworkDouble) -> dict[str, Assignment]:
    return {assignment.run: assignment for assignment in await network.site.assignments()}


async def test_the_urgent_run_of_a_user_goes_first(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    runs = [await network.submit(ann, devices=2, priority=p) for p in ("low", 0, "high")]
    assert [run.priority for run in runs] == [-50, 0, 50]
    await network.dispatch()
    assert list(await listed(network)) == [runs[2].id]
    assert (await prioritise(network, ann, runs[0].id, 90)).queue.place == 1  # type: ignore[union-attr]
    with pytest.raises(Conflict) as refused:
        await prioritise(network, ann, runs[2].id, 1)
    assert "--priority" in str(refused.value.way_out)
    with pytest.raises(NotFound):
        await prioritise(network, await network.user("bob"), runs[0].id, 90)
    await network.stop(ann, runs[2].id)
    await network.site.say(
        (await listed(network))[runs[2].id], Ended(outcome="stopped", exit_code=143)
    )
    await network.dispatch()
    assert list(await listed(network)) == [runs[0].id]


async def test_who_trained_lately_waits_behind_who_did_not(network: NetworkDouble) -> None:
    heavy, light = await network.user("heavy"), await network.user("light")
    for user in (heavy, light):
        await network.project(user)
        async with network.services.database.begin() as tx:
            await network.services.billing.set_autopay(tx, user, True)
    await network.submit(heavy, devices=2)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    await age(network, assignment.attempt, 3700)
    await network.site.say(assignment, Started(at=datetime.now(UTC)))
    for number in range(1, 7):
        usage = Usage(number=number, started_at=datetime.now(UTC), duration_ms=600_000)
        await network.site.say(assignment, usage)
    first = await network.submit(heavy, devices=2)
    second = await network.submit(light, devices=2)
    assert await network.dispatch() == 0
    waits = (await network.run(heavy, first.id)).queue
    assert waits is not None
    assert (waits.place, waits.of, waits.waits_for) == (2, 2, "devices")
    assert "0 of 2 devices free" in waits.why
    assert "1 of users who have used less lately" in waits.why
    await network.site.say(assignment, Ended(outcome="succeeded", exit_code=0))
    assert await network.dispatch() == 1
    assert list(await listed(network)) == [second.id]
    async with network.services.database.begin() as tx:
        recent = await network.services.compute.shares.of(tx, {heavy, light})
    assert set(recent) == {heavy}
    assert recent[heavy].micro_th == pytest.approx(2_000_000, rel=0.01)  # 2 devices x 1 T x 1 h


async def test_past_use_decays_as_it_is_read_and_as_it_is_added_to(network: NetworkDouble) -> None:
    ann = await network.user()
    shares, database = network.services.compute.shares, network.services.database
    async with database.begin() as tx:
        await shares.add(tx, {ann: 8e6})
        await tx.execute(text("UPDATE use_shares SET at = at - interval '24 hours'"))
        assert (await shares.of(tx, {ann}))[ann].micro_th == pytest.approx(4e6, rel=1e-3)
        await shares.add(tx, {ann: 1e6})
        assert (await shares.of(tx, {ann}))[ann].micro_th == pytest.approx(5e6, rel=1e-3)
        await tx.execute(text("UPDATE use_shares SET at = at - interval '900 years'"))
        await shares.add(tx, {ann: 1e6})
        assert (await shares.of(tx, {ann}))[ann].micro_th == pytest.approx(1e6, rel=1e-3)


async def test_a_run_that_waits_says_its_place_and_what_is_missing(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    first = await network.submit(ann)
    waits = (await network.run(ann, first.id)).queue
    assert waits is not None
    assert (waits.place, waits.of) == (1, 1)
    assert "Starts in a moment" in waits.why
    await network.dispatch()
    second = await network.submit(ann, devices=2)
    third = await network.submit(ann)
    async with network.services.database.begin() as tx:
        shown = {run.id: run for run in await network.services.training.runs(tx, ann)}
    assert shown[first.id].queue is None
    assert shown[second.id].queue.why == "Needs 2: 1 of 2 devices free."  # type: ignore[union-attr]
    behind = shown[third.id].queue
    assert behind is not None
    assert (behind.place, behind.waits_for) == (2, "share")
    assert "1 of your own first" in behind.why
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE sites SET last_seen = now() - interval '50 seconds'"))
    gone = (await network.run(ann, second.id)).queue
    assert gone is not None
    assert "online" in gone.why


async def test_a_gang_whose_node_is_away_waits_with_a_reason_and_holds_nobody_up(
    network: NetworkDouble,
) -> None:
    ann, bob = await network.user("ann"), await network.user("bob")
    for user in (ann, bob):
        await network.project(user)
    gang = await network.submit(ann, devices=2)
    own, other = await network.submit(ann), await network.submit(bob)
    await network.site.enrol(1)
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE runs SET created_at = created_at - interval '1 hour'"))
    for small in (own, other):
        await network.dispatch()
        (assignment,) = (await listed(network)).values()
        assert assignment.run == small.id
        await network.site.say(assignment, Ended(outcome="succeeded", exit_code=0))
    waits = (await network.run(ann, gang.id)).queue
    assert waits is not None
    assert waits.why == (
        "Needs 2 devices at once, and there is only 1 now, busy or not: "
        "it starts when more are back."
    )
    await network.site.enrol(2)
    await network.dispatch()
    assert list(await listed(network)) == [gang.id]


async def test_devices_are_offered_with_the_nodes_they_are_on(network: NetworkDouble) -> None:
    async with network.services.database.begin() as tx:
        (offer,) = await network.services.compute.offers(tx)
    assert [(node.name, node.total, node.free) for node in offer.nodes] == [("node-1", 2, 2)]
