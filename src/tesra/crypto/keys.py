"""Key files: made once, readable by their owner alone, on disk before they are used."""

import os
import secrets
import stat
from pathlib import Path

from tesra.crypto.aead import KEY_BYTES


class KeyFileRefused(Exception):
    """The key file is damaged or can be read by others."""


def load_or_create_master_key(path: Path) -> bytes:
    """The 32-byte key at ``path``; made on first use, and the same for all who race for it.

    A new key is written beside, fsynced, then linked into place, so that a crash leaves either
    no key or a whole one. A key that others may read is refused rather than silently mended.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return _load(path)
    except FileNotFoundError:
        _create(path)
        return _load(path)


def _load(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise KeyFileRefused(f"{path} can be read by others: chmod 600 it, if they did not")
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise KeyFileRefused(f"{path} has {len(key)} bytes, a key has {KEY_BYTES}: restore it")
    return key


def _create(path: Path) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            return  # another process was first; its key is the key
        sync_folder(path.parent)
    finally:
        fresh.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename is not, until its folder is fsynced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
