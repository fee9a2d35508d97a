"""A gang of real ranks in a real sandbox, tuned as a site does it, without controller and server."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tesra.node.devices import cpu_slots
from tesra.node.environments import Environment
from tesra.node.ports import Ports
from tesra.node.ranks import Gang, Place
from tesra.node.runtime import runtime_folder
from tesra.node.sandbox import Sandbox
from tesra.node.tuning.decide import orders_now
from tesra.node.tuning.desk import TuningDesk
from tesra.node.workspace import AttemptFolders, hand_over, prepare
from tesra.wire.site import EngineSpec, RunSpec
from tesra.wire.tuning import TuneOrder

BARE = EngineSpec(name="bare", version="1", requirements=[], python=">=3.11", announce="torch")


class TunedGang:
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

    @classmethod
    async def start(
        cls,
        script: str,
        *,
        folder: Path,
        environment: Environment,
        ranks: int,
        params: dict[str, Any],
        engine: EngineSpec = BARE,
    ) -> "TunedGang":
        """Run the script on each rank."""
        folders = prepare(folder / "attempts", "att_1", "out")
        (folders.work / "train.py").write_text(script)
        hand_over(folders)
        spec = RunSpec(
            owner="user",
            project="prj",
            snapshot="snp",
            engine=engine,
            packages=[],
            entry="train.py",
            args=[],
            output="out",
            launch="gang",
            params=params,
            env={},
            secrets={},
        )
        master, *others = Ports().take(1 + ranks)
        peers = tuple(f"127.0.0.1:{port}" for port in others)
        gang = Gang(
            "run_1",
            spec,
            place=Place(0, ranks, 0, 1, "127.0.0.1", master, peers),
            devices=cpu_slots(ranks),
            environment=environment,
            folders=folders,
            sandbox=Sandbox(),
            runtime=runtime_folder(folder / "runtime"),
        )
        await gang.start()
        return cls(gang, folders)

    async def end(self) -> None:
        self.desk.close()
        await self.gang.stop(0)

    def log(self, rank: int = 0) -> str:
        return self.folders.log_of(rank).read_text()

    async def finish(self) -> None:
        """Wait for all ranks to succeed."""
        exits = await asyncio.wait_for(self.gang.wait(), 60)
        logs = "".join(map(self.log, self.gang.ranks))
        assert [ended.exit_code for ended in exits] == [0] * len(self.gang.ranks), (exits, logs)

    def steps(self, seq: int) -> list[int | None]:
        return [rank.step_of(seq) for rank in self.desk.report.ranks]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 60) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.desk.order(orders_now(self.wanted, [self.desk.report]))
                await asyncio.sleep(0.02)
