"""Torrents are made without libtorrent; libtorrent must read them as they are meant."""

import os
import ssl
from pathlib import Path

import libtorrent
import pytest

from tesra.storage.merkle import PIECE_BYTES, TreeBuilder
from tesra.storage.torrents import FFDHE2048_PEM, bencode, torrent_of

AUTHORITY = "-----BEGIN CERTIFICATE-----\nnot looked at here\n-----END CERTIFICATE-----\n"


def test_bencoding_is_libtorrents() -> None:
    value = {b"b": 1, b"a": {b"z": b"\0\xff", b"": -3}, b"": b""}
    assert bencode(value) == libtorrent.bencode(value)


@pytest.mark.parametrize("size", [1, 16_384, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 5])
def test_libtorrent_reads_the_torrent(size: int) -> None:
    builder = TreeBuilder()
    builder.update(os.urandom(size))
    tree = builder.finish("a" * 64)
    info = libtorrent.torrent_info(torrent_of(tree, AUTHORITY))
    assert info.name() == tree.pack_id
    assert info.layout().file_size(0) == size
    assert info.piece_length() == PIECE_BYTES
    assert info.priv()
    assert info.info_hashes().has_v2()
    assert not info.info_hashes().has_v1()
    assert info.layout().root(0).to_bytes() == tree.root


def test_the_dh_group_is_one_that_openssl_takes(tmp_path: Path) -> None:
    path = tmp_path / "dh.pem"
    path.write_text(FFDHE2048_PEM)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_dh_params(path)
