"""Files and folders that no other local user can read, steal or predict."""

import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from tesra.db.launcher import DatabaseUnavailable

SOCKET_NAME = "/.s.PGSQL.5432"
SOCKET_PATH_LIMIT_BYTES = 107


def make_private_folder(path: Path) -> None:
    """A folder for its owner alone, whatever the umask."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def read_or_make_secret(path: Path) -> str:
    """The secret kept in ``path`` (0600); a new one, durable before it is used, if there is none."""
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        value = secrets.token_urlsafe(32)
    write_private(path, value)
    return value


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` (0600) in one step that survives a power cut."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def private_socket_folder(record: Path, uid: int, gid: int) -> Path:
    """The folder named in ``record`` if it is still ours, emptied; else a new one, recorded."""
    if record.exists():
        folder = Path(record.read_text(encoding="utf-8"))
        if _is_private(folder, uid):
            for leftover in folder.iterdir():
                leftover.unlink()
            return folder
    folder = Path(tempfile.mkdtemp(prefix="tesra-", dir=_short_parent()))
    os.chown(folder, uid, gid)
    try:
        write_private(record, str(folder))
    except OSError:
        shutil.rmtree(folder)
        raise
    return folder


def _is_private(folder: Path, uid: int) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == uid
        and not stat.S_IMODE(found.st_mode) & 0o077
    )


def _short_parent() -> str:
    """Where a folder's name cannot be taken away by others, and a socket's path is short enough."""
    candidates = ["/run"] if os.geteuid() == 0 else []
    candidates += [tempfile.gettempdir(), "/tmp", "/var/tmp"]  # noqa: S108 - mkdtemp follows
    for parent in candidates:
        example = f"{parent}/tesra-12345678{SOCKET_NAME}.lock"
        if len(os.fsencode(example)) <= SOCKET_PATH_LIMIT_BYTES and _keeps_names(parent):
            return parent
    raise DatabaseUnavailable(
        "There is no folder for the database's socket that is both short and safe.",
        way_out="Set TMPDIR to a short folder of your own.",
    )


def _keeps_names(parent: str) -> bool:
    try:
        found = Path(parent).stat()
    except OSError:
        return False
    others_write = stat.S_IMODE(found.st_mode) & 0o022
    safe = not others_write or bool(found.st_mode & stat.S_ISVTX)
    return safe and found.st_uid in {0, os.geteuid()} and os.access(parent, os.W_OK | os.X_OK)
