"""200 people watch live runs of 500 lines a second each, as browsers do: what the server needs for it.

The server and PostgreSQL are real; the site is one that reports log pieces over its protocol as
often as a node does, ten times a second. Viewers are connections of `text/event-stream` in a process
of their own, which checks that each line is the one that was due. One more reads nothing while its
run prints megabytes. The floor is the same without any viewer: what the lines cost that come in. On a busy machine pieces
come more seldom and are larger; the cores are then told for the full rate, as if all cost were by the
piece.
"""

import asyncio
import json
import multiprocessing
import secrets
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from bench._harness import MIB, BenchFailed, report, run_bench
from bench.dispatch import Server, make_users, ok, server, signed_in
from bench.logs import PeakMemory

from tesra.node.site_client import delivery_of
from tesra.wire.site import Piece

CPU = "viewers_server_cores"
MEMORY = "viewers_server_peak_mb"
LOST = "viewers_lines_lost"
SLOW = "viewers_slow_one_told_exactly"
CPU_TARGET, MEMORY_TARGET_MB = 1.0, 300.0
VIEWERS = 200
LINES_A_S = 500
PIECE_S = 0.1
SECONDS = 20.0
SETTLE_S = 3.0  # after the viewers have come, before anything is measured
DEADLINE_S = 60.0
Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]
TORRENT_LINES, TORRENT_PIECES = 3_000, 40  # 10 MB: more than all buffers on the way hold
SPECIMEN = "step {number:09d} loss 0.1234 acc 0.98 lr 0.001 a line as a training loop prints it\n"


def measure() -> None:
    with server() as running:
        (user,) = make_users(running, 1)
        site = FakeSite(running, devices=16)
        for runs in (10, 1):
            watch(running, user, site, runs)


def watch(running: Server, user: httpx.Client, site: "FakeSite", runs: int) -> None:
    """So many runs, each with its share of the viewers."""
    *names, torrent = site.start(user, runs + 1)
    began, rest_mb = time.monotonic(), round(psutil.Process(running.pid).memory_info().rss / MIB, 1)
    asyncio.run(site.burst(torrent, 1))
    floor_cores = asyncio.run(site.feed(names, running, SETTLE_S + SECONDS / 2)).server_cores
    ours, theirs = multiprocessing.Pipe()
    token = user.headers["Authorization"]
    people = multiprocessing.get_context("spawn").Process(
        target=view, args=(running.url, token, names, torrent, theirs)
    )
    people.start()
    try:
        peak = PeakMemory(running.pid)
        if not ours.poll(DEADLINE_S):
            raise BenchFailed("the viewers did not come")
        ours.recv()
        used = asyncio.run(site.feed(names, running, SETTLE_S + SECONDS))
        asyncio.run(site.burst(torrent, TORRENT_PIECES))
        site.end([*names, torrent])
        ours.send("ended")
        if not ours.poll(DEADLINE_S):
            raise BenchFailed("the viewers did not see the end")
        seen = ours.recv()
        peak_mb = peak.stop()
    finally:
        people.kill()
        people.join()
    told = site.lines_of([*names, torrent])
    common: dict[str, Any] = {
        "runs": runs,
        "viewers": len(seen["kept_up"]),
        "lines_a_s_each": LINES_A_S,
    }
    common["seconds"] = round(time.monotonic() - began, 1)
    full = max(1.0, runs / PIECE_S / used.pieces_a_s)
    costs = {
        "cores_as_measured": used.server_cores,
        "cores_without_viewers": floor_cores,
        "postgres_cores": used.database_cores,
        "pieces_a_s": used.pieces_a_s,
    }
    report(CPU, round(used.server_cores * full, 3), target=CPU_TARGET, versus=common | costs)
    report(
        MEMORY, round(peak_mb, 1), target=MEMORY_TARGET_MB, versus=common | {"before_mb": rest_mb}
    )
    tell(told, seen, common)


def tell(told: dict[str, int], seen: dict[str, Any], common: dict[str, Any]) -> None:
    lost = sum(told[run] - lines + wrong for run, lines, wrong in seen["kept_up"])
    sent = sum(lines for _, lines, _ in seen["kept_up"])
    report(LOST, lost, target=0, versus=common | {"lines_seen": sent})
    run, lines, said = seen["slow"]
    versus = {"lines": told[run], "seen": lines, "told_of_as_dropped": said}
    report(SLOW, told[run] - lines - said, target=0, versus=versus)


