"""Peers die while they receive and while they serve, hang, run out of disk, lose their disks, have
wrong clocks, are shut out: each a process of its own. Nothing acknowledged is lost."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from factories.clusters import Cluster
from factories.durable import flip, owner_of
from factories.peer_network import PeerNetwork, peer_network, wait_until
from tesra.sdk.client import Client
from tesra.security.authority import Authority

pytestmark = pytest.mark.postgres

PACK = 15_000_000  # one pack, which takes a while


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    url = cluster.create()
    with peer_network(tmp_path_factory.mktemp("faults"), url) as running:
        yield running
    cluster.drop(url)


def stopped_in_the_middle(network: PeerNetwork, *numbers: int) -> int:
    """One of these peers, halted while a pack is half there: it receives, and has not got it."""

    def looks() -> int:
        for number in numbers:
            coming = {path.name for path in network.home.peer(number).glob("incoming/*")}
            if not coming - network.packs(number).keys():
                continue
            network.signal(number, signal.SIGSTOP)
            if coming - network.packs(number).keys():
                return number
            network.signal(number, signal.SIGCONT)  # it was quicker
        return 0

    found: list[int] = []
    wait_until(lambda: bool(found.append(looks()) or found[-1]), "a pack on its way", pause_s=0.0)
    return found[-1]


def test_a_peer_that_is_killed_while_it_receives_holds_no_put_up_and_catches_up(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "ann", tmp_path) as ann, ThreadPoolExecutor(1) as beside:
        (tmp_path / "b.bin").write_bytes(data := os.urandom(PACK))
        before = network.packs(1).keys()
        putting = beside.submit(ann.client.drive_put, tmp_path / "b.bin", "/b.bin")
        number = stopped_in_the_middle(network, 2, 3)
        network.kill(number)
        putting.result()
        fresh = network.packs(1).keys() - before
        assert fresh <= network.packs(5 - number).keys(), "two have what was acknowledged"
        network.start_peer(number)
        network.repair_until(lambda: fresh <= network.packs(number).keys(), "it has caught up")
        assert b"".join(ann.client.drive_read("/b.bin")) == data
        assert ann.kinds() == []


def test_a_peer_that_is_killed_while_it_serves_is_not_missed(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "bea", tmp_path, size=PACK) as bea, ThreadPoolExecutor(1) as beside:
        network.packs(1)[bea.big].unlink()
        reading = beside.submit(bea.read)
        assert stopped_in_the_middle(network, 1) == 1
        network.kill(2)  # it serves what the gateway is bringing
        network.signal(1, signal.SIGCONT)
        assert reading.result() == bea.data
        network.start_peer(2)
        bea.wait_whole()


def test_a_source_that_hangs_is_left_in_seconds(network: PeerNetwork, tmp_path: Path) -> None:
    with owner_of(network, "cid", tmp_path, size=PACK) as cid:
        network.packs(1)[cid.big].unlink()
        network.signal(2, signal.SIGSTOP)
        try:
            assert cid.read() == cid.data
        finally:
            network.signal(2, signal.SIGCONT)
        cid.wait_whole()


def test_a_disk_that_is_lost_whole_is_made_anew_from_the_two_others(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "dan", tmp_path) as dan:
        network.kill(3)
        shutil.rmtree(network.home.peer(3))
        network.start_peer(3)
        wait_until(lambda: set(dan.kinds()) == {"lost copy"}, "the loss is told")
        dan.wait_whole()
        assert dan.read() == dan.data


def test_two_of_three_disks_are_lost_and_both_are_made_anew_from_the_third(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "eva", tmp_path) as eva:
        for number in (2, 1):
            network.kill(number)
            shutil.rmtree(network.home.peer(number))
        for number in (1, 2):
            network.start_peer(number)
        assert eva.read() == eva.data, "the gateway brings it from the third"
        eva.wait_whole()
        health = eva.client.drive_health("/a.bin")
        assert (health.copies, health.away) == (3, 0)


def test_a_folder_that_is_deleted_under_a_running_peer_is_noticed_by_itself(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "fay", tmp_path) as fay:
        shutil.rmtree(network.home.peer(2) / "packs")
        wait_until(lambda: "lost copy" in fay.kinds(), "nobody has asked")
        fay.wait_whole()


def test_bytes_that_are_changed_under_a_running_peer_are_noticed_by_itself(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "gil", tmp_path) as gil:
        flip(network.packs(3)[gil.big])
        wait_until(lambda: gil.kinds() == ["tampered copy"], "nobody has asked")
        gil.wait_whole()
        assert gil.read() == gil.data


def test_a_full_disk_takes_nothing_and_all_again_when_there_is_room(
    network: PeerNetwork, tmp_path: Path
) -> None:
    """A file system of its own, smaller than what was contributed."""
    with owner_of(network, "hal", tmp_path) as hal:
        network.kill(3)
        network.change(
            "UPDATE storage_peers SET last_seen = now() - interval '1 min' WHERE name = 'peer-3'"
        )
        process = network.start_peer(4, file_system="24M")
        inside = Path(f"/proc/{process.pid}/root{network.home.peer(4)}")
        wait_until(lambda: network.enrolled_now("peer-4"), "the small one is in")
        (inside / "filler").write_bytes(bytes(20_000_000))
        source = tmp_path / "b.bin"
        source.write_bytes(data := os.urandom(4_000_000))
        hal.client.drive_put(source, "/b.bin")
        assert b"".join(hal.client.drive_read("/b.bin")) == data
        wait_until(lambda: network.reasons("peer-4") == {"The disk is full."}, "it says so")
        assert not [path for path in inside.glob("*/*/*") if path.stat().st_size > 1_000_000]
        assert hal.client.drive_health("/b.bin").copies == 2
        (inside / "filler").unlink()
        network.change("UPDATE pack_copies SET tries = 0 WHERE state = 'lost'")
        network.repair_until(
            lambda: hal.client.drive_health("/b.bin").copies == 3,
            "a third copy, when there is room",
        )
        network.start_peer(3)
        network.drain_away(4)
        hal.wait_whole()


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_that_are_an_hour_apart_do_not_matter(
    network: PeerNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """To a peer, a certificate by an authority whose clock is off is what one is to a peer whose
    clock is off the other way: peer-2's is, the others' are not."""
    sign = Authority.sign_peer

    def off(self: Authority, name: str, request: str) -> object:
        later = timedelta(hours=hours) if name == network.peer_id(2) else timedelta(0)
        return sign(self, name, request, now=datetime.now(UTC) + later)

    monkeypatch.setattr(Authority, "sign_peer", off)
    network.kill(2)
    network.start_peer(2)
    wait_until(lambda: network.enrolled_now("peer-2"), "it is in")
    with owner_of(network, f"ida{hours}", tmp_path) as ida:
        network.packs(1)[ida.big].unlink()
        network.signal(3, signal.SIGSTOP)
        try:
            assert ida.read() == ida.data, "from the one whose clock is off"
        finally:
            network.signal(3, signal.SIGCONT)
        ida.wait_whole()


def test_two_clients_that_write_one_path_at_once_are_both_kept(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "jon", tmp_path) as jon:
        token = jon.client.connection.http.headers["Authorization"].removeprefix("Bearer ")
        written = [os.urandom(200_000) for _ in range(2)]
        start = threading.Barrier(2)

        def write(number: int) -> None:
            source = tmp_path / str(number) / "same.bin"
            source.parent.mkdir()
            source.write_bytes(written[number])
            with Client(network.url, token) as client:
                start.wait()
                client.drive_put(source, "/same.bin")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(write, range(2)))
        newest = jon.client.drive_head().version
        seen = [
            b"".join(jon.client.drive_read("/same.bin", version=version))
            for version in (newest, newest - 1)
        ]
        assert sorted(seen) == sorted(written)


def test_the_number_of_copies_is_the_drives_owners_choice(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "kim", tmp_path) as kim:
        assert kim.client.drive_replicas() == 3
        kim.client.drive_replicas(2)
        network.repair_until(
            lambda: sum(kim.big in network.packs(n) for n in (1, 2, 3)) == 2, "one is dropped"
        )
        health = kim.client.drive_health("/a.bin")
        assert (health.wanted, health.copies) == (2, 2)
        kim.client.drive_replicas(3)
        kim.wait_whole()


def test_a_peer_that_was_revoked_is_told_nothing_and_all_goes_on_without_it(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "lea", tmp_path) as lea, network.operator() as operator:
        assert operator.post("/api/v1/peers/peer-1/revoke", json={}).status_code == 409
        assert operator.post("/api/v1/peers/nobody/revoke", json={}).status_code == 404
        before = network.services.authority.mark
        assert operator.post("/api/v1/peers/peer-3/revoke", json={}).status_code == 200
        assert network.services.authority.mark != before
        states = {peer.name: peer.state for peer in lea.client.peers()}
        assert (states["peer-2"], states["peer-3"]) == ("online", "revoked")
        assert lea.copies() == 2
        (tmp_path / "b.bin").write_bytes(data := os.urandom(1_000_000))
        lea.client.drive_put(tmp_path / "b.bin", "/b.bin")
        assert b"".join(lea.client.drive_read("/b.bin")) == data
        assert lea.client.drive_health("/b.bin").copies == 2
        log = network.home.logs / "peer-3.log"
        wait_until(lambda: "shut out" in log.read_text(), "it hears that it is shut out")
        network.start_peer(4)
        lea.wait_whole(1, 2, 4)
        assert operator.post("/api/v1/peers/peer-3/revoke", json={"undo": True}).status_code == 200
        wait_until(lambda: network.enrolled_now("peer-3"), "it is let in again")
        network.drain_away(4)
        lea.wait_whole()


def test_the_only_good_copy_is_not_shut_out_unasked(network: PeerNetwork, tmp_path: Path) -> None:
    with owner_of(network, "mia", tmp_path) as mia, network.operator() as operator:
        for number in (1, 2):
            flip(network.packs(number)[mia.big])
        network.services.care.repair = _nothing  # type: ignore[method-assign]  # in between
        try:
            mia.client.drive_audit(timeout_s=30)
            refused = operator.post("/api/v1/peers/peer-3/revoke", json={})
        finally:
            del network.services.care.repair
        assert (refused.status_code, refused.json()["code"]) == (409, "only_copies")
        mia.wait_whole()


async def _nothing(**_: object) -> int:
    return 0
