"""A real server and real storage peers, each a process of its own, over one fresh database."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
from sqlalchemy import text

from tesra.app.bootstrap import make_services
from tesra.db.engine import Database
from tesra.kit.settings import Home, Settings
from tesra.web.api import create_api
from tesra.web.context import Services

DEADLINE_S = 60.0
Result = TypeVar("Result")


def wait_until(
    holds: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S, *, pause_s: float = 0.02
) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(pause_s)


@dataclass
class PeerNetwork:
    """``url`` of the server; ``home`` has the peers' folders and logs."""

    home: Home
    url: str
    services: Services
    database_url: str
    loop: asyncio.AbstractEventLoop
    peers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_peer(
        self, number: int, *, disk: str = "20GB", file_system: str = ""
    ) -> subprocess.Popen[bytes]:
        """``file_system``: its folder is one of its own, in memory, of this size."""
        folder = self.home.peer(number)
        folder.mkdir(mode=0o700, exist_ok=True)
        command = [
            *(sys.executable, "-m", "tesra.app.main", "node", "peer"),
            *("--server", self.url, "--token-file", str(self.home.keys / "peer.token")),
            *("--folder", str(folder), "--disk", disk, "--name", f"peer-{number}"),
            *("--identity", str(self.home.peer_identity(number))),
            *(["--gateway"] if number == 1 else []),
        ]
        if file_system:
            mount = f'mount -t tmpfs -o size={file_system} none "$0" && exec "$@"'
            command = ["unshare", "-rm", "sh", "-c", mount, str(folder), *command]
        with (self.home.logs / f"peer-{number}.log").open("ab") as log:
            self.peers[number] = subprocess.Popen(command, stdout=log, stderr=log)
        return self.peers[number]

    def signal(self, number: int, what: signal.Signals) -> None:
        os.kill(self.peers[number].pid, what)

    def kill(self, number: int) -> None:
        process = self.peers.pop(number)
        process.kill()
        process.wait()

    def packs(self, number: int) -> dict[str, Path]:
        """The packs that lie whole in a peer's folder."""
        found = self.home.peer(number).glob("packs/*/*")
        return {path.name: path for path in found if len(path.name) == 64}

    def do(self, work: Coroutine[Any, Any, Result], timeout_s: float = 60.0) -> Result:
        """Let the server do this."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def repair_until(self, holds: Callable[[], bool], what: str, *, gone_s: float = 300.0) -> None:
        """Plan repairs again and again, as the server does by the minute."""

        def look() -> bool:
            self.do(self.services.care.repair(gone_s=gone_s))
            return holds()

        wait_until(look, what)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        async def ask() -> list[tuple[object, ...]]:
            database = Database(self.database_url)
            try:
                async with database.begin() as tx:
                    return [tuple(row) for row in await tx.execute(text(statement))]
            finally:
                await database.close()

        return asyncio.run(ask())

    def change(self, statement: str) -> None:
        async def act() -> None:
            async with self.services.database.begin() as tx:
                await tx.execute(text(statement))

        self.do(act())

    def operator(self) -> httpx.Client:
        async def token() -> str:
            async with self.services.database.begin() as tx:
                return (await self.services.identity.bootstrap_operator(tx))[1]

        headers = {"Authorization": f"Bearer {self.do(token())}"}
        return httpx.Client(base_url=self.url, timeout=60.0, headers=headers)

    def enrolled(self) -> int:
        rows = self.query(
            "SELECT count(*) FROM storage_peers WHERE last_seen > now() - interval '40 s'"
        )
        return int(str(rows[0][0]))

    def enrolled_now(self, name: str) -> bool:
        """It is let in, and has spoken a moment ago."""
        return bool(
            self.query(
                "SELECT 1 FROM storage_peers WHERE revoked_at IS NULL AND last_seen >"
                f" now() - interval '4 s' AND name = '{name}'"
            )
        )

    def peer_id(self, number: int) -> str:
        return str(json.loads(self.home.peer_identity(number).read_text())["id"])

    def reasons(self, name: str) -> set[str]:
        """Why the peer lacks what it should have."""
        rows = self.query(
            "SELECT reason FROM pack_copies JOIN storage_peers ON peer_id = storage_peers.id"
            f" WHERE state = 'lost' AND name = '{name}'"
        )
        return {str(row[0]) for row in rows}

    def drain_away(self, number: int) -> None:
        """The peer ends, and nobody reckons with it any more."""
        self.kill(number)
        mine = f"peer_id = '{self.peer_id(number)}'"
        self.change(f"DELETE FROM pack_audits WHERE {mine}")
        self.change(f"DELETE FROM pack_copies WHERE {mine}")
        self.change(f"UPDATE storage_peers SET draining = true WHERE name = 'peer-{number}'")
        self.home.peer_identity(number).unlink()  # who starts under this number is another one
        shutil.rmtree(self.home.peer(number))

    def register(self, name: str) -> httpx.Client:
        client = httpx.Client(base_url=self.url, timeout=60.0)
        body = {"name": name, "password": "a long enough password"}
        answer = client.post("/api/v1/register", json=body)
        assert answer.status_code == 201, answer.text
        client.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        return client

    def stop(self) -> None:
        for number, process in self.peers.items():
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"peer {number} did not end in time") from None


@contextmanager
def peer_network(
    folder: Path, database_url: str, *, peers: int = 3, disk: str = "20GB"
) -> Iterator[PeerNetwork]:
    """``peers`` storage peers; the first is the gateway."""
    settings = Settings(home=Home(folder), cache=folder / "cache", database_url=database_url)
    settings.home.create()
    started = threading.Event()
    holder: dict[str, Any] = {}
    server: dict[str, uvicorn.Server] = {}

    def serve() -> None:
        asyncio.run(_serve(settings, holder, server, started))

    thread = threading.Thread(target=serve)
    thread.start()
    assert started.wait(DEADLINE_S)
    port = server["server"].servers[0].sockets[0].getsockname()[1]
    network = PeerNetwork(
        settings.home,
        f"http://127.0.0.1:{port}",
        holder["services"],
        database_url,
        holder["loop"],
    )
    try:
        for number in range(1, peers + 1):
            network.start_peer(number, disk=disk)
        wait_until(lambda: network.enrolled() == peers, "all peers are in")
        yield network
    finally:
        try:
            network.stop()
        finally:
            holder["services"].listener.end()
            server["server"].should_exit = True
            thread.join()


async def _serve(
    settings: Settings,
    holder: dict[str, Any],
    server: dict[str, uvicorn.Server],
    started: threading.Event,
) -> None:
    services = holder["services"] = make_services(settings)
    holder["loop"] = asyncio.get_running_loop()
    listening = asyncio.create_task(services.listener.run())
    config = uvicorn.Config(
        create_api(services), host="127.0.0.1", port=0, log_level="warning", lifespan="off"
    )
    server["server"] = uvicorn.Server(config)
    serving = asyncio.create_task(server["server"].serve())
    while not server["server"].started:
        await asyncio.sleep(0.01)
    started.set()
    await serving
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await services.database.close()
