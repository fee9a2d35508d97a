"""Leases: one live holder, tokens that only grow, the database's time."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from factories.clusters import FreshDatabase
from tesra.db.engine import Tx
from tesra.db.leases import claim, holds, leases, release, renew

pytestmark = pytest.mark.postgres


async def expire(tx: Tx, name: str) -> None:
    past = func.clock_timestamp() - timedelta(seconds=1)
    await tx.execute(update(leases).where(leases.c.name == name).values(expires_at=past))


async def test_a_free_lease_is_claimed_with_a_first_token(tx: Tx) -> None:
    assert await claim(tx, "dispatcher", "a", 30) == 1
    assert await holds(tx, "dispatcher", 1)


async def test_a_live_lease_is_refused_to_everybody(tx: Tx) -> None:
    await claim(tx, "dispatcher", "a", 30)
    assert await claim(tx, "dispatcher", "b", 30) is None
    assert await claim(tx, "dispatcher", "a", 30) is None


async def test_an_expired_lease_goes_to_the_next_with_a_greater_token(tx: Tx) -> None:
    await claim(tx, "dispatcher", "a", 30)
    await expire(tx, "dispatcher")
    assert not await holds(tx, "dispatcher", 1)
    assert await claim(tx, "dispatcher", "b", 30) == 2
    assert not await holds(tx, "dispatcher", 1)
    assert await holds(tx, "dispatcher", 2)


async def test_a_released_lease_is_free_at_once_and_its_token_does_not_come_again(tx: Tx) -> None:
    await claim(tx, "dispatcher", "a", 30)
    assert await release(tx, "dispatcher", "a", 1)
    assert not await holds(tx, "dispatcher", 1)
    assert await claim(tx, "dispatcher", "a", 30) == 2


async def test_renewing_moves_the_end(tx: Tx) -> None:
    await claim(tx, "dispatcher", "a", 30)
    assert await renew(tx, "dispatcher", "a", 1, 600)
    left = await tx.scalar(select(leases.c.expires_at - func.clock_timestamp()))
    assert timedelta(seconds=590) < left <= timedelta(seconds=600)


async def test_an_expired_lease_can_be_neither_renewed_nor_released(tx: Tx) -> None:
    await claim(tx, "dispatcher", "a", 30)
    await expire(tx, "dispatcher")
    assert not await renew(tx, "dispatcher", "a", 1, 30)
    assert not await release(tx, "dispatcher", "a", 1)


async def test_a_stale_token_or_another_holder_can_do_nothing(tx: Tx) -> None:
    await claim(tx, "dispatcher", "a", 30)
    for holder, token in (("b", 1), ("a", 2)):
        assert not await renew(tx, "dispatcher", holder, token, 30)
        assert not await release(tx, "dispatcher", holder, token)
    assert await holds(tx, "dispatcher", 1)


async def test_names_are_independent(tx: Tx) -> None:
    assert await claim(tx, "dispatcher", "a", 30) == 1
    assert await claim(tx, "repair", "b", 30) == 1


async def test_of_many_racing_claims_one_wins(fresh_database: FreshDatabase) -> None:
    database = await fresh_database()

    async def race(holder: str) -> int | None:
        async with database.begin() as tx:
            return await claim(tx, "dispatcher", holder, 30)

    tokens = await asyncio.gather(*(race(f"server-{n}") for n in range(10)))
    assert sorted(token for token in tokens if token is not None) == [1]


async def test_while_a_transaction_relies_on_the_lease_nobody_else_gets_it(
    fresh_database: FreshDatabase,
) -> None:
    database = await fresh_database()
    async with database.begin() as tx:
        await claim(tx, "dispatcher", "a", 0.2)

    async def take() -> int | None:
        async with database.begin() as tx:
            while (token := await claim(tx, "dispatcher", "b", 30)) is None:
                await asyncio.sleep(0.01)
            return token

    async with database.begin() as tx:
        assert await holds(tx, "dispatcher", 1)
        taking = asyncio.create_task(take())
        done, _ = await asyncio.wait({taking}, timeout=0.5)  # the lease's time runs out in between
        assert not done
    assert await asyncio.wait_for(taking, 10) == 2
