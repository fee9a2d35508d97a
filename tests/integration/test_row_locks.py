"""Who holds a run or an attempt for a while does not hold up, or lock up with, those beside it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text

from factories.network import NetworkDouble, network_on
from tesra.app.bootstrap import LOCAL_SITE
from tesra.kit.ids import AttemptId, RunId
from tesra.training.attempts import LEASE_S
from tesra.training.repository import RunRepository
from tesra.wire.site import Assignment

pytestmark = pytest.mark.postgres

PROMPT_S = 5.0


@pytest_asyncio.fixture
async def network(fresh_database) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


async def placed(network: NetworkDouble) -> Assignment:
    ann = await network.user()
    await network.project(ann)
    await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    return assignment


async def renew(network: NetworkDouble, assignment: Assignment) -> set[str]:
    async with asyncio.timeout(PROMPT_S), network.services.database.begin() as tx:
        return await network.services.attempts.renew(
            tx, LOCAL_SITE, [(AttemptId(assignment.attempt), assignment.fence)]
        )


async def test_a_renewal_does_not_wait_for_facts_that_are_being_applied(
    network: NetworkDouble,
) -> None:
    assignment = await placed(network)
    async with network.services.database.begin() as facts:
        await facts.execute(text("UPDATE attempts SET usage_ms = usage_ms"))
        await facts.execute(text("UPDATE sites SET assignments_version = assignments_version"))
        assert await renew(network, assignment) == {assignment.attempt}
        await network.site.assignments()


async def test_a_renewal_waits_where_a_lease_is_no_longer_nearly_whole(
    network: NetworkDouble,
) -> None:
    assignment = await placed(network)
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE attempts SET lease_until = now() + interval '60 s'"))
    async with network.services.database.begin() as facts:
        await facts.execute(text("UPDATE attempts SET usage_ms = usage_ms"))
        waiting = asyncio.create_task(renew(network, assignment))
        await _until_somebody_waits(network)
        assert not waiting.done()
    assert await waiting == {assignment.attempt}
    async with network.services.database.begin() as tx:
        left = "SELECT extract(epoch FROM lease_until - now()) FROM attempts"
        assert (await tx.execute(text(left))).scalar_one() > LEASE_S - PROMPT_S


async def test_a_log_is_stored_while_its_run_is_being_changed(network: NetworkDouble) -> None:
    assignment = await placed(network)
    async with network.services.database.begin() as changing:
        assert await RunRepository().lock_run(changing, RunId(assignment.run))
        async with asyncio.timeout(PROMPT_S):
            end = await network.site.log(assignment, b"hello\n")
    assert end == 6


async def _until_somebody_waits(network: NetworkDouble) -> None:
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with asyncio.timeout(PROMPT_S):
        while True:
            async with network.services.database.begin() as tx:
                if (await tx.execute(text(waits))).scalar_one():
                    return
