"""What the drive's commands do with what they are given, and what they say of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tesra
from factories.clusters import Cluster
from factories.command_line import CommandLine
from factories.peer_network import PeerNetwork, peer_network
from factories.private import Person

pytestmark = pytest.mark.postgres

LARGE_BYTES = 600_000


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    url = cluster.create()
    with peer_network(tmp_path_factory.mktemp("commands"), url, peers=0) as network:
        yield network


@pytest.fixture
def person(network: PeerNetwork, tmp_path: Path) -> Person:
    return Person(network.url, tmp_path / "person")


@pytest.fixture
def command(person: Person, tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, TESRA_URL=person.url, TESRA_TOKEN=person.token)


@pytest.fixture
def client(person: Person) -> Iterator[tesra.Client]:
    with tesra.Client(person.url, person.token) as client:
        yield client


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "large.bin").write_bytes(os.urandom(LARGE_BYTES))
    (folder / "small.txt").write_text("small")
    return folder


def names(client: tesra.Client, path: str = "/") -> set[str]:
    return {entry.name for entry in client.drive_list(path)}


def test_a_folder_that_is_put_on_the_root_goes_there_under_its_name(
    client: tesra.Client, command: CommandLine, data: Path
) -> None:
    client.drive_make_folder("/before")
    said = command.done("drive", "put", str(data))
    assert said.startswith("xingpan:/data: version ")
    assert "2 files, 585.9 KiB" in said
    command.done("drive", "put", str(data), "xingpan:/before/")
    assert names(client) == {"before", "data"}
    assert names(client, "/before/data") == {"large.bin", "small.txt"}
    command.done("drive", "put", str(data), "--merge")
    assert names(client) == {"before", "data", "large.bin", "small.txt"}


def test_of_a_link_that_is_put_the_file_that_it_leads_to_is_kept(
    person: Person, client: tesra.Client, data: Path, tmp_path: Path
) -> None:
    link = tmp_path / "best.bin"
    link.symlink_to(data / "large.bin")
    client.drive_put(link, "/models/")
    assert client.drive_entry("/models/best.bin").size_bytes == LARGE_BYTES
    laptop = person.device("laptop")
    person.create(laptop)
    laptop.drive_put(link, "diary:/models/")
    assert laptop.drive_entry("diary:/models/best.bin").size_bytes == LARGE_BYTES


def test_what_lies_beside_the_working_folder_is_put_and_imported(
    client: tesra.Client, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    client.drive_put(Path("../data/large.bin"), "/")
    assert client.drive_entry("/large.bin").size_bytes == LARGE_BYTES
    assert client.import_project("../data").file_count == 2


def test_what_a_drive_cannot_keep_is_named_and_left_out(
    client: tesra.Client, command: CommandLine, data: Path
) -> None:
    (data / "out").symlink_to("/etc/hostname")
    os.mkfifo(data / "pipe")
    done = command.run("drive", "put", str(data), "xingpan:/d")
    assert "'out' leads out of the folder: left out" in done.stderr
    assert "'pipe' is neither file, folder nor link: left out" in done.stderr
    assert len(command.ask("drive", "put", str(data), "xingpan:/d")["left_out"]) == 2
    assert names(client, "/d") == {"large.bin", "small.txt"}
    assert "neither a file nor a folder" in command.refused("drive", "put", str(data / "pipe"))
    assert "neither a file nor a folder" in command.refused("drive", "put", "/dev/zero")
    (data / os.fsdecode(b"bad\xff")).touch()
    refusal = command.refused("drive", "put", str(data), "xingpan:/d")
    assert "bad\\udcff' can't be kept. The name 'bad\\udcff' is not UTF-8. Give it" in refusal


def test_what_is_restored_says_where_it_stands(
    person: Person, client: tesra.Client, command: CommandLine, data: Path, tmp_path: Path
) -> None:
    version = str(client.drive_put(data, "/data").head.version)
    client.drive_remove("/data/small.txt")
    trash = next(iter(client.drive_trash())).id
    said = command.done("drive", "trash", "--restore", trash)
    assert said == "xingpan:/data/small.txt is back.\n"
    (data / "small.txt").write_text("another")
    client.drive_put(data / "small.txt", "/data/")
    said = command.done("drive", "restore", "xingpan:/data/small.txt", "--version", version)
    assert "is back, at xingpan:/data/small (restored).txt, since something else" in said
    said = command.done(
        "drive", "restore", "xingpan:/data/small.txt", "--version", version, "--to", "xingpan:/it"
    )
    assert f"of version {version} is back, at xingpan:/it." in said
    client.drive_remove("/data/small.txt")
    client.drive_put(tmp_path / "data" / "large.bin", "/data/small.txt")
    trash = next(iter(client.drive_trash())).id
    said = command.done("drive", "trash", "--restore", trash)
    assert "is back, at xingpan:/data/small (restored 2).txt, since" in said

    laptop = person.device("laptop")
    person.create(laptop)
    laptop.drive_put(data / "small.txt", "diary:/a")
    laptop.drive_put(data / "large.bin", "diary:/a")
    landed = laptop.drive_restore("diary:/a", 1)
    assert [(one.path, one.to) for one in landed.renamed] == [("diary:/a", "diary:/a (restored)")]


def test_the_trash_is_emptied_when_that_is_confirmed(
    client: tesra.Client, command: CommandLine, data: Path
) -> None:
    client.drive_put(data, "/data")
    client.drive_remove("/data")
    assert "--yes" in command.refused("drive", "trash", "--empty")
    assert "is empty" in command.done("drive", "trash", "--empty", "--yes")
    assert list(client.drive_trash()) == []
    assert "The trash is empty" in command.done("drive", "trash")


def test_a_put_to_a_server_that_is_away_says_so_at_once(command: CommandLine, data: Path) -> None:
    """An upload that has begun is patient for two minutes."""
    away = ("--url", "http://127.0.0.1:9")
    for source in (data, data / "large.bin"):
        refusal = command.refused("drive", "put", str(source), "xingpan:/d/", *away)
        assert "does not answer" in refusal


def test_the_log_of_a_path_says_what_stood_there(
    client: tesra.Client, command: CommandLine, data: Path
) -> None:
    client.drive_put(data / "small.txt", "/a.txt")
    client.drive_put(data / "large.bin", "/other")
    client.drive_remove("/a.txt")
    listed = command.ask("drive", "log", "xingpan:/a.txt")
    assert [one["words"] for one in listed] == ["removed /a.txt", "put /a.txt"]
    assert "gone" in command.done("drive", "log", "xingpan:/a.txt")
    assert "put /other" in command.done("drive", "log")
    assert "Nothing ever stood" in command.refused("drive", "log", "xingpan:/none")
    assert "all of it" in command.refused("drive", "log", "xingpan:diary:/a")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("gc", "--keep-days", "1e9"), "That is not possible. keep_days: "),
        (("share", "xingpan:/small.txt", "--expires", "9999999d"), "not possible. expires_s: "),
        (("share", "xingpan:/small.txt", "--password", ""), "That is not possible. password: "),
        (("find", "x" * 300), "A query has at most 200 characters."),
        (("get", "xingpan:/data", "file"), "'file' is a file, and a folder is to come there."),
    ],
)
def test_what_can_not_be_asked_for_is_told_in_a_line(
    client: tesra.Client,
    command: CommandLine,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(data)
    (data / "file").touch()
    client.drive_put(data, "/data")
    assert said in command.refused("drive", *asked)
