"""kill -9 of the server between any two steps of a put: what was acknowledged is there, what was
not is put again, and what it left is cleared."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from factories.clusters import Cluster
from factories.mortal_server import MortalServer, mortal_network
from factories.peer_network import wait_until
from factories.storage import random_bytes
from fakes.mortal_server import BOUNDARIES
from tesra.kit.errors import Unavailable
from tesra.kit.ids import UserId
from tesra.sdk.client import Client

pytestmark = pytest.mark.postgres

PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalServer]:
    url = cluster.create()
    with mortal_network(tmp_path_factory.mktemp("mortal"), url, peers=2) as running:
        yield running
    cluster.drop(url)


class Owner:
    """Whose files are put while the server dies."""

    def __init__(self, server: MortalServer, name: str) -> None:
        http = server.network.register(name)
        self.server = server
        self.client = Client(server.url, http.headers["Authorization"].removeprefix("Bearer "))
        self.id = UserId(str(http.get("/api/v1/me").json()["id"]))
        self.kept: dict[str, bytes] = {}
        self.back = threading.Event()
        http.close()

    def put(self, source: Path, path: str) -> None:
        """As a person does: again when the server was away for too long."""
        try:
            self.client.drive_put(source, path)
        except Unavailable:
            assert self.back.wait(PATIENCE_S)
            self.client.drive_put(source, path)
        self.kept[path] = source.read_bytes()

    def check(self) -> None:
        """All that was acknowledged is there, each put once; nothing else is."""
        for path, data in self.kept.items():
            assert b"".join(self.client.drive_read(path)) == data, path
        assert {entry.path for entry in self.client.drive_list("/")} == set(self.kept)
        assert self.client.drive_head().version == 1 + len(self.kept)
        network = self.server.network
        network.do(network.services.drive.sweep_orphans(age_s=-60))
        network.do(network.services.peers.clear_unreferenced(age_s=-60))
        indexed = {str(row[0]): row[1] for row in network.query(_INDEXED)}
        for number in (1, 2):
            wait_until(
                lambda number=number: set(network.packs(number)) == set(indexed),
                f"peer {number} holds what the index names, and nothing else",
                PATIENCE_S,
            )
        used = self.client.drive_quota().used_bytes
        assert used == sum(path.stat().st_size for path in network.packs(1).values())
        assert list(self.client.alarms()) == []


_INDEXED = "SELECT encode(id, 'hex'), size_bytes FROM packs"


@pytest.fixture(scope="module")
def owner(server: MortalServer) -> Iterator[Owner]:
    made = Owner(server, "ann")
    yield made
    made.client.close()


@pytest.mark.parametrize("boundary", [one for one in BOUNDARIES if "snapshot" not in one])
def test_a_put_goes_on_after_the_server_was_killed(
    server: MortalServer, owner: Owner, tmp_path: Path, boundary: str
) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(os.urandom(700_000))
    owner.back.clear()
    deaths = server.deaths()
    server.die_after(boundary)
    putting = threading.Thread(target=owner.put, args=(source, f"/{boundary}"))
    putting.start()
    server.wait_dead(deaths + 1)
    owner.back.set()
    putting.join(PATIENCE_S)
    assert f"/{boundary}" in owner.kept, "the put came to its end"
    owner.check()


def test_a_project_is_committed_again_after_the_server_was_killed(
    server: MortalServer, owner: Owner, tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train.py").write_bytes(random_bytes(300_000))
    deaths = server.deaths()
    server.die_after("snapshot in the transaction")
    with contextlib.suppress(Unavailable):  # it may be there again before a client gives up
        owner.client.import_project(tmp_path / "project", name="p")
    server.wait_dead(deaths + 1)
    made = owner.client.import_project(tmp_path / "project", name="p")
    assert made.snapshots == 1
    files = {entry.path: entry for entry in owner.client.files(made.snapshot)}
    assert owner.client.read_file(made.snapshot, "train.py") == random_bytes(300_000)
    assert list(files) == ["train.py"]
    owner.check()


def test_a_change_is_made_once_although_its_answer_was_lost_with_the_server(
    server: MortalServer, tmp_path: Path
) -> None:
    """The client asks again by itself, and is told what was done the first time."""
    owner = Owner(server, "bea")
    source = tmp_path / "a.bin"
    source.write_bytes(b"moved once")
    owner.put(source, "/a.bin")
    before, deaths = owner.client.drive_head().version, server.deaths()
    body = {"changes": [{"op": "move", "path": "/a.bin", "to": "/b.bin"}]}
    made = sent_until_answered(server, owner, "/changes", body)
    assert server.deaths() == deaths + 1
    assert made["head"]["version"] == owner.client.drive_head().version == before + 1
    assert b"".join(owner.client.drive_read("/b.bin")) == b"moved once"
    owner.client.drive_remove("/b.bin")
    (thrown,) = owner.client.drive_trash()
    made = sent_until_answered(server, owner, f"/trash/{thrown.id}/restore", None)
    assert server.deaths() == deaths + 2
    assert made["head"]["version"] == owner.client.drive_head().version == before + 3
    assert b"".join(owner.client.drive_read("/b.bin")) == b"moved once"
    assert list(owner.client.drive_trash()) == []
    owner.client.close()


def sent_until_answered(
    server: MortalServer, owner: Owner, path: str, body: object
) -> dict[str, Any]:
    """The server dies when it has moved the head, before it has answered; the same is sent again."""
    server.die_after("pointer")
    http, sent = owner.client.connection.http, {"Idempotency-Key": os.urandom(8).hex()}
    url = f"/api/v1/drive{path}"
    with pytest.raises(httpx.TransportError):
        http.post(url, json=body, headers=sent)
    server.wait_answers()
    answer = http.post(url, json=body, headers=sent)
    assert answer.is_success, answer.text
    return dict(answer.json())


def test_a_thing_stays_in_the_trash_until_it_is_restored(
    server: MortalServer, tmp_path: Path
) -> None:
    owner = Owner(server, "cid")
    source = tmp_path / "a.bin"
    source.write_bytes(b"thrown away")
    owner.put(source, "/a.bin")
    owner.client.drive_remove("/a.bin")
    (thrown,) = owner.client.drive_trash()
    server.die_after("tree")
    url = f"/api/v1/drive/trash/{thrown.id}/restore"
    with pytest.raises(httpx.TransportError):
        owner.client.connection.http.post(url)
    server.wait_answers()
    assert [one.id for one in owner.client.drive_trash()] == [thrown.id]
    owner.client.drive_restore_trash(thrown.id)
    assert b"".join(owner.client.drive_read("/a.bin")) == b"thrown away"
    assert list(owner.client.drive_trash()) == []
    owner.client.close()
