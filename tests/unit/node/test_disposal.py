"""Folders of attempts that are over go when the node has time, and in any case soon."""

import time
from pathlib import Path

import pytest

from tesra.node import disposal
from tesra.node.disposal import Disposal
from tesra.node.workspace import AttemptFolders, prepare


@pytest.fixture
def folders(tmp_path: Path) -> AttemptFolders:
    folders = prepare(tmp_path, "att_1", "out")
    (folders.work / "train.py").write_text("print()")
    return folders


async def test_folders_go_as_soon_as_the_node_is_not_busy(folders: AttemptFolders) -> None:
    waste = Disposal()
    waste.add("att_1", folders, keep_until=None)
    await waste.work(busy=True)
    assert folders.root.exists()
    await waste.work(busy=False)
    assert not folders.root.exists()


async def test_a_busy_node_removes_what_has_waited_long_enough(
    folders: AttemptFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disposal, "LATEST_S", 0.0)
    waste = Disposal()
    waste.add("att_1", folders, keep_until=None)
    await waste.work(busy=True)
    assert not folders.root.exists()


async def test_output_that_could_not_be_stored_is_kept_for_its_time_and_then_removed(
    folders: AttemptFolders, tmp_path: Path
) -> None:
    old = prepare(tmp_path, "att_2", "out")
    waste = Disposal()
    waste.add("att_1", folders, keep_until=time.time() + 3600)
    waste.add("att_2", old, keep_until=time.time() - 1)
    await waste.work(busy=False)
    assert (folders.root.exists(), old.root.exists()) == (True, False)


async def test_the_place_of_an_attempt_that_comes_again_is_free_at_once(
    folders: AttemptFolders,
) -> None:
    waste = Disposal()
    waste.add("att_1", folders, keep_until=None)
    await waste.remove("att_1")
    assert not folders.root.exists()
    await waste.remove("att_1")
