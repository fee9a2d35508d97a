"""A server that ends lets go of those who wait for news."""

import asyncio

from tesra.db.notify import Listener

LONG_S = 60.0
DEADLINE_S = 5.0


async def test_who_waits_is_woken_when_the_process_ends() -> None:
    listener = Listener("postgresql://nobody@nowhere/none")
    with listener.subscribe("run:one") as changes:
        waiting = asyncio.create_task(changes.wait(LONG_S))
        await asyncio.sleep(0)
        listener.end()
        assert await asyncio.wait_for(waiting, DEADLINE_S) == []
    assert listener.ending


async def test_nobody_waits_after_the_end() -> None:
    listener = Listener("postgresql://nobody@nowhere/none")
    listener.end()
    with listener.subscribe("run:one") as changes:
        assert await asyncio.wait_for(changes.wait(LONG_S), DEADLINE_S) == []
