"""Changes of parameters among real ranks in a real sandbox: the same step on each."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tesra.node.devices import cpu_slots
from tesra.node.environments import Environment, EnvironmentBuilder
from tesra.node.ranks import Gang, Place
from tesra.node.runtime import runtime_folder
from tesra.node.sandbox import Sandbox
from tesra.node.tuning.decide import orders_now
from tesra.node.tuning.desk import TuningDesk
from tesra.node.workspace import AttemptFolders, hand_over, prepare
from tesra.wire.site import EngineSpec, RunSpec
from tesra.wire.tuning import TuneOrder

ENGINE = EngineSpec(name="bare", version="1", requirements=[], python=">=3.11", announce="torch")
PEERS = tuple(f"127.0.0.1:{29511 + rank}" for rank in range(2))

# Each rank at its own speed, five times the other's, and they swap it at the first change.
# Tells the step at which it first sees each value, and ends at 0.
STEPS = """
import json, os, time, tesra
rank = int(os.environ["RANK"])
seen, done = [], 0
while tesra.params.lr > 0:
    if not seen or seen[-1][1] != tesra.params.lr:
        seen.append([done + 1, tesra.params.lr])
    time.sleep([0.002, 0.01][rank if tesra.params.lr == 0.1 else 1 - rank])
    done = tesra.step()
    if tesra.params.lr != (seen[-1][1]) and tesra.params["momentum"] != tesra.params.lr * 10:
        raise SystemExit("half a change is seen")
print(json.dumps(seen + [[done + 1, tesra.params.lr]]))
"""


class Site:
    """A node with its ranks, and a controller that hears of them late."""

    def __init__(self, gang: Gang, folders: AttemptFolders) -> None:
        self.gang = gang
        self.folders = folders
        self.wanted: list[TuneOrder] = []
        self.desk = TuningDesk(
            folders,
            gang.ranks,
            gone=lambda: {ended.rank for ended in gang.exits},
            changed=lambda: None,
        )

    async def tune(self, seq: int, **values: float) -> list[int | None]:
        """Want a change, and wait until all ranks have made it; the steps they say."""
        self.wanted = [TuneOrder(seq=seq, values=values)]
        await self.until(lambda: all(step is not None for step in self.steps(seq)))
        return self.steps(seq)

    def steps(self, seq: int) -> list[int | None]:
        return [rank.step_of(seq) for rank in self.desk.report.ranks]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 30) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.desk.order(orders_now(self.wanted, [self.desk.report]))
                await asyncio.sleep(0.02)


Start = Callable[..., Awaitable[Site]]


@pytest.fixture(scope="module")
async def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environment")
    (folder / "project").mkdir()
    builder = EnvironmentBuilder(folder / "cache", gpu=False)
    return await builder.ensure(ENGINE, [], folder / "project", print)


@pytest.fixture
async def start(environment: Environment, tmp_path: Path) -> AsyncIterator[Start]:
    sites: list[Site] = []

    async def begin(script: str, *, ranks: int = 2, **params: Any) -> Site:
        folders = prepare(tmp_path / "attempts", "att_1", "out")
        (folders.work / "train.py").write_text(script)
        hand_over(folders)
        spec = RunSpec(
            owner="user",
            project="prj",
            snapshot="snp",
            engine=ENGINE,
            packages=[],
            entry="train.py",
            args=[],
            output="out",
            launch="gang",
            params=params,
            env={},
            secrets={},
        )
        gang = Gang(
            "run_1",
            spec,
            place=Place(0, ranks, 0, 1, "127.0.0.1", 29510, PEERS),
            devices=cpu_slots(ranks),
            environment=environment,
            folders=folders,
            sandbox=Sandbox(),
            runtime=runtime_folder(tmp_path / "runtime"),
        )
        await gang.start()
        sites.append(Site(gang, folders))
        return sites[-1]

    yield begin
    for site in sites:
        site.desk.close()
        await site.gang.stop(0)


async def test_ranks_of_different_speed_take_a_change_at_the_same_step(start: Start) -> None:
    site = await start(STEPS, lr=0.1, momentum=0.9)
    first = await site.tune(1, lr=0.01, momentum=0.1)
    second = await site.tune(2, lr=0.0, momentum=0.0)
    assert len(set(first)) == len(set(second)) == 1
    exits = await site.gang.wait()
    assert [ended.exit_code for ended in exits] == [0, 0]
    for rank in site.gang.ranks:
        seen = json.loads(site.folders.log_of(rank).read_text())
        assert seen == [[1, 0.1], [first[0], 0.01], [second[0], 0.0]]


# A script that does all it can to the platform's files.
VANDAL = """
import os, time, tesra
orders, status = os.environ["TESRA_TUNING_FILE"], os.environ["TESRA_TUNING_STATUS"]
params = os.environ["TESRA_PARAMS_FILE"]
tesra.step()
harmed = []
for path in (orders, params):
    for harm in (
        lambda: open(path, "w").write("[]"),
        lambda: os.unlink(path),
        lambda: os.rename(path, path + ".old"),
        lambda: os.symlink("/etc/passwd", os.path.dirname(path) + "/link"),
    ):
        try:
            harm()
            harmed.append(path)
        except OSError:
            pass
for harm in (lambda: os.unlink(status), lambda: os.rename(status, status + "2")):
    try:
        harm()
        harmed.append(status)
    except OSError:
        pass
print(harmed, flush=True)
for garbage in (b"x" * 100_000, b"", b"[" * 40_000, b"00000000 {}\\n", os.urandom(5000)):
    open(status, "wb").write(garbage)
    tesra.step()
    time.sleep(0.1)
while tesra.params.lr > 0:
    time.sleep(0.01)
    tesra.step()
"""


async def test_a_script_that_writes_to_our_files_hurts_nothing(start: Start) -> None:
    site = await start(VANDAL, ranks=1, lr=0.1)
    await site.until(lambda: site.folders.log_of(0).stat().st_size > 0)
    assert site.folders.log_of(0).read_text() == "[]\n"
    assert json.loads(site.folders.params.read_text()) == {"lr": 0.1}
    (step,) = await site.tune(1, lr=0.0)
    assert step is not None
    assert [ended.exit_code for ended in await site.gang.wait()] == [0]
