"""Garbage: found by what is reachable, marked, kept for a grace, swept on every peer; and undone."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from factories.clusters import Cluster
from factories.peer_network import PeerNetwork, peer_network, wait_until
from tesra.drive.collection import Collector
from tesra.kit.errors import NotFound
from tesra.kit.ids import UserId
from tesra.sdk.client import Client
from tesra.wire.storage import Collection

pytestmark = pytest.mark.postgres

AT_ONCE = timedelta(0)


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    url = cluster.create()
    with peer_network(tmp_path_factory.mktemp("garbage"), url, peers=2) as running:
        yield running
    cluster.drop(url)


class Owner:
    """A user who put a file, then another in its place."""

    def __init__(self, network: PeerNetwork, name: str, folder: Path) -> None:
        self.network = network
        http = network.register(name)
        token = http.headers["Authorization"].removeprefix("Bearer ")
        self.id = UserId(str(http.get("/api/v1/me").json()["id"]))
        http.close()
        self.client = Client(network.url, token)
        self.file = folder / "a.bin"
        before = set(network.packs(1))
        self.put()
        self.old = self.data
        self.packs = set(network.packs(1)) - before
        self.put()

    def put(self) -> None:
        self.data = os.urandom(400_000)
        self.file.write_bytes(self.data)
        self.client.drive_put(self.file, "/a.bin")

    def collect(
        self, *, keep: timedelta | None = None, grace: timedelta = AT_ONCE, dry_run: bool = False
    ) -> Collection:
        """As the server does, with another grace, and without waiting for uploads."""
        services = self.network.services
        collector = Collector(
            services.database,
            services.drive,
            services.private,
            services.peers,
            grace=grace,
            upload=AT_ONCE,
        )
        return self.network.do(collector.collect(self.id, keep=keep, dry_run=dry_run))

    def used(self) -> int:
        return self.client.drive_quota().used_bytes

    def read(self) -> bytes:
        return b"".join(self.client.drive_read("/a.bin"))


@pytest.fixture
def owner(network: PeerNetwork, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Owner]:
    made = Owner(network, request.node.name[-40:].replace("_", "-"), tmp_path)
    yield made
    made.client.close()


def test_what_history_needs_is_no_garbage(owner: Owner) -> None:
    assert owner.collect().found == 0
    assert owner.client.drive_collect(dry_run=True).found == 0


def test_a_dry_run_changes_nothing(owner: Owner) -> None:
    used = owner.used()
    said = owner.collect(keep=AT_ONCE, dry_run=True)
    assert said.dry_run
    assert said.found >= 1
    assert said.found_bytes > 400_000
    told = owner.client.drive_collect(keep_days=0, dry_run=True)
    assert (told.dry_run, told.versions, told.marked) == (True, said.versions, 0)
    assert owner.collect().found == 0
    assert owner.used() == used


def test_garbage_goes_from_the_index_the_quota_and_every_peer(owner: Owner) -> None:
    used = owner.used()
    swept = owner.collect(keep=AT_ONCE)
    assert swept.swept == swept.found >= 1
    assert owner.used() == used - swept.swept_bytes
    wait_until(
        lambda: not owner.packs & (set(owner.network.packs(1)) | set(owner.network.packs(2))),
        "the files are gone",
    )
    owner.network.do(owner.network.services.peers.clear_unreferenced(age_s=0))
    assert owner.read() == owner.data
    assert owner.client.drive_health("/").state == "degraded"
    with pytest.raises(NotFound):
        owner.client.drive_restore("/a.bin", 2)


def test_within_the_grace_nothing_is_deleted_and_undo_takes_it_back(owner: Owner) -> None:
    day = timedelta(days=1)
    marked = owner.collect(keep=AT_ONCE, grace=day)
    assert (marked.swept, marked.marked) == (0, marked.found)
    assert owner.client.drive_collect_undo().unmarked == marked.found
    assert owner.collect().found == 0
    owner.client.drive_restore("/a.bin", 2, "/old.bin")
    assert b"".join(owner.client.drive_read("/old.bin")) == owner.old


def test_a_marked_version_that_is_restored_is_kept(owner: Owner) -> None:
    owner.collect(keep=AT_ONCE, grace=timedelta(days=1))
    owner.client.drive_restore("/a.bin", 2, "/old.bin")
    owner.collect(keep=AT_ONCE)
    assert b"".join(owner.client.drive_read("/old.bin")) == owner.old
    assert owner.read() == owner.data


def test_a_put_of_what_is_marked_takes_the_mark_off(owner: Owner) -> None:
    owner.collect(keep=AT_ONCE, grace=timedelta(days=1))
    owner.file.write_bytes(owner.old)
    owner.client.drive_put(owner.file, "/again.bin")
    owner.collect(keep=AT_ONCE)
    assert b"".join(owner.client.drive_read("/again.bin")) == owner.old


def test_what_is_in_the_trash_is_kept(owner: Owner) -> None:
    owner.client.drive_remove("/a.bin")
    owner.collect(keep=AT_ONCE)
    (thrown,) = owner.client.drive_trash()
    owner.client.drive_restore_trash(thrown.id)
    assert owner.read() == owner.data


def test_copies_of_a_put_that_died_before_its_index_are_cleared(owner: Owner) -> None:
    network = owner.network
    pack = max(owner.packs, key=lambda one: network.packs(1)[one].stat().st_size)
    wait_until(lambda: pack in network.packs(2), "two copies")
    network.change(rf"DELETE FROM chunks WHERE pack_id = '\x{pack}'")
    network.change(rf"DELETE FROM packs WHERE id = '\x{pack}'")
    clear = network.services.peers.clear_unreferenced
    assert network.do(clear()) == 0, "it may be on its way still"
    assert network.do(clear(age_s=0)) >= 1
    wait_until(lambda: pack not in network.packs(1) | network.packs(2), "the copies are gone")

    def forgotten() -> bool:
        network.do(clear(age_s=0))
        return network.query(rf"SELECT 1 FROM pack_trees WHERE pack_id = '\x{pack}'") == []

    wait_until(forgotten, "nothing is known of it any more")
