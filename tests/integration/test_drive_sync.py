"""A folder and a path of the drive, synced on a real server, with others and deaths in between."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest

import tesra
from factories.clusters import Cluster
from factories.command_line import CommandLine
from factories.peer_network import PeerNetwork, peer_network
from factories.private import Person
from tesra.sdk.sync.folder import (
    FolderGone,
    FolderSync,
    NoFolderHere,
    NoFolderThere,
    NothingToSync,
    NotInAPrivateDrive,
    Synced,
)
from tesra.sdk.sync.local import Naming

pytestmark = pytest.mark.postgres

REMOTE = "/work/data"


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    url = cluster.create()
    with peer_network(tmp_path_factory.mktemp("sync"), url, peers=0) as network:
        yield network


@pytest.fixture
def person(network: PeerNetwork, tmp_path: Path) -> Person:
    return Person(network.url, tmp_path / "person")


class Device:
    """A folder on a machine of a person's, and its own memory of syncs."""

    def __init__(
        self, person: Person, place: Path, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.client = tesra.Client(person.url, person.token, transport=transport)
        self.folder = place / "data"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._state = place / "state"

    def sync(self, *, delete: bool = False) -> Synced:
        return self._pair(delete).run()

    def preview(self, *, delete: bool = False) -> Synced:
        return self._pair(delete).preview()

    def write(self, path: str, content: bytes | str) -> None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def _pair(self, delete: bool) -> FolderSync:
        return FolderSync(self.client, self.folder, REMOTE, delete=delete, state_folder=self._state)


@pytest.fixture
def laptop(person: Person, tmp_path: Path) -> Device:
    return Device(person, tmp_path / "laptop")


@pytest.fixture
def desk(person: Person, tmp_path: Path) -> Device:
    return Device(person, tmp_path / "desk")


class Recording(httpx.HTTPTransport):
    """Notes what is asked; may die at a request, as a killed process does: before an odd one is
    sent, or behind an even one."""

    def __init__(self, dies_at: int = 0) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._dies_at = dies_at

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path.removeprefix('/api/v1/drive')}")
        dies = len(self.asked) == self._dies_at
        if dies and self._dies_at % 2:
            raise Killed
        answer = super().handle_request(request)
        if dies:
            answer.close()
            raise Killed
        return answer


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def test_both_sides_become_equal_and_only_what_differs_moves(
    person: Person, laptop: Device, desk: Device, tmp_path: Path
) -> None:
    big = os.urandom(3_000_000)
    laptop.write("big.bin", big)
    laptop.write("deep/er/a.txt", "a")
    (laptop.folder / "deep/link").symlink_to("er/a.txt")
    (laptop.folder / "run.sh").write_text("#!/bin/sh\n")
    (laptop.folder / "run.sh").chmod(0o755)
    assert laptop.sync().plan.upload == ("big.bin", "deep/er/a.txt", "deep/link", "run.sh")
    desk.sync()
    assert desk.files() == laptop.files()
    assert (desk.folder / "deep/link").readlink() == Path("er/a.txt")
    assert os.access(desk.folder / "run.sh", os.X_OK)
    desk.write("deep/b.txt", "b")
    desk.write("deep/er/a.txt", "changed at the desk")
    laptop.write("c.txt", "c")
    assert desk.sync().plan.upload == ("deep/b.txt", "deep/er/a.txt")
    done = laptop.sync().plan
    assert (done.upload, done.download) == (("c.txt",), ("deep/b.txt", "deep/er/a.txt"))
    desk.sync()
    assert desk.files() == laptop.files()
    assert laptop.sync().plan.empty


def test_an_unchanged_folder_moves_no_data(person: Person, laptop: Device, tmp_path: Path) -> None:
    laptop.write("big.bin", os.urandom(5_000_000))
    laptop.sync()
    laptop.sync()
    spy = Recording()
    quiet = Device(person, tmp_path / "laptop", spy)
    for path in quiet.folder.rglob("*"):
        os.utime(path, ns=(1, 1))  # looked at again, and found equal
    assert quiet.sync().plan.empty
    assert set(spy.asked) <= {"GET /head", "GET /entry", "POST /uploads"}


