"""Peers as processes of their own that speak the drive's transport, and a slow line with a counter."""

import asyncio
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tesra.crypto.requests import new_key
from tesra.security.authority import Authority
from tesra.storage.merkle import PackTree, TreeBuilder
from tesra.storage.swarm import LibtorrentSwarm, PeerIdentity

_SPAWN = multiprocessing.get_context("spawn")  # libtorrent does not outlive a fork
_FETCHES_AT_ONCE = 4
_BLOCK = 64 * 1024


class SwarmPeer:
    """One process with one session; ask it, then take its answers."""

    def __init__(self, pipe: Connection, folder: Path, port: int) -> None:
        self._pipe = pipe
        self.folder = folder
        self.endpoint = ("127.0.0.1", port)

    def ask(self, verb: str, *asked: Any) -> None:
        self._pipe.send((verb, *asked))

    def answer(self) -> Any:
        """Raises ``RuntimeError`` with what went wrong over there."""
        answer = self._pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def call(self, verb: str, *asked: Any) -> Any:
        self.ask(verb, *asked)
        return self.answer()


@contextmanager
def swarm_peers(folder: Path, names: Sequence[str]) -> Iterator[list[SwarmPeer]]:
    """Running peers under one authority."""
    authority = Authority(folder / "authority")
    with ExitStack() as running:
        yield [running.enter_context(_peer(folder / name, name, authority)) for name in names]


def make_packs(folder: Path, sizes: Sequence[int]) -> list[PackTree]:
    """Files of random bytes that are named as packs are."""
    trees = []
    for number, size in enumerate(sizes):
        builder, name = TreeBuilder(), f"{number:064x}"
        with (folder / name).open("wb") as file:
            for _ in range(0, size, 2**20):
                data = os.urandom(2**20)
                builder.update(data)
                file.write(data)
        trees.append(builder.finish(name))
    return trees


@contextmanager
def _peer(folder: Path, name: str, authority: Authority) -> Iterator[SwarmPeer]:
    folder.mkdir()
    own = new_key(name)
    signed = authority.sign_peer(name, own.request)
    identity = PeerIdentity(signed.certificate, own.key, signed.authority)
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(there, identity, folder), daemon=True)
    process.start()
    try:
        yield SwarmPeer(here, folder, int(here.recv()))
        here.send(("end",))
        process.join(10)
    finally:
        process.kill()
        process.join()


def _serve(pipe: Connection, identity: PeerIdentity, folder: Path) -> None:
    asyncio.run(_work(pipe, identity, folder))


async def _work(pipe: Connection, identity: PeerIdentity, folder: Path) -> None:
    swarm = LibtorrentSwarm(identity)
    await swarm.open()
    pipe.send(swarm.port)
    while True:
        verb, *asked = await asyncio.to_thread(pipe.recv)
        if verb == "end":
            break
        try:
            pipe.send(await _do(swarm, folder, verb, asked))
        except Exception as error:  # noqa: BLE001 - told to who asked
            pipe.send(repr(error))
    await swarm.close()


async def _do(swarm: LibtorrentSwarm, folder: Path, verb: str, asked: list[Any]) -> Any:
    match verb, asked:
        case "serve", [trees]:
            for tree in trees:
                await swarm.serve(tree, folder)
        case "fetch", [trees, endpoints]:
            turn = asyncio.Semaphore(_FETCHES_AT_ONCE)

            async def one(tree: PackTree) -> None:
                async with turn:
                    await swarm.fetch(tree, folder, endpoints)

            await asyncio.gather(*(one(tree) for tree in trees))
        case "limit", [bytes_per_s]:
            for pack in swarm._packs.values():
                pack.handle.set_upload_limit(bytes_per_s)
        case "sent", []:
            return sum(pack.handle.status().total_upload for pack in swarm._packs.values())
    return True


class SlowLine:
    """A relay to one address; what goes up is counted, and goes no faster than the line does."""

    def __init__(self, host: str, port: int, bytes_per_s: float) -> None:
        self._to = host, port
        self._speed = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = time.monotonic()
        self.sent_bytes = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._to)
                for source, target, up in ((near, far, True), (far, near, False)):
                    threading.Thread(
                        target=self._pass, args=(source, target, up), daemon=True
                    ).start()

    def _pass(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with suppress(OSError):  # either side is gone
            while data := source.recv(_BLOCK):
                if up:
                    self._wait(len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _wait(self, size: int) -> None:
        with self._lock:
            self.sent_bytes += size
            self._free_at = max(self._free_at, time.monotonic()) + size / self._speed
            pause = self._free_at - time.monotonic()
        time.sleep(max(0.0, pause))
