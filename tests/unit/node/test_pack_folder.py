"""What a storage peer knows of its files without reading them, and who it is."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from factories.durable import flip
from factories.peers import tree_of
from tesra.node.peer.folder import PackFolder
from tesra.storage.merkle import PackTree


@pytest.fixture
def folder(tmp_path: Path) -> PackFolder:
    return PackFolder(tmp_path / "peer", 10**9)


def kept(folder: PackFolder) -> PackTree:
    data = os.urandom(100_000)
    tree = tree_of(data, os.urandom(32).hex())
    (folder.incoming / tree.pack_id).write_bytes(data)
    folder.keep(tree)
    return tree


def path_of(folder: PackFolder, tree: PackTree) -> Path:
    return folder.home_of(tree.pack_id) / tree.pack_id


def test_a_pack_that_is_left_alone_is_never_mentioned(folder: PackFolder) -> None:
    kept(folder)
    assert folder.look() == ([], [])
    assert folder.look() == ([], [])


def test_a_pack_that_is_written_to_or_deleted_is_seen_once(folder: PackFolder) -> None:
    changed, gone, cut = kept(folder), kept(folder), kept(folder)
    flip(path_of(folder, changed), at=5)
    path_of(folder, gone).unlink()
    os.truncate(path_of(folder, cut), 10)
    assert folder.look() == (sorted([changed.pack_id, cut.pack_id]), [gone.pack_id])
    assert folder.look() == ([], [])


def test_what_the_peer_itself_takes_away_is_not_missed(folder: PackFolder) -> None:
    dropped, aside = kept(folder), kept(folder)
    folder.drop(dropped.pack_id)
    folder.quarantine(aside.pack_id)
    assert folder.look() == ([], [])


def test_a_folder_that_is_deleted_is_made_again_when_something_comes(folder: PackFolder) -> None:
    tree = kept(folder)
    shutil.rmtree(folder.packs.parent)
    assert folder.look() == ([], [tree.pack_id])
    folder.require_room(tree)
    kept(folder)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("{")])
def test_a_peer_stays_who_it_is_when_its_folder_is_lost(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    identity, root = tmp_path / "who.json", tmp_path / "peer"
    peer = PackFolder(root, 1, identity=identity).peer_id()
    shutil.rmtree(root)
    assert PackFolder(root, 1, identity=identity).peer_id() == peer
    spoil(identity)
    assert PackFolder(root, 1, identity=identity).peer_id() == peer
    assert PackFolder(root, 1).peer_id() == peer


def test_a_disk_smaller_than_what_is_offered_is_told(tmp_path: Path) -> None:
    assert PackFolder(tmp_path / "small", 10**6).lacks_bytes() == 0
    assert PackFolder(tmp_path / "large", 10**18).lacks_bytes() > 10**17
