"""A swarm in one process: the transport's contract without sockets."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from tesra.storage.merkle import PackTree, TreeBuilder
from tesra.storage.swarm import BadData, Endpoint, PeerIdentity, SwarmFailed, TransferStalled

_ports = itertools.count(1)
_listening: dict[Endpoint, "FakeSwarm"] = {}


class FakeSwarm:
    """Implements ``storage.swarm.Swarm``: whole packs, copied from the first peer that is good."""

    def __init__(
        self, identity: PeerIdentity, *, on_bad_data: Callable[[BadData], None] = lambda _: None
    ) -> None:
        self._identity = identity
        self._on_bad_data = on_bad_data
        self._port = 0
        self._active: dict[str, Path] = {}
        self._told: dict[str, list[Endpoint]] = {}
        self._changes = 0

    @property
    def port(self) -> int:
        return self._port

    async def open(self, port: int = 0) -> None:
        self._port = port or next(_ports)
        _listening["127.0.0.1", self._port] = self

    async def close(self) -> None:
        _listening.pop(("127.0.0.1", self._port), None)
        self._active.clear()

    async def serve(self, tree: PackTree, folder: Path) -> None:
        path = folder / tree.pack_id
        if not path.is_file() or path.stat().st_size != tree.size_bytes:
            raise SwarmFailed
        self._active[tree.pack_id] = path

    async def fetch(
        self, tree: PackTree, folder: Path, peers: Sequence[Endpoint], *, stall_s: float = 30.0
    ) -> None:
        told = self._told.setdefault(tree.pack_id, [])
        told += peers
        deadline, changes = asyncio.get_running_loop().time() + stall_s, self._changes
        while True:
            if changes != self._changes:
                raise SwarmFailed
            for peer in told:
                data = self._take(tree, peer)
                if data is not None:
                    (folder / tree.pack_id).write_bytes(data)
                    self._active[tree.pack_id] = folder / tree.pack_id
                    return
            if asyncio.get_running_loop().time() > deadline:
                raise TransferStalled
            await asyncio.sleep(0.01)

    async def introduce(self, pack_id: str, peers: Sequence[Endpoint]) -> None:
        self._told.setdefault(pack_id, []).extend(peers)

    async def rest(self, pack_id: str) -> None:
        self._active.pop(pack_id, None)

    async def renew(self, identity: PeerIdentity) -> None:
        if identity.authority != self._identity.authority:
            self._active.clear()
            self._changes += 1
        self._identity = identity

    def active(self) -> list[str]:
        return list(self._active)

    def _take(self, tree: PackTree, peer: Endpoint) -> bytes | None:
        other = _listening.get(peer)
        if other is None or other._identity.authority != self._identity.authority:
            return None
        path = other._active.get(tree.pack_id)
        if path is None:
            return None
        data = path.read_bytes()
        builder = TreeBuilder()
        builder.update(data)
        if builder.finish(tree.pack_id) != tree:
            self._on_bad_data(BadData(tree.pack_id, peer))
            return None
        return data
