"""``tesra metrics`` and ``tesra tensorboard`` against a real server, in processes of their own."""

import asyncio
import csv
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import uvicorn

from factories.identity import register
from factories.network import NetworkDouble, network_on
from tesra.db.engine import Database
from tesra.kit.ids import UserId
from tesra.web.api import create_api
from tesra.wire.site import Assignment, Ended

pytestmark = pytest.mark.postgres

START = "from tesra.cli.main import build_cli; build_cli()()"
TIMEOUT_S = 60


@dataclass
class Terminal:
    """The command line of one user; nothing is a terminal there."""

    url: str
    token: str
    folder: Path

    async def start(self, *words: str, **environ: str) -> asyncio.subprocess.Process:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TESRA_")}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", START, *words),
            env=kept
            | {"TESRA_URL": self.url, "TESRA_TOKEN": self.token, "TESRA_HOME": str(self.folder)}
            | environ,
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def said(self, *words: str, code: int = 0, **environ: str) -> str:
        """What a command printed; of a refused one, its line on stderr."""
        process = await self.start(*words, **environ)
        out, error = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        assert process.returncode == code, f"{words}\n{out.decode()}\n{error.decode()}"
        assert b"Traceback" not in error
        return (error if code else out).decode()


@dataclass
class Run:
    """A run on two devices, and the node's end of its spool."""

    network: NetworkDouble
    terminal: Terminal
    id: str
    assignment: Assignment
    sent: int = 0

    async def log(self, *lines: dict[str, Any]) -> None:
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        self.sent = await self.network.site.points(self.assignment, data, offset=self.sent)

    async def end(self) -> None:
        await self.network.site.say(self.assignment, Ended(outcome="succeeded", exit_code=0))


def line(step: int, rank: int = 0, **values: Any) -> dict[str, Any]:
    return {"k": "m", "r": rank, "o": "log", "t": 1.7e9 + step, "s": step, "v": values}


@asynccontextmanager
async def serving(network: NetworkDouble) -> AsyncIterator[str]:
    """The API over real HTTP, in this loop."""
    config = uvicorn.Config(
        create_api(network.services), port=0, log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    tasks = [
        asyncio.create_task(server.serve()),
        asyncio.create_task(network.services.listener.run()),
    ]
    async with asyncio.timeout(TIMEOUT_S):
        while not server.started:
            await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    network.services.listener.end()
    server.should_exit = True
    await tasks[0]
    tasks[1].cancel()
    with suppress(asyncio.CancelledError):
        await tasks[1]


@pytest_asyncio.fixture(scope="module")
async def network(cluster: Any) -> AsyncIterator[NetworkDouble]:
    async with network_on(Database(cluster.create(), pool_size=4)) as network:
        await network.site.enrol(64)
        yield network


@pytest_asyncio.fixture(scope="module")
async def terminal(
    network: NetworkDouble, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Terminal]:
    async with serving(network) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            session = await register(client)
        await network.project(UserId(session["user"]["id"]))
        terminal = Terminal(url, session["token"], tmp_path_factory.mktemp("terminal"))
        terminal.owner = UserId(session["user"]["id"])  # type: ignore[attr-defined]
        yield terminal


@pytest_asyncio.fixture
async def run(network: NetworkDouble, terminal: Terminal) -> AsyncIterator[Run]:
    owner = terminal.owner  # type: ignore[attr-defined]
    made = await network.submit(owner, devices=2)
    await network.dispatch()
    (assignment,) = [one for one in await network.site.assignments() if one.run == made.id]
    run = Run(network, terminal, made.id, assignment)
    yield run
    await run.end()
    bill = (await network.run(owner, made.id)).bill
    if bill is not None:
        await network.pay(owner, bill)


async def test_the_metrics_of_a_run_are_shown_as_table_charts_and_json(run: Run) -> None:
    said = run.terminal.said
    nothing = await said("metrics", run.id)
    assert "TensorBoard event files" in nothing
    assert "tesra.log" in nothing
    await run.log(*(line(step, loss=1 / (step + 1), acc=step) for step in range(100)))
    await run.log(line(3, rank=1, loss=7), line(100, loss="nan"))
    table = await said("metrics", run.id, COLUMNS="60")
    assert "█" in table
    assert "loss over step, 1 not finite" in table
    assert "\x1b" not in table
    names = json.loads(await said("metrics", run.id, "--json"))["names"]
    assert [(one["name"], one["points"], one["ranks"]) for one in names] == [
        ("acc", 100, [0]),
        ("loss", 102, [0, 1]),
    ]
    chart = await said("metrics", run.id, "loss", "acc", "--x", "time", COLUMNS="20")
    assert "acc over seconds" in chart
    history = json.loads(await said("metrics", run.id, "loss", "--rank", "1", "--json"))
    assert history["series"][0]["values"] == [7]
    record = json.loads(await said("show", run.id, "--json"))
    assert record["metrics"] == {"loss": "nan", "acc": 99}


async def test_what_cannot_be_is_refused_with_a_way_out(run: Run) -> None:
    said = run.terminal.said
    await run.log(line(0, val_loss=1))
    assert "Did you mean 'val_loss'" in await said("metrics", run.id, "val_los", code=1)
    assert "ranks 0 to 1" in await said("metrics", run.id, "val_loss", "--rank", "9", code=1)
    assert ".csv" in await said("metrics", run.id, "--export", "x.xlsx", code=1)
    assert "no folder" in await said("metrics", run.id, "--export", "nowhere/x.csv", code=1)
    assert "val_loss" in await said("metrics", run.id, "nope", "--export", "x.csv", code=1)
    assert "apart" in await said("metrics", run.id, "--devices", "--follow", code=1)
    assert list(run.terminal.folder.iterdir()) == []


async def test_all_points_are_exported_in_full(run: Run) -> None:
    for start in range(0, 3000, 500):
        values = ({"loss": step if step % 1000 else "nan"} for step in range(start, start + 500))
        await run.log(*(line(start + at, **one) for at, one in enumerate(values)))
    target = run.terminal.folder / "points.csv"
    await run.terminal.said("metrics", run.id, "--export", str(target))
    rows = list(csv.DictReader(target.open(encoding="utf-8")))
    assert [int(row["step"]) for row in rows] == list(range(3000))
    assert (rows[1000]["value"], rows[1001]["value"]) == ("nan", "1001.0")
    parquet = pytest.importorskip("pyarrow.parquet")
    target.unlink()
    told = await run.terminal.said("metrics", run.id, "--export", "points.parquet", "--json")
    assert json.loads(told)["points"] == 3000
    table = parquet.read_table(run.terminal.folder / "points.parquet")
    assert table["step"].to_pylist() == list(range(3000))
    assert str(table["value"][1000]) == "nan"
    (run.terminal.folder / "points.parquet").unlink()


async def test_a_run_is_followed_until_it_ends(run: Run) -> None:
    process = await run.terminal.start("metrics", run.id, "loss", "--follow")
    assert process.stdout is not None
    for step in range(3):
        await run.log(line(step, loss=step + 0.5))
        told = await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S)
        assert told.decode().split() == ["step", str(step), "loss", f"{step}.5"]
    await run.end()
    rest, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert process.returncode == 0
    assert "loss over step" in rest.decode()


