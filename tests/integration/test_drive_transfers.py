"""Folders go in and out of a drive on a real server: in few requests, on after a kill, or not at all."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import tesra
from factories.clusters import Cluster
from factories.command_line import CommandLine
from factories.peer_network import PeerNetwork, peer_network, wait_until
from factories.private import Person
from tesra.kit.errors import TesraError
from tesra.sdk.transfer import HttpDoor
from tesra.storage.format import EpochKeys, new_keys, seal_chunk
from tesra.storage.packing import Pack, PackBuilder
from tesra.storage.progress import Progress
from tesra.storage.tree import File, NodeWriter
from tesra.wire.drive import SnapshotCommit
from tesra.wire.files import PutTree

pytestmark = pytest.mark.postgres

MANY, SMALL_BYTES = 3000, 10_000
FILES, FILE_BYTES = 24, 4_000_000


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    url = cluster.create()
    with peer_network(tmp_path_factory.mktemp("transfers"), url, peers=0) as network:
        yield network


@pytest.fixture
def person(network: PeerNetwork, tmp_path: Path) -> Person:
    return Person(network.url, tmp_path / "person")


@pytest.fixture
def command(person: Person, tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, TESRA_URL=person.url, TESRA_TOKEN=person.token)


class Counting(httpx.HTTPTransport):
    """Notes how many requests there are, and the bytes of packs that come."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.pack_bytes = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        answer = super().handle_request(request)
        if request.method == "GET" and "/packs/" in request.url.path:
            self.pack_bytes += int(answer.headers["content-length"])
        return answer


def counted(person: Person) -> tuple[tesra.Client, Counting]:
    transport = Counting()
    return tesra.Client(person.url, person.token, transport=transport), transport


def files_in(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".tesra-fetch" not in path.parts
    }


@pytest.fixture
def large_files(tmp_path: Path) -> Path:
    """24 files of 4 MB: six packs."""
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:02}.bin").write_bytes(os.urandom(FILE_BYTES))
    return folder


def test_small_files_go_in_and_out_by_packs_not_by_files(person: Person, tmp_path: Path) -> None:
    source = tmp_path / "small"
    for number in range(MANY):
        file = source / f"{number % 10}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(SMALL_BYTES))
    packs = MANY * SMALL_BYTES // (16 * 2**20) + 1
    client, asked = counted(person)
    client.drive_put(source, "/small")
    assert asked.requests <= 10 * packs + 10
    client, asked = counted(person)
    client.drive_get("/small", tmp_path / "back")
    assert asked.requests <= 10 * packs + 10
    assert files_in(tmp_path / "back") == files_in(source)


