"""The data cache of a node: fetched once, checked, bounded, and never taken from who uses it."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tesra.node import data as data_module
from tesra.node.data import DataCache, DataTooLarge, is_intact
from tesra.node.workspace import AttemptFolders
from tesra.wire.data import RunData

NO_DOOR: Any = None


class Drive:
    """Gives out snapshots of so many bytes, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fetched: list[str] = []
        monkeypatch.setattr(data_module, "fetch_patiently", self._fetch)

    async def _fetch(self, _: Any, snapshot: str, dest: Path, __: Any) -> None:
        self.fetched.append(snapshot)
        await asyncio.sleep(0)
        (dest / "sub").mkdir(parents=True)
        (dest / "sub/file.bin").write_bytes(snapshot[-1].encode() * 100)
        (dest / "link").symlink_to("sub/file.bin")


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Drive:
    return Drive(monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> DataCache:
    cache = DataCache(tmp_path / "cache", "node-1", limit_bytes=250)
    cache.clean()
    return cache


def snapshot(mark: str, name: str | None = None, size: int = 100) -> RunData:
    return RunData(
        path=f"xingpan:/{mark}",
        name=name,
        snapshot=f"snp_{mark}",
        root=mark * 64,
        file_count=2,
        size_bytes=size,
    )


def folders(tmp_path: Path, attempt: str) -> AttemptFolders:
    root = tmp_path / attempt
    root.mkdir()
    return AttemptFolders(root, "out")


async def bring(cache: DataCache, tmp_path: Path, attempt: str, *data: RunData) -> AttemptFolders:
    made = folders(tmp_path, attempt)
    await cache.bring(NO_DOOR, attempt, data, made, lambda _: None)
    return made


async def test_many_attempts_at_once_fetch_it_once(
    drive: Drive, cache: DataCache, tmp_path: Path
) -> None:
    made = await asyncio.gather(*(bring(cache, tmp_path, f"a{n}", snapshot("a")) for n in range(5)))
    assert drive.fetched == ["snp_a"]
    assert {(one.data / "link").read_bytes() for one in made} == {b"a" * 100}


async def test_one_stands_at_the_folder_itself_and_several_below_their_names(
    drive: Drive, cache: DataCache, tmp_path: Path
) -> None:
    made = await bring(cache, tmp_path, "a1", snapshot("a", "train"), snapshot("b", "test"))
    assert (made.data / "train/sub/file.bin").read_bytes() == b"a" * 100
    assert (made.data / "test/sub/file.bin").read_bytes() == b"b" * 100
    assert (made.data / "train/sub/file.bin").stat().st_mode & 0o777 == 0o444


async def test_what_was_used_least_recently_goes_and_what_is_used_stays(
    drive: Drive, cache: DataCache, tmp_path: Path
) -> None:
    await bring(cache, tmp_path, "a1", snapshot("a"))
    await bring(cache, tmp_path, "a2", snapshot("b"))
    with pytest.raises(DataTooLarge, match=r"node node-1 has room for 50 B"):
        await bring(cache, tmp_path, "a3", snapshot("c"))
    cache.release("a2")
    await bring(cache, tmp_path, "a4", snapshot("c"))
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"snp_a", "snp_c"}
    with pytest.raises(DataTooLarge):
        await bring(cache, tmp_path, "a5", snapshot("d", size=251))


@pytest.mark.parametrize("harm", ["other bytes", "same size and time", "more", "less"])
async def test_a_damaged_copy_is_fetched_anew(
    drive: Drive, tmp_path: Path, harm: str, cache: DataCache
) -> None:
    made = await bring(cache, tmp_path, "a1", snapshot("a"))
    file = made.data.resolve() / "sub/file.bin"
    known = file.stat()
    file.chmod(0o644)
    match harm:
        case "other bytes":
            file.write_bytes(b"x")
        case "same size and time":
            file.write_bytes(b"x" * 100)
            os.utime(file, ns=(known.st_mtime_ns, known.st_mtime_ns))
            cache = DataCache(tmp_path / "cache", "node-1")  # the node was started again
        case "more":
            (file.parent / "more").touch()
        case _:
            shutil.rmtree(file.parent)
    again = await bring(cache, tmp_path, "a2", snapshot("a"))
    assert drive.fetched == ["snp_a", "snp_a"]
    assert (again.data / "sub/file.bin").read_bytes() == b"a" * 100
    assert is_intact(again.data.resolve().parent, by_hash=True)


async def test_one_root_in_two_drives_is_not_shared(
    drive: Drive, cache: DataCache, tmp_path: Path
) -> None:
    own = snapshot("a")
    await bring(cache, tmp_path, "a1", own)
    other = await bring(cache, tmp_path, "a2", snapshot("b").model_copy(update={"root": own.root}))
    assert (other.data / "sub/file.bin").read_bytes() == b"b" * 100


async def test_what_a_dead_agent_left_half_fetched_goes(tmp_path: Path, cache: DataCache) -> None:
    (tmp_path / "cache/draft-1/files").mkdir(parents=True)
    cache.clean()
    assert list((tmp_path / "cache").iterdir()) == []