async def test_the_use_of_devices_is_drawn(run: Run) -> None:
    assert "No samples" in await run.terminal.said("metrics", run.id, "--devices")
    sample = {"use": 0.5, "memory_bytes": 2**30, "power_w": 99.0}
    devices = [device.device for device in run.assignment.devices]
    await run.log(
        *(
            {"k": "d", "d": device, "t": 1.7e9 + at * 5, "v": sample}
            for at in range(10)
            for device in devices
        )
    )
    drawn = await run.terminal.said("metrics", run.id, "--devices")
    names = [f"device {device.index}" for device in run.assignment.devices]
    for title in ("use, % over seconds", "power, W", "memory, GiB", *names):
        assert title in drawn


async def test_a_tensorboard_shows_a_run_live_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    await run.log(*(line(step, loss=step) for step in range(3)), line(0, rank=1, loss=9))
    process = await run.terminal.start("tensorboard", run.id, "--json", TMPDIR=str(tmp_path))
    assert process.stdout is not None
    try:
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S))
        assert len(list(tmp_path.iterdir())) == 1
        async with httpx.AsyncClient(base_url=told["url"]) as browser:
            steps = {f"digits-{run.id[-8:]}": [0, 1, 2], f"digits-{run.id[-8:]}/rank 1": [0]}
            await _until_shown(browser, steps)
            await run.log(line(3, loss=3))
            await _until_shown(browser, {f"digits-{run.id[-8:]}": [0, 1, 2, 3]})
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), TIMEOUT_S)
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(told["url"])


async def _until_shown(browser: httpx.AsyncClient, steps: dict[str, list[int]]) -> None:
    """Until TensorBoard shows the loss of these runs at these steps."""
    async with asyncio.timeout(TIMEOUT_S):
        for name, wanted in steps.items():
            while True:
                query = {"run": name, "tag": "loss"}
                answer = await browser.get("/data/plugin/scalars/scalars", params=query)
                if answer.is_success and [point[1] for point in answer.json()] == wanted:
                    break
                await asyncio.sleep(0.1)


async def test_a_port_in_use_is_refused(run: Run) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        told = await run.terminal.said("tensorboard", run.id, "--port", port, code=1)
    assert port in told