class Killed:
    """A command that is killed with SIGKILL as soon as something has happened."""

    def __init__(self, command: CommandLine, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tesra.app.main", *arguments],
            env=command.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def die(self) -> None:
        self._process.kill()
        assert self._process.wait(30) == -signal.SIGKILL, "it was done before"


def test_a_put_that_was_killed_goes_on_and_sends_nothing_twice(
    person: Person, command: CommandLine, large_files: Path
) -> None:
    client, _ = counted(person)
    killed = Killed(command, "drive", "put", str(large_files), "xingpan:/large")
    wait_until(lambda: client.drive_quota().used_bytes > 0, "a pack is stored", pause_s=0.005)
    killed.die()
    assert list(client.drive_list("/")) == [], "half a folder can be seen"
    moved: list[Progress] = []
    before = client.drive_quota().used_bytes
    client.drive_put(large_files, "/large", report=moved.append)
    total = FILES * FILE_BYTES
    assert moved[-1].moved_bytes <= total - before + 1_000_000
    assert client.drive_quota().used_bytes <= total + 1_000_000
    assert client.drive_use("/large").size_bytes == total


def test_a_get_that_was_killed_goes_on_and_fetches_no_whole_file_twice(
    person: Person, command: CommandLine, large_files: Path, tmp_path: Path
) -> None:
    client, asked = counted(person)
    client.drive_put(large_files, "/large")
    dest = tmp_path / "dest"
    killed = Killed(command, "drive", "get", "xingpan:/large", str(dest))
    wait_until(lambda: any(dest.glob("*.bin")), "a file is there", pause_s=0.002)
    killed.die()
    there, wanted = files_in(dest), files_in(large_files)
    assert there.items() <= wanted.items(), "half a file can be seen"
    asked.pack_bytes = 0
    client.drive_get("/large", dest)
    assert files_in(dest) == wanted
    assert asked.pack_bytes <= (FILES - len(there)) * FILE_BYTES + 1_000_000
    assert not (dest / ".tesra-fetch").exists()


def test_a_get_of_one_large_file_that_was_killed_goes_on_within_the_file(
    person: Person, command: CommandLine, tmp_path: Path
) -> None:
    client, asked = counted(person)
    source, dest = tmp_path / "large.bin", tmp_path / "dest"
    source.write_bytes(content := os.urandom(FILES * FILE_BYTES))
    client.drive_put(source, "/large.bin")
    dest.mkdir()

    def there() -> int:
        return sum(path.stat().st_blocks * 512 for path in dest.glob(".tesra-fetch/*"))

    killed = Killed(command, "drive", "get", "xingpan:/large.bin", str(dest))
    wait_until(lambda: there() > len(content) // 4, "some of the file is there", pause_s=0.001)
    killed.die()
    assert not (dest / "large.bin").exists(), "half a file can be seen"
    left = there()
    asked.pack_bytes = 0
    client.drive_get("/large.bin", dest)
    assert (dest / "large.bin").read_bytes() == content
    assert asked.pack_bytes <= len(content) - left + 8_000_000  # chunks that were half there
    assert not (dest / ".tesra-fetch").exists()


def test_a_put_for_which_there_is_no_room_says_so_and_shows_nothing_half(
    network: PeerNetwork,
    person: Person,
    command: CommandLine,
    large_files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, _ = counted(person)
    client.drive_make_folder("/mine")
    monkeypatch.setattr(network.services.drive, "quota_bytes", 40_000_000)
    head = client.drive_head()
    refusal = command.refused("drive", "put", str(large_files), "xingpan:/mine/large")
    assert "quota" in refusal or "room" in refusal
    assert client.drive_head() == head
    assert list(client.drive_list("/mine")) == []
    assert client.drive_quota().used_bytes <= 40_000_000

    monkeypatch.setattr(network.services.drive, "quota_bytes", 400_000_000)
    command.done("drive", "put", str(large_files), "xingpan:/mine/large")
    assert client.drive_use("/mine/large").files == FILES


def test_a_move_into_a_folder_says_where_it_went(person: Person, command: CommandLine) -> None:
    client, _ = counted(person)
    client.drive_make_folder("/from/it")
    client.drive_make_folder("/to")
    said = command.done("drive", "mv", "xingpan:/from/it", "xingpan:/to")
    assert said == "xingpan:/from/it -> xingpan:/to/it\n"
    said = command.done("drive", "cp", "xingpan:/to/it", "xingpan:/to/other")
    assert said == "xingpan:/to/it -> xingpan:/to/other\n"
    assert {entry.name for entry in client.drive_list("/to")} == {"it", "other"}


def test_more_copies_than_there_are_peers_are_said_to_wait_for_them(
    person: Person, command: CommandLine
) -> None:
    assert "There are 0 storage peers" in command.done("drive", "replicas", "4")
    assert counted(person)[0].drive_replicas() == 4


def packed(*chunks: tuple[EpochKeys, EpochKeys, bytes]) -> Pack:
    """Each chunk under the id that the first keys give, sealed with the second."""
    builder = PackBuilder()
    for names, seals, plain in chunks:
        chunk_id = names.chunk_id(plain)
        builder.add(seal_chunk(seals.chunk_key(chunk_id), chunk_id, plain))
    return builder.finish()


def test_a_pack_that_was_made_by_another_key_is_refused_and_changes_nothing(
    person: Person,
) -> None:
    client, _ = counted(person)
    client.drive_make_folder("/before")
    door = HttpDoor(client.connection.http)
    grant = door.grant()
    right = EpochKeys(grant.epoch, bytes.fromhex(grant.id_key), bytes.fromhex(grant.data_key))
    other = new_keys(grant.epoch)
    mixed = EpochKeys(grant.epoch, right.id_key, other.data_key)
    before = client.drive_head(), client.drive_quota()
    plain = os.urandom(1000)
    for keys in ((other, other), (right, mixed), (other, right)):
        with pytest.raises(TesraError, match="another key") as refusal:
            door.put_pack(grant.epoch, packed((*keys, plain)))
        assert refusal.value.way_out
    assert (client.drive_head(), client.drive_quota()) == before

    content = os.urandom(50_000)
    writer = NodeWriter()
    file = File("a.bin", False, len(content), chunks=(right.chunk_id(content),))
    node = next(iter([*writer.add(file), *writer.finish()]))
    door.put_pack(grant.epoch, packed((right, right, b"small"), (right, mixed, node)))
    door.put_pack(grant.epoch, packed((right, right, content)))
    tree = SnapshotCommit(
        epoch=grant.epoch, root=right.chunk_id(node).hex(), file_count=1, size_bytes=50_000
    )
    with pytest.raises(TesraError, match="another key"):
        client.drive_change(PutTree(path="/mixed", tree=tree))
    assert client.drive_head() == before[0]
