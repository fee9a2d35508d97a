"""Storage peers for real: processes, BitTorrent under TLS, a server, a database."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from factories.clusters import Cluster
from factories.peer_network import PeerNetwork, peer_network, wait_until
from factories.storage import contents, sample_folder
from tesra.kit.errors import Unavailable
from tesra.sdk.client import Client
from tesra.sdk.drive import LocalMissing
from tesra.sdk.transfer import HttpDoor, fetch_snapshot, upload_tree
from tesra.wire.drive import ProjectCommit

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    url = cluster.create()
    with peer_network(tmp_path_factory.mktemp("peers"), url) as running:
        yield running
    cluster.drop(url)


@contextmanager
def user_of(network: PeerNetwork, name: str) -> Iterator[tuple[httpx.Client, HttpDoor]]:
    client = network.register(name)
    try:
        yield client, HttpDoor(client, patience_s=5)
    finally:
        client.close()


def put_project(client: httpx.Client, door: HttpDoor, folder: Path, name: str) -> str:
    body = ProjectCommit(name=name, snapshot=upload_tree(door, folder)).model_dump(mode="json")
    answer = client.post("/api/v1/projects", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["snapshot"])


def test_what_is_acknowledged_is_with_two_peers_and_soon_with_three(
    network: PeerNetwork, tmp_path: Path
) -> None:
    source = sample_folder(tmp_path / "source")
    with user_of(network, "ann") as (client, door):
        snapshot = put_project(client, door, source, "digits")
        packs = set(network.packs(1))
        assert packs
        assert any(packs <= set(network.packs(number)) for number in (2, 3))
        wait_until(
            lambda: all(packs <= set(network.packs(number)) for number in (2, 3)), "three copies"
        )
        for pack, path in network.packs(1).items():
            assert network.packs(2)[pack].read_bytes() == path.read_bytes()
        fetch_snapshot(door, snapshot, tmp_path / "dest")
    assert contents(tmp_path / "dest") == contents(source)


def test_a_peer_is_given_only_what_it_was_told_to_bring(
    network: PeerNetwork, tmp_path: Path
) -> None:
    with user_of(network, "abe") as (client, door):
        put_project(client, door, sample_folder(tmp_path / "source"), "p")
        token = (network.home.keys / "peer.token").read_text().strip()
        for pack in network.packs(1):
            where = f"/peer/v1/peers/{network.peer_id(3)}/packs/{pack}"
            client.headers["Authorization"] = f"Bearer {token}"
            assert client.get(where).status_code == 404
            client.headers["Authorization"] = "Bearer another"
            assert client.get(where).status_code == 401


def test_packs_tell_nothing_of_what_they_hold(network: PeerNetwork, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "secret-name.txt").write_text("the secret content" * 1000)
    with user_of(network, "bea") as (client, door):
        before = set(network.packs(1))
        put_project(client, door, source, "p")
        for pack in set(network.packs(1)) - before:
            data = network.packs(1)[pack].read_bytes()
            assert b"secret" not in data


def test_a_peer_that_hangs_is_left_for_another(network: PeerNetwork, tmp_path: Path) -> None:
    network.signal(2, signal.SIGSTOP)
    try:
        source = tmp_path / "source"
        source.mkdir()
        (source / "a.bin").write_bytes(os.urandom(3_000_000))
        with user_of(network, "cid") as (client, door):
            put_project(client, door, source, "p")
    finally:
        network.signal(2, signal.SIGCONT)
    newest = max(network.packs(1).values(), key=lambda path: path.stat().st_mtime_ns).name
    wait_until(lambda: newest in network.packs(2), "the third copy, when it goes on")


def test_a_peer_that_was_killed_catches_up(network: PeerNetwork, tmp_path: Path) -> None:
    network.kill(3)
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bin").write_bytes(os.urandom(3_000_000))
    with user_of(network, "dan") as (client, door):
        put_project(client, door, source, "p")
    newest = max(network.packs(1).values(), key=lambda path: path.stat().st_mtime_ns).name
    network.start_peer(3)
    wait_until(lambda: newest in network.packs(3), "the third copy, when it is back")


def test_a_wrong_token_lets_nobody_in(network: PeerNetwork) -> None:
    answer = httpx.get(
        f"{network.url}/peer/v1/peers/peer_{'0' * 26}/orders",
        headers={"Authorization": "Bearer wrong"},
    )
    assert answer.status_code == 401
    assert answer.json()["code"] == "peer_token_unknown"


def test_a_peer_that_is_not_known_is_told_to_enrol(network: PeerNetwork) -> None:
    token = (network.home.keys / "peer.token").read_text().strip()
    answer = httpx.get(
        f"{network.url}/peer/v1/peers/peer_{'0' * 26}/orders",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 409
    assert answer.json()["code"] == "peer_unknown"


def test_full_peers_are_said_at_once(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    url = cluster.create()
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bin").write_bytes(os.urandom(3_000_000))
    with peer_network(tmp_path_factory.mktemp("full"), url, disk="2MB") as network:
        with user_of(network, "eve") as (_, door), pytest.raises(Unavailable) as refused:
            upload_tree(HttpDoor(door._client, patience_s=0), source)
        assert "full" in refused.value.detail
        assert not network.packs(2)
        assert not network.packs(3)
    cluster.drop(url)


def test_the_drive_from_the_command_lines_side(network: PeerNetwork, tmp_path: Path) -> None:
    """A folder goes in and comes out; a second put sends nothing; a file is one file."""
    client = network.register("fay")
    token = client.headers["Authorization"].removeprefix("Bearer ")
    client.close()
    source = sample_folder(tmp_path / "source")
    moved: list[int] = []
    with Client(network.url, token) as tesra:
        tesra.drive_put(source, "/work/digits")
        assert contents(tesra.drive_get("/work/digits", tmp_path / "dest")) == contents(source)
        tesra.drive_put(source, "/again", report=lambda now: moved.append(now.moved_bytes))
        assert max(moved) == 0
        tesra.drive_put(source / "big.bin", "/work/")
        got = tesra.drive_get("/work/big.bin", tmp_path / "big")
        assert got.read_bytes() == (source / "big.bin").read_bytes()
        assert b"".join(tesra.drive_read("/work/big.bin")) == got.read_bytes()
        beside = tmp_path / "beside"
        beside.mkdir()
        (beside / "big.bin").write_text("of somebody else")
        tesra.drive_get("/work/big.bin", beside / "mine.bin")
        assert (beside / "mine.bin").read_bytes() == got.read_bytes()
        assert (beside / "big.bin").read_text() == "of somebody else"
        extra = tmp_path / "extra"
        extra.mkdir()
        (extra / "new.txt").write_text("new")
        tesra.drive_put(extra, "/work/digits", merge=True)
        names = {entry.name for entry in tesra.drive_list("/work/digits")}
        assert {"new.txt", "train.py"} <= names
        tesra.drive_move("/work/digits/new.txt", "/work")
        assert tesra.drive_entry("/work/new.txt").size_bytes == 3
        with pytest.raises(LocalMissing):
            tesra.drive_put(tmp_path / "nothing", "/x")
