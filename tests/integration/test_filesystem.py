"""``xingpan://`` on a real server, and pandas on it; fsspec's own suite is in tests/contract."""

import os
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from factories.clusters import Cluster
from factories.peer_network import PeerNetwork, peer_network
from factories.private import Person

fsspec = pytest.importorskip("fsspec")
from tesra.sdk.filesystem import XingPanFileSystem  # noqa: E402  # only with fsspec

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    url = cluster.create()
    with peer_network(tmp_path_factory.mktemp("files"), url, peers=0) as network:
        yield network


@pytest.fixture(scope="module")
def access(
    network: PeerNetwork, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Address and token of one user, also in the environment, where libraries find them."""
    person = Person(network.url, tmp_path_factory.mktemp("person"))
    fsspec.register_implementation("xingpan", XingPanFileSystem, clobber=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESRA_URL", network.url)
        patch.setenv("TESRA_TOKEN", person.token)
        yield {"url": network.url, "token": person.token}


@pytest.fixture
def fs(access: dict[str, str]) -> Any:
    XingPanFileSystem.clear_instance_cache()
    return fsspec.filesystem("xingpan", **access)


def test_a_large_file_is_read_at_any_place(fs: Any) -> None:
    content = os.urandom(9_000_000)
    fs.pipe_file("/big/a.bin", content)
    with fs.open("/big/a.bin", block_size=2**20) as file:
        file.seek(8_500_000)
        assert file.read(100) == content[8_500_000:8_500_100]
        file.seek(10)
        assert file.read(3_000_000) == content[10:3_000_010]
    assert fs.cat_file("/big/a.bin", start=-5) == content[-5:]
    assert fs.size("/big/a.bin") == len(content)


def test_a_file_is_one_version_from_its_opening_to_its_end(fs: Any) -> None:
    first, second = os.urandom(2_000_000), os.urandom(1_000_000)
    fs.pipe_file("/one.bin", first)
    before = fs.ukey("/one.bin")
    with fs.open("/one.bin", block_size=100_000) as file:
        begin = file.read(10)
        fs.pipe_file("/one.bin", second)
        assert begin + file.read() == first
    assert fs.cat_file("/one.bin") == second
    assert fs.ukey("/one.bin") != before


def test_what_is_written_appears_whole_or_not_at_all(fs: Any) -> None:
    def broken() -> None:
        with fs.open("/half.bin", "wb", block_size=1000) as file:
            file.write(os.urandom(5000))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert not fs.exists("/half.bin")
    with fs.open("/whole.bin", "wb", block_size=1000) as file:
        file.write(b"x" * 5000)
        assert not fs.exists("/whole.bin")
    with fs.open("/whole.bin", "ab") as file:
        file.write(b"y")
    assert fs.cat_file("/whole.bin") == b"x" * 5000 + b"y"


def test_folders_are_listed_searched_moved_and_removed(fs: Any) -> None:
    for name in ("a.csv", "b.csv", "deep/c.csv", "deep/d.txt"):
        fs.pipe_file(f"/tree/{name}", name.encode())
    assert fs.ls("/tree", detail=False) == ["/tree/a.csv", "/tree/b.csv", "/tree/deep"]
    assert fs.glob("/tree/**/*.csv") == ["/tree/a.csv", "/tree/b.csv", "/tree/deep/c.csv"]
    assert fs.find("/tree/deep") == ["/tree/deep/c.csv", "/tree/deep/d.txt"]
    fs.mv("/tree", "/moved")
    assert not fs.exists("/tree")
    assert fs.cat("/moved/deep/c.csv") == b"deep/c.csv"
    with pytest.raises(IsADirectoryError):
        fs.rm("/moved/deep")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir("/moved/deep")
    fs.rm("/moved", recursive=True)
    assert not fs.exists("/moved/a.csv")


def test_mistakes_are_pythons_own_errors(fs: Any) -> None:
    fs.pipe_file("/plain.txt", b"1")
    with pytest.raises(FileNotFoundError):
        fs.open("/nowhere.txt")
    with pytest.raises(NotADirectoryError):
        fs.pipe_file("/plain.txt/below", b"2")
    with pytest.raises(FileExistsError):
        fs.mkdir("/plain.txt")
    fs.mkdir("/folder")
    with pytest.raises(IsADirectoryError):
        fs.pipe_file("/folder", b"3")
    with pytest.raises(Exception, match="private drive 'diary'"):
        fs.open("xingpan://diary:/a.txt")
    stranger = fsspec.filesystem("xingpan", url=fs.client.url, token="wrong")
    with pytest.raises(PermissionError):
        stranger.ls("/")


def test_pandas_reads_and_writes(access: dict[str, str]) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"x": range(1000), "y": [n / 7 for n in range(1000)]})
    table.to_csv("xingpan://data/a.csv", index=False)
    assert pandas.read_csv("xingpan://data/a.csv").equals(table)
    given = pandas.read_csv("xingpan://data/a.csv", storage_options=access, nrows=5)
    assert len(given) == 5


def test_fsspec_finds_the_file_system_by_its_entry_point() -> None:
    text = Path(__file__).parents[2].joinpath("pyproject.toml").read_text("utf-8")
    named = tomllib.loads(text)["project"]["entry-points"]["fsspec.specs"]["xingpan"]
    assert EntryPoint("xingpan", named, "fsspec.specs").load() is XingPanFileSystem