def test_a_file_that_both_changed_is_kept_twice(laptop: Device, desk: Device) -> None:
    laptop.write("notes.txt", "first")
    laptop.sync()
    desk.sync()
    laptop.write("notes.txt", "of the laptop")
    desk.write("notes.txt", "of the desk")
    laptop.sync()
    renamed = dict(desk.sync().plan.renamed)
    assert "(conflict " in renamed["notes.txt"]
    laptop.sync()
    assert laptop.files() == desk.files()
    assert laptop.files() == {"notes.txt": b"of the laptop", renamed["notes.txt"]: b"of the desk"}


def test_deletions_are_carried_over_only_when_asked_for(laptop: Device, desk: Device) -> None:
    for name in ("a.txt", "old/b.txt", "old/c.txt"):
        laptop.write(name, name)
    laptop.sync()
    desk.sync()
    for path in (laptop.folder / "old").iterdir():
        path.unlink()
    (desk.folder / "a.txt").unlink()
    assert laptop.sync().plan.left == ("old/b.txt", "old/c.txt")
    assert "old/b.txt" in desk.files()
    assert laptop.preview(delete=True).plan.remove_there == ("old/b.txt", "old/c.txt")
    assert laptop.preview(delete=True).plan.remove_there == ("old/b.txt", "old/c.txt")
    laptop.sync(delete=True)
    assert [item.path for item in laptop.client.drive_trash()] == [f"{REMOTE}/old"]
    done = desk.sync(delete=True).plan
    assert (done.remove_here, done.remove_there) == (("old/b.txt", "old/c.txt"), ("a.txt",))
    assert not (desk.folder / "old").exists()
    laptop.sync(delete=True)
    assert laptop.files() == desk.files() == {}


def test_a_file_that_became_a_folder_and_the_other_way_round(laptop: Device, desk: Device) -> None:
    laptop.write("x", "file")
    laptop.write("y/inside", "folder")
    laptop.sync()
    desk.sync()
    (laptop.folder / "x").unlink()
    laptop.write("x/now", "folder")
    (laptop.folder / "y/inside").unlink()
    (laptop.folder / "y").rmdir()
    laptop.write("y", "file")
    laptop.sync()
    desk.sync()
    assert desk.files() == laptop.files() == {"x/now": b"folder", "y": b"file"}


def test_what_is_ignored_stays_where_it_is(laptop: Device, desk: Device) -> None:
    laptop.write(".tesraignore", "*.tmp\n/cache/\n!keep.tmp\n")
    for name in ("a.txt", "a.tmp", "keep.tmp", "cache/x", "deep/cache/y", "deep/.tesraignore"):
        laptop.write(name, "y\n" if name.endswith("ignore") else name)
    laptop.sync()
    desk.write("a.tmp", "the desk's own")
    desk.sync()
    assert set(desk.files()) == {".tesraignore", "a.txt", "a.tmp", "keep.tmp", "deep/.tesraignore"}
    assert desk.files()["a.tmp"] == b"the desk's own"