@dataclass
class Used:
    """Cores that the server and its database used, and how often the site reported."""

    server_cores: float
    database_cores: float
    pieces_a_s: float


# the site


@dataclass
class FakeSite:
    """Says what a site says: its machine, starts, log pieces, ends."""

    running: Server
    devices: int
    boot: str = field(default_factory=lambda: secrets.token_hex(8))
    seq: int = 0
    pieces: int = 0
    held: dict[str, tuple[str, int]] = field(default_factory=dict)  # of a run: attempt and fence
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)  # lines and bytes

    def __post_init__(self) -> None:
        self.http = signed_in(self.running.url, self.running.site_token)
        cards = [
            {
                "id": f"dev-{number}",
                "index": number,
                "device_class": "cpu-slot",
                "name": "CPU slot",
                "measured_micro_t": 1_000_000,
            }
            for number in range(self.devices)
        ]
        machine = {"id": "node-1", "name": "node-1", "address": "127.0.0.1", "cores": 8}
        machine |= {"memory_bytes": 2**33, "devices": cards}
        whole = {"site": "local", "boot_id": self.boot, "nodes": [machine]}
        ok(self.http.post("/site/v1/enrol", json=whole))

    def start(self, user: httpx.Client, count: int) -> list[str]:
        body = {"project": "noop", "entry": "train.py"}
        names = [str(ok(user.post("/api/v1/runs", json=body))["id"]) for _ in range(count)]
        deadline = time.monotonic() + DEADLINE_S
        while not all(name in self.held for name in names):
            if time.monotonic() > deadline:
                raise BenchFailed("the runs were not placed")
            found = ok(self.http.get("/site/v1/assignments", params={"wait_s": 0.2}))
            for one in found["assignments"]:
                self.held[one["run"]] = (one["attempt"], one["fence"])
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.say(names, {"kind": "started", "at": now})
        return names

    def end(self, names: list[str]) -> None:
        self.say(names, {"kind": "ended", "outcome": "succeeded", "exit_code": 0})

    def say(self, names: list[str], body: dict[str, Any]) -> None:
        messages = []
        for name in names:
            self.seq += 1
            attempt, fence = self.held[name]
            messages.append({"seq": self.seq, "attempt": attempt, "fence": fence, "body": body})
        ok(self.http.post("/site/v1/messages", json={"boot_id": self.boot, "messages": messages}))

    def lines_of(self, names: list[str]) -> dict[str, int]:
        return {name: self.sent[name][0] for name in names}

    async def burst(self, name: str, pieces: int) -> None:
        """Large pieces, one after another."""
        reader, writer = await self.line()
        for _ in range(pieces):
            lines, _ = self.sent.get(name, (0, 0))
            await self._put((reader, writer), name, lines + TORRENT_LINES)
        writer.close()

    async def line(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the server."""
        place = urlsplit(self.running.url)
        return await asyncio.open_connection(place.hostname, place.port)

    async def feed(self, names: list[str], running: Server, seconds: float) -> Used:
        """Lines for so long; what was used behind ``SETTLE_S``."""
        lines = [await self.line() for _ in names]
        until = time.monotonic() + seconds
        feeds = [
            asyncio.create_task(self._feed(line, name, until))
            for line, name in zip(lines, names, strict=True)
        ]
        await asyncio.sleep(SETTLE_S)
        pieces, before, began = self.pieces, _cpu_s(running), time.monotonic()
        await asyncio.gather(*feeds)
        after, took = _cpu_s(running), time.monotonic() - began
        for _, writer in lines:
            writer.close()
        return Used(
            server_cores=round((after[0] - before[0]) / took, 3),
            database_cores=round((after[1] - before[1]) / took, 3),
            pieces_a_s=round((self.pieces - pieces) / took, 1),
        )

    async def _feed(self, line: Line, name: str, until: float) -> None:
        first, _ = self.sent.get(name, (0, 0))
        began = time.monotonic()
        while (now := time.monotonic()) < until:
            await self._put(line, name, first + int((now - began) * LINES_A_S))
            await asyncio.sleep(max(0.0, PIECE_S - (time.monotonic() - now)))

    async def _put(self, line: Line, name: str, due: int) -> None:
        """All lines up to this number."""
        attempt, fence = self.held[name]
        lines, offset = self.sent.get(name, (0, 0))
        data = "".join(SPECIMEN.format(number=number) for number in range(lines, due)).encode()
        if data:
            reader, writer = line
            piece = Piece(
                attempt=attempt, fence=fence, kind="log", of=0, offset=offset, size=len(data)
            )
            body, path = delivery_of([(piece, data)]), "/site/v1/deliveries"
            head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n"
            token = f"Authorization: Bearer {self.running.site_token}\r\n\r\n"
            writer.write(f"{head}{token}".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise BenchFailed(answer.decode())
            size = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            await reader.readexactly(size)
            self.sent[name] = (due, offset + len(data))
            self.pieces += 1


def _cpu_s(running: Server) -> tuple[float, float]:
    """Of the server, and of PostgreSQL with all its processes."""
    used = psutil.Process(running.pid).cpu_times()
    parent = psutil.Process(running.database_pid)
    database = 0.0
    for process in [parent, *parent.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        database += times.user + times.system
    return used.user + used.system, database


# the viewers


def view(url: str, token: str, names: list[str], torrent: str, pipe: Pipe) -> None:
    """In a process of its own: all viewers of the bench."""
    asyncio.run(_view(url, token, names, torrent, pipe))


async def _view(url: str, token: str, names: list[str], torrent: str, pipe: Pipe) -> None:
    viewers = [Viewer(names[number % len(names)]) for number in range(VIEWERS)]
    slow = Viewer(torrent, slow=True)
    tasks = [asyncio.create_task(viewer.watch(url, token)) for viewer in (*viewers, slow)]
    while not all(viewer.live for viewer in (*viewers, slow)):
        await asyncio.sleep(0.1)
    pipe.send("here")
    while not pipe.poll():
        await asyncio.sleep(0.2)
    pipe.recv()
    slow.goes_on.set()
    await asyncio.gather(*tasks)
    kept_up = [(viewer.run, viewer.lines, viewer.wrong) for viewer in viewers]
    pipe.send({"kept_up": kept_up, "slow": (slow.run, slow.lines, slow.dropped)})


@dataclass
class Viewer:
    """One `EventSource`: reads events, and checks that the lines are those that are due."""

    run: str
    slow: bool = False
    lines: int = 0
    wrong: int = 0
    dropped: int = 0
    live: bool = False  # all that was stored is here
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self, url: str, token: str) -> None:
        place = urlsplit(url)
        plug = socket.socket()
        if self.slow:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        plug.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plug, (place.hostname, place.port))
        reader, writer = await asyncio.open_connection(sock=plug, limit=2**16)
        head = f"GET /api/v1/runs/{self.run}/live HTTP/1.1\r\nHost: bench\r\n"
        writer.write(f"{head}Authorization: {token}\r\n\r\n".encode())
        status = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in status.split(b"\r\n")[0]:
            raise BenchFailed(status.decode())
        rest = b""
        while size := int(await reader.readline(), 16):  # chunked, as a browser's would be
            rest += (await reader.readexactly(size + 2))[:-2]
            *events, rest = rest.split(b"\n\n")
            for event in events:
                self.hear(event)
            if self.slow and self.live:
                await self.goes_on.wait()
        writer.close()

    def hear(self, event: bytes) -> None:
        name, _, rest = event.removeprefix(b"event: ").partition(b"\n")
        data = rest.rpartition(b"data: ")[2]
        if name == b"log":
            for part in json.loads(data)["parts"]:
                for line in part["text"].splitlines():
                    number = int(line[5:14])
                    self.wrong += number != self.lines + self.dropped
                    self.lines += 1
        elif name == b"state":
            self.live = True
        elif name == b"dropped":
            self.dropped += json.loads(data)["lines"]


if __name__ == "__main__":
    run_bench(measure, CPU, CPU_TARGET)
