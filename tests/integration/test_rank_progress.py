"""Real ranks in a real sandbox that stand still, or work in silence, as their node sees them."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from factories.tuned_gang import BARE, TunedGang
from tesra.node.environments import Environment, EnvironmentBuilder
from tesra.node.processes import descendants
from tesra.node.progress import RankWatch
from tesra.node.stalls import judge
from tesra.wire.stalls import Stalled

AFTER_S = 1.5

MEET = """
import os, signal, socket, time
rank = int(os.environ["RANK"])
if rank == 0:
    listener = socket.create_server(("127.0.0.1", int(os.environ["MASTER_PORT"])))
    link = listener.accept()[0]
else:
    while True:
        try:
            link = socket.create_connection(("127.0.0.1", int(os.environ["MASTER_PORT"])))
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
print("met", flush=True)
"""
SLEEP = """
time.sleep(3600 if rank == 1 else 0)
link.recv(1)
"""
STOPPED = """
if rank == 1:
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        print("on", flush=True)
        time.sleep(0.05)
link.recv(1)
"""
BUSY = """
while rank == 0 and not os.path.exists("finish"):
    pass
while rank == 1:
    link.recv(1)
"""


@pytest.fixture(scope="module")
async def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environment")
    (folder / "project").mkdir()
    builder = EnvironmentBuilder(folder / "cache", gpu=False)
    return await builder.ensure(BARE, [], folder / "project", print)


class Watched:
    """A gang, and what its node sees of it."""

    def __init__(self, gang: TunedGang) -> None:
        self.gang = gang
        self.watch = RankWatch(gang.gang, gang.folders, "host", every_s=0.25)
        self.watch.begin()

    def stall(self) -> Stalled | None:
        return judge([self.watch.report], after_s=AFTER_S)

    def named(self) -> list[int] | None:
        stall = self.stall()
        return [known.rank for known in stall.ranks] if stall is not None else None

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.05)


Start = Callable[[str], Awaitable[Watched]]


@pytest.fixture
async def start(environment: Environment, tmp_path: Path) -> AsyncIterator[Start]:
    found: list[Watched] = []

    async def begin(script: str) -> Watched:
        gang = await TunedGang.start(
            MEET + script, folder=tmp_path, environment=environment, ranks=2, params={}
        )
        found.append(Watched(gang))
        await found[-1].until(lambda: "met" in gang.log(0) and "met" in gang.log(1))
        return found[-1]

    yield begin
    for one in found:
        one.watch.close()
        await one.gang.end()


async def test_rank_that_sleeps_while_the_other_waits_for_it_is_named(start: Start) -> None:
    node = await start(SLEEP)
    await node.until(lambda: node.stall() is not None)
    assert node.named() == [1]


async def test_rank_that_was_stopped_is_named_until_it_goes_on(start: Start) -> None:
    node = await start(STOPPED)
    await node.until(lambda: node.stall() is not None)
    assert node.named() == [1]
    for process in descendants(node.gang.gang.pid):
        process.send_signal(signal.SIGCONT)
    await node.until(lambda: node.stall() is None)


async def test_gang_that_computes_in_silence_is_never_named(start: Start) -> None:
    node = await start(BUSY)
    seen = []

    def waited() -> bool:
        seen.append(node.named())
        zero, one = node.watch.report
        return min(one.idle_s, zero.silent_s) > 2 * AFTER_S

    await node.until(waited)
    (node.gang.folders.work / "finish").touch()
    await node.until(lambda: bool(node.gang.gang.exits))
    assert {*seen, node.named()} == {None}
