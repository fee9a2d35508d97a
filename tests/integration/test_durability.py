"""What happens to copies for real: peers are killed, bytes are flipped, disks are lost."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from factories.clusters import Cluster
from factories.command_line import CommandLine
from factories.durable import flip, owner_of
from factories.peer_network import PeerNetwork, peer_network, wait_until
from tesra.app.disk_beside import disk_beside
from tesra.drive.peers import evidence
from tesra.kit.errors import Conflict
from tesra.kit.settings import Home
from tesra.kit.sizes import SizeInvalid

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    url = cluster.create()
    with peer_network(tmp_path_factory.mktemp("durable"), url) as running:
        yield running
    cluster.drop(url)


def test_every_holder_proves_its_copy_and_one_machine_is_said_to_be_one(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "ann", tmp_path) as ann:
        assert ann.client.drive_health("/a.bin").last_proof is None
        stand = ann.client.drive_audit(timeout_s=30)
        assert stand.asked >= 3
        assert (stand.open, stand.stalled) == (0, 0)
        health = ann.client.drive_health("/a.bin")
        assert (health.copies, health.machines, health.state) == (3, 1, "degraded")
        assert health.last_proof is not None
        assert health.words == "3 copies, 1 machine"
        assert ann.kinds() == []


def test_a_flipped_byte_is_found_quarantined_and_repaired(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "bea", tmp_path) as bea:
        flip(network.packs(2)[bea.big])
        bea.client.drive_audit(timeout_s=30)
        assert bea.kinds() == ["tampered copy"]
        wait_until(
            lambda: (network.home.peer(2) / "quarantine" / bea.big).exists(), "it is out of the way"
        )
        bea.wait_whole()
        assert network.packs(2)[bea.big].read_bytes() == network.packs(1)[bea.big].read_bytes()
        assert bea.read() == bea.data


def test_a_flipped_byte_at_the_gateway_is_never_delivered(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "cid", tmp_path) as cid:
        flip(network.packs(1)[cid.big])
        assert cid.read() == cid.data
        assert cid.kinds() == ["tampered copy"]
        cid.wait_whole()
        flip(network.packs(1)[cid.big])
        assert cid.client.drive_get("/a.bin", tmp_path / "got").read_bytes() == cid.data
        cid.wait_whole()


def test_a_deleted_pack_is_brought_back_while_it_is_read(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "dan", tmp_path) as dan:
        network.packs(1)[dan.big].unlink()
        assert dan.client.drive_get("/a.bin", tmp_path / "got").read_bytes() == dan.data
        assert dan.kinds() == ["lost copy"]


def test_a_lost_disk_is_repaired_from_the_others(network: PeerNetwork, tmp_path: Path) -> None:
    with owner_of(network, "eva", tmp_path) as eva:
        network.kill(3)
        for path in network.packs(3).values():
            path.unlink()
        network.start_peer(3)
        eva.wait_whole()


def test_with_all_copies_bad_the_file_is_locked_until_one_comes_back(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "fay", tmp_path) as fay:
        good = network.packs(1)[fay.big].read_bytes()
        for number in (1, 2, 3):
            flip(network.packs(number)[fay.big])
        fay.client.drive_audit(timeout_s=30)
        network.do(network.services.care.repair())
        health = fay.client.drive_health("/")
        assert (health.state, health.copies) == ("locked", 0)
        assert {file.path for file in health.files if file.state == "locked"} <= {"/", "/a.bin"}
        assert "no good copy left" in fay.kinds()
        with pytest.raises(Conflict, match="locked"):
            fay.client.drive_get("/a.bin", tmp_path / "got")
        network.kill(2)
        path = network.home.peer(2) / "packs" / fay.big[:2] / fay.big
        path.write_bytes(good)
        network.start_peer(2)
        fay.wait_whole()
        assert fay.read() == fay.data
        states = {alarm.kind: alarm.state for alarm in fay.client.alarms()}
        assert states["no good copy left"] == "over"


def test_what_is_locked_opens_when_it_is_put_again_and_locks_nothing_beside_it(
    network: PeerNetwork, tmp_path: Path
) -> None:
    """A folder and the files in it share a pack: its listing is lost with them."""
    with owner_of(network, "sol", tmp_path) as sol:
        folder = tmp_path / "data"
        folder.mkdir()
        (folder / "b.bin").write_bytes(content := os.urandom(1_000_000))
        before = set(network.packs(1))
        sol.client.drive_put(folder, "/data")
        sol.client.drive_put(tmp_path / "a.bin", "/with/a.bin")
        assert sol.client.drive_health("/").state == "degraded"
        network.repair_until(lambda: sol.client.drive_health("/").copies == 3, "three copies")
        large = [pack for pack, path in network.packs(1).items() if path.stat().st_size > 900_000]
        (lost,) = set(large) - before
        for number in (1, 2, 3):
            flip(network.packs(number)[lost])
        sol.client.drive_audit(timeout_s=30)
        network.do(network.services.care.repair())

        health = sol.client.drive_health("/data")
        assert [(file.path, file.state) for file in health.files] == [("/data", "locked")]
        assert sol.client.drive_health("/with").state == "degraded"
        sol.client.drive_put(folder, "/data")
        got = sol.client.drive_get("/data", tmp_path / "got")
        assert (got / "b.bin").read_bytes() == content
        assert sol.client.drive_health("/").state == "degraded"
        assert sol.client.drive_health("/data").state == "degraded"


def test_a_peer_that_is_gone_is_replaced_and_a_drained_one_is_emptied(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "gil", tmp_path) as gil:
        network.start_peer(4)
        wait_until(lambda: network.enrolled() == 4, "the fourth is in")
        network.kill(3)
        network.repair_until(
            lambda: set(gil.packs) <= set(network.packs(4)), "the fourth has it", gone_s=1.0
        )
        network.start_peer(3)
        network.do(network.services.care.repair())
        operator = network.operator()
        assert operator.post("/api/v1/peers/peer-4/drain", json={}).status_code == 200
        assert operator.post("/api/v1/peers/peer-1/drain", json={}).status_code == 409
        assert operator.post("/api/v1/peers/nobody/drain", json={}).status_code == 404
        network.repair_until(lambda: not network.packs(4), "the fourth is empty")
        gil.wait_whole()
        operator.close()
        network.kill(4)


def test_a_peer_that_answers_and_does_not_show_its_blocks_is_contained(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "hal", tmp_path) as hal:
        network.signal(3, signal.SIGSTOP)
        try:
            hal.client.drive_audit(timeout_s=1)
            network.change("UPDATE pack_audits SET asked_at = now() - interval '1 hour'")
            network.change("UPDATE storage_peers SET last_seen = now() WHERE name = 'peer-3'")
            hal.client.audit_stand()
            states = {peer.name: peer.state for peer in hal.client.peers()}
            assert states["peer-3"] == "contained"
            network.change(
                "UPDATE storage_peers SET last_seen = now() - interval '2 min' WHERE name = 'peer-3'"
            )
            states = {peer.name: peer.state for peer in hal.client.peers()}
            assert states["peer-3"] == "offline"
        finally:
            network.signal(3, signal.SIGCONT)
        wait_until(
            lambda: {p.name: p.state for p in hal.client.peers()}["peer-3"] == "online",
            "it has shown its blocks",
        )


def test_alarms_are_acknowledged_by_an_operator_and_by_nobody_else(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with owner_of(network, "ida", tmp_path) as ida:
        operator = network.operator()
        hook = {"kind": "webhook", "address": "https://example.org/hook", "events": ["alarm"]}
        assert operator.post("/api/v1/notices/channels", json=hook).status_code == 201
        network.packs(2)[ida.big].unlink()
        ida.client.drive_audit(timeout_s=30)
        (alarm,) = ida.client.alarms()
        (told,) = network.query(
            "SELECT args->'happening'->>'reason' FROM procrastinate_jobs"
            " WHERE task_name = 'notices:deliver'"
        )
        assert told[0] == alarm.words
        assert (alarm.kind, alarm.state, alarm.times) == ("lost copy", "open", 1)
        refused = ida.client.connection.http.post(f"/api/v1/alarms/{alarm.id}/acknowledge")
        assert refused.status_code == 403
        assert operator.post("/api/v1/alarms/nobody/acknowledge").status_code == 404
        token = operator.headers["Authorization"].removeprefix("Bearer ")
        operator.close()
        command = CommandLine(tmp_path, TESRA_URL=network.url, TESRA_TOKEN=token)
        assert "acknowledged" in command.done("alarms", "--acknowledge", "all")
        assert list(ida.client.alarms()) == []
        (seen,) = ida.client.alarms(everything=True)
        assert (seen.id, seen.state, seen.acknowledged_by) == (alarm.id, "acknowledged", "operator")
        ida.wait_whole()


def test_a_disk_full_of_lost_copies_is_not_told_pack_by_pack(
    network: PeerNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owner_of(network, "jon", tmp_path) as jon:
        jon.client.drive_put(tmp_path / "a.bin", "/b.bin")
        (tmp_path / "a.bin").write_bytes(os.urandom(1_000_000))
        jon.client.drive_put(tmp_path / "a.bin", "/c.bin")
        network.repair_until(lambda: jon.client.drive_health("/").copies == 3, "three copies")
        monkeypatch.setattr(evidence, "_TOLD_ONE_BY_ONE", 1)
        network.change("UPDATE alarms SET acknowledged_at = now() WHERE acknowledged_at IS NULL")
        for path in network.packs(3).values():
            path.unlink()
        jon.client.drive_audit(timeout_s=30)
        assert jon.kinds() == ["lost copy"]
        words = {row[0] for row in network.query("SELECT words FROM alarms WHERE pack_id IS NULL")}
        assert "More copies on peer-3 are gone than are told one by one." in words
        jon.wait_whole()


def test_a_node_gives_its_disk_with_its_own_token_for_as_long_as_it_runs(
    network: PeerNetwork, tmp_path: Path
) -> None:
    home, before = Home(tmp_path / "node"), len(_online(network))
    home.create()
    token = network.home.keys / "site.token"
    with disk_beside(home, network.url, token, "50GB", name="lab"):
        wait_until(lambda: len(_online(network)) == before + 1, "it has joined")
        (peer,) = [name for name in _online(network) if name.startswith("lab@")]
        assert (home.peer(1) / "peer.json").exists()
        (own,) = _processes(home)
        os.kill(own, signal.SIGKILL)
        wait_until(lambda: set(_processes(home)) - {own} != set(), "it is started again")
    assert _processes(home) == []
    network.change(f"UPDATE storage_peers SET draining = true WHERE name = '{peer}'")
    with pytest.raises(Conflict), disk_beside(_used(home), network.url, token, "1GB", name="x"):
        pass
    with pytest.raises(SizeInvalid), disk_beside(home, network.url, token, "much", name="x"):
        pass


def _online(network: PeerNetwork) -> list[str]:
    rows = network.query("SELECT name FROM storage_peers WHERE last_seen > now() - interval '40 s'")
    return [str(row[0]) for row in rows]


def _processes(home: Home) -> list[int]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if str(home.peer(1)) in child.cmdline():
                found.append(child.pid)
    return found


def _used(home: Home) -> Home:
    home.config.write_text("{}")
    return home