def test_two_who_sync_at_once_lose_nothing(
    laptop: Device, desk: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.write("a.txt", "first")
    laptop.sync()
    desk.sync()
    laptop.write("a.txt", "of the laptop")
    desk.write("a.txt", "of the desk")
    change, others = laptop.client.drive_change, [desk.sync]

    def late(*changes: object) -> object:
        if others:
            others.pop()()
        return change(*changes)  # type: ignore[arg-type]  # whatever it was given

    monkeypatch.setattr(laptop.client, "drive_change", late)
    laptop.sync()
    desk.sync()
    assert laptop.files() == desk.files()
    assert sorted(laptop.files().values()) == [b"of the desk", b"of the laptop"]


def test_killed_at_any_request_it_goes_on(person: Person, desk: Device, tmp_path: Path) -> None:
    desk.write("there.bin", os.urandom(300_000))
    desk.write("both.txt", "of the desk")
    desk.write("gone.txt", "later gone")
    desk.sync()
    laptop = Device(person, tmp_path / "laptop")
    laptop.write("here.bin", big := os.urandom(2_500_000))
    laptop.write("both.txt", "of the laptop")
    for dies_at in count(1):
        transport = Recording(dies_at)
        try:
            Device(person, tmp_path / "laptop", transport).sync()
        except Killed:
            assert laptop.files()["here.bin"] == big
            assert {"of the laptop"} <= {
                content.decode() for content in laptop.files().values() if len(content) < 100
            }
            continue
        break
    assert dies_at > 5
    desk.sync()
    assert desk.files() == laptop.files()
    conflicts = [name for name in laptop.files() if "conflict" in name]
    assert {*laptop.files()} == {"both.txt", "gone.txt", "here.bin", "there.bin", *conflicts}
    assert [laptop.files()[name] for name in ("both.txt", *conflicts)] == [
        b"of the desk",
        b"of the laptop",
    ]


def test_mistakes_are_named(laptop: Device, tmp_path: Path) -> None:
    with pytest.raises(NotInAPrivateDrive):
        FolderSync(laptop.client, laptop.folder, "diary:/x", state_folder=tmp_path)
    file = tmp_path / "single"
    file.write_text("1")
    laptop.client.drive_put(file, "/single")
    with pytest.raises(NoFolderThere):
        FolderSync(laptop.client, laptop.folder, "/single", state_folder=tmp_path).run()
    with pytest.raises(NoFolderHere):
        FolderSync(laptop.client, file, "/data", state_folder=tmp_path).run()
    with pytest.raises(NothingToSync):
        FolderSync(laptop.client, tmp_path / "none", "/none", state_folder=tmp_path).run()
    assert not (tmp_path / "none").exists()


def test_a_synced_folder_that_is_gone_deletes_nothing_in_the_drive(laptop: Device) -> None:
    """A disk that is not mounted is no wish to delete all."""
    laptop.write("a.txt", "1")
    laptop.sync()
    away = laptop.folder.rename(laptop.folder.with_name("away"))
    with pytest.raises(FolderGone):
        laptop.sync(delete=True)
    with pytest.raises(FolderGone):
        laptop.preview()
    away.rename(laptop.folder)
    assert laptop.sync(delete=True).plan.empty


def test_what_goes_while_a_sync_looks_is_left_out(
    laptop: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once before it is read, once before it goes up."""
    for name in ("a.txt", "b.txt", "c.txt"):
        laptop.write(name, name)
    look, name_of = FolderSync._look, Naming.file

    def reading(self: Naming, path: Path) -> str:
        (laptop.folder / "b.txt").unlink(missing_ok=True)
        return name_of(self, path)

    def looking(self: FolderSync) -> object:
        view = look(self)
        (laptop.folder / "c.txt").unlink(missing_ok=True)
        return view

    monkeypatch.setattr(Naming, "file", reading)
    monkeypatch.setattr(FolderSync, "_look", looking)
    laptop.sync()
    assert {entry.name for entry in laptop.client.drive_list(REMOTE)} == {"a.txt"}


def test_a_conflict_of_files_with_the_longest_names_keeps_both(
    laptop: Device, desk: Device
) -> None:
    name = "长" * 83 + ".txt"
    for device in (laptop, desk):
        device.write(name, device.folder.parent.name)
    laptop.sync()
    desk.sync()
    laptop.sync()
    assert len(laptop.files()) == 2
    assert laptop.files() == desk.files()


def test_the_command_says_what_it_would_do_and_does_it(person: Person, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "a.txt").write_text("1")
    command = CommandLine(tmp_path, TESRA_URL=person.url, TESRA_TOKEN=person.token)
    pair = ("drive", "sync", str(folder), "xingpan:/cli")
    assert command.ask(*pair, "-n")["plan"]["upload"] == ["a.txt"]
    assert "a.txt" in command.done(*pair)
    assert command.done("drive", "cat", "xingpan:/cli/a.txt") == "1"
    assert "both sides are equal" in command.done(*pair)
