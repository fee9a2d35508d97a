"""Data of a run comes over the swarm to the storage peer beside its node, and from its disk."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tesra
from factories.clusters import Cluster
from factories.peer_network import PeerNetwork, peer_network, wait_until
from factories.private import Person
from tesra.db.engine import Database
from tesra.drive.peers.errands import Errands
from tesra.kit.ids import PeerId
from tesra.node.near_packs import NearPacks
from tesra.sdk.fetch import fetch_planned
from tesra.sdk.transfer import HttpDoor
from tesra.storage.progress import silent
from tesra.wire.drive import ReadPlan

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    """One peer more than there are copies."""
    with peer_network(tmp_path_factory.mktemp("near"), cluster.create(), peers=4) as network:
        yield network


class Door:
    """What a site's door gives: the plan, the server's packs, and errands of peers."""

    def __init__(self, network: PeerNetwork, client: tesra.Client) -> None:
        self._network = network
        self._door = HttpDoor(client.connection.http)
        self.read_pack = self._door.read_pack
        self.read_again = self._door.read_again
        self.ordered: list[str] = []

    def bring(self, peer: str, packs: list[str]) -> list[str]:
        async def order() -> list[str]:
            database = Database(self._network.database_url)
            try:
                async with database.begin() as tx:
                    return await Errands().bring(tx, PeerId(peer), packs)
            finally:
                await database.close()

        self.ordered = asyncio.run(order())
        return self.ordered


def test_the_peer_beside_a_node_brings_what_it_lacks(network: PeerNetwork, tmp_path: Path) -> None:
    person = Person(network.url, tmp_path)
    content = os.urandom(5_000_000)
    (tmp_path / "data.bin").write_bytes(content)
    with tesra.Client(person.url, person.token) as client:
        client.drive_put(tmp_path / "data.bin", "/data/data.bin")
        plan = client.connection.get("/drive/plan", ReadPlan, {"path": "/data"})
        packs = {chunk.pack for chunk in plan.chunks.values()}
        largest = next(chunk.pack for chunk in plan.chunks.values() if chunk.size > 100_000)
        wait_until(
            lambda: sum(largest in network.packs(peer) for peer in (1, 2, 3, 4)) >= 3,
            "three copies",
        )
        beside = next(peer for peer in (2, 3, 4) if largest not in network.packs(peer))
        folder = network.home.peer(beside)
        assert json.loads((folder / "peer.json").read_text())["id"]

        door = Door(network, client)
        source = NearPacks(door, [folder])  # type: ignore[arg-type]  # as much of it as is used
        source.prepare(plan)
        assert largest in door.ordered
        assert set(door.ordered) <= packs
        fetch_planned(source, plan, tmp_path / "come", silent)
        assert (tmp_path / "come/data.bin").read_bytes() == content
        assert largest in network.packs(beside)
        assert source.near > len(content)
        assert source.far == 0

        again = NearPacks(door, [folder])  # type: ignore[arg-type]  # as above
        again.prepare(plan)
        spoilt = folder / "packs" / largest[:2] / largest
        spoilt.write_bytes(bytes(spoilt.stat().st_size))
        fetch_planned(again, plan, tmp_path / "anew", silent)
        assert (tmp_path / "anew/data.bin").read_bytes() == content
        assert again.far > 0
