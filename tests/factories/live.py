"""Servers of this process on real ports, and what a browser's ``EventSource`` does with their streams."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from factories.identity import PASSWORD, unique_name
from factories.network import NetworkDouble
from tesra.app.bootstrap import make_services
from tesra.kit.ids import UserId
from tesra.web.api import create_api
from tesra.web.context import Services
from tesra.wire.site import Assignment

DEADLINE_S = 30.0


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that comes by itself."""
    for _ in range(int(DEADLINE_S / 0.02)):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_S} s: {what}")


@dataclass
class LiveServer:
    """One server process' worth: services, listener and HTTP of its own, on a port that stays."""

    network: NetworkDouble
    port: int = 0
    api: FastAPI | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def services(self) -> Services:
        assert self.api is not None
        services: Services = self.api.state.services
        return services

    async def start(self) -> None:
        services = make_services(self.network.services.settings)
        self.api = create_api(services)
        plug = socket.socket()
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plug.bind(("127.0.0.1", self.port))
        self.port = int(plug.getsockname()[1])
        config = uvicorn.Config(
            self.api, log_level="warning", lifespan="off", timeout_graceful_shutdown=5
        )
        self._server = uvicorn.Server(config)
        self._tasks = (
            asyncio.create_task(services.listener.run()),
            asyncio.create_task(self._server.serve(sockets=[plug])),
        )
        await until(lambda: self._server.started, "the server listens")

    async def stop(self) -> None:
        """As `tesra server` ends."""
        if self.api is None:
            return
        services, self.api = self.services, None
        services.listener.end()
        self._server.should_exit = True
        await self._tasks[1]
        self._tasks[0].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await services.database.close()


@asynccontextmanager
async def live_server(network: NetworkDouble) -> AsyncIterator[LiveServer]:
    server = LiveServer(network)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@dataclass
class Person:
    """Somebody with a token and a project."""

    id: UserId
    token: str

    def client(self, url: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE_S)


async def person(server: LiveServer) -> Person:
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S) as client:
        body = {"name": unique_name(), "password": PASSWORD}
        made = (await client.post("/api/v1/register", json=body)).json()
    found = Person(UserId(made["user"]["id"]), made["token"])
    await server.network.project(found.id)
    return found


@dataclass
class Training:
    """A run that is placed, whose ranks print what a test wants."""

    network: NetworkDouble
    run: str
    assignment: Assignment
    held: dict[int, int] = field(default_factory=dict)
    spooled: int = 0

    async def say(self, text: str, rank: int = 0) -> None:
        self.held[rank] = await self.network.site.log(
            self.assignment, text.encode(), rank=rank, offset=self.held.get(rank, 0)
        )

    async def log(self, *lines: dict[str, Any]) -> None:
        """Deliver spool lines of metrics."""
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        self.spooled = await self.network.site.points(self.assignment, data, offset=self.spooled)

    async def end(self) -> None:
        await self.network.site.train(self.assignment)


async def training(network: NetworkDouble, owner: UserId, **request: Any) -> Training:
    run = await network.submit(owner, **request)
    assert await network.dispatch() == 1
    for assignment in await network.site.assignments():
        if assignment.run == run.id:
            return Training(network, run.id, assignment)
    raise AssertionError("the run was not placed")


@dataclass
class Source:
    """An ``EventSource``: comes back with the last id whenever the stream ends, until ``end``."""

    person: Person
    url: str
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    last_id: str | None = None
    visits: int = 0
    status: int = 0
    cut: asyncio.Event = field(default_factory=asyncio.Event)  # set: cut the line now, once

    def named(self, name: str) -> list[dict[str, Any]]:
        return [data for event, data in self.events if event == name]

    def lines(self, rank: int = 0) -> list[str]:
        parts = [part for data in self.named("log") for part in data["parts"]]
        return "".join(part["text"] for part in parts if part["rank"] == rank).splitlines()

    async def run(self) -> None:
        """Until the end is told; a server that is away is tried again."""
        while True:
            try:
                if await self._visit():
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.02)

    async def _visit(self) -> bool:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        async with (
            self.person.client(self.url) as client,
            client.stream("GET", self.path, params=self.query, headers=headers) as answer,
        ):
            self.status = answer.status_code
            self.visits += 1
            if answer.status_code != 200:
                return True
            rest = ""
            async for text in answer.aiter_text():
                *blocks, rest = (rest + text).split("\n\n")
                if any(self._hear(block) for block in blocks):
                    return True
                if self.cut.is_set():
                    self.cut.clear()
                    return False
        return False

    def _hear(self, block: str) -> bool:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "event" in fields:
            self.last_id = fields.get("id", self.last_id)
            self.events.append((fields["event"], json.loads(fields["data"])))
        return fields.get("event") == "end"


@asynccontextmanager
async def watching(source: Source) -> AsyncIterator[Source]:
    """The source in the background; when the block ends, so does it."""
    task = asyncio.create_task(source.run())
    try:
        yield source
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
