import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tesra.crypto.aead import SealBroken, Sealer
from tesra.crypto.keys import KeyFileRefused, load_or_create_master_key


def test_sealed_bytes_open_in_their_context_only() -> None:
    sealer = Sealer(b"k" * 32)
    sealed = sealer.seal(b"secret", b"run:1")
    assert sealer.open(sealed, b"run:1") == b"secret"
    with pytest.raises(SealBroken):
        sealer.open(sealed, b"run:2")


@pytest.mark.parametrize("position", [0, 13, -1])
def test_one_changed_bit_is_noticed(position: int) -> None:
    sealer = Sealer(b"k" * 32)
    sealed = bytearray(sealer.seal(b"secret", b""))
    sealed[position] ^= 1
    with pytest.raises(SealBroken):
        sealer.open(bytes(sealed), b"")


def test_too_short_is_no_sealed_message() -> None:
    with pytest.raises(SealBroken):
        Sealer(b"k" * 32).open(b"short", b"")


def test_master_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "master.key"
    key = load_or_create_master_key(path)
    assert len(key) == 32
    assert load_or_create_master_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_racing_for_the_master_key_gives_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(load_or_create_master_key, [tmp_path / "master.key"] * 32))
    assert len(keys) == 1


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    load_or_create_master_key(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileRefused):
        load_or_create_master_key(path)


def test_damaged_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.touch(0o600)
    with pytest.raises(KeyFileRefused):
        load_or_create_master_key(path)
