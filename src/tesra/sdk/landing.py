"""Where files land: inside one folder and nowhere else, each whole or not at all.

Large files grow under names that the caller gives, and stay when the download is cut off.

Paths are walked by folder descriptors that follow no link, whatever was put there before.
"""

import fcntl
import os
import shutil
import stat
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from tesra.kit.errors import Conflict

PARTS_NAME = ".tesra-fetch"
Parts = tuple[str, ...]

_LARGE_NAME = (
    64  # so long are the names that large files grow under; those of small ones are numbers
)
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | _SAFE


class InTheWay(Conflict):
    """Something of another kind is in the way."""


class AlreadyFetching(Conflict):
    """Another download into this folder is running."""


class Landing:
    """One download into ``dest``. Files grow in a private folder, then move into place."""

    def __init__(self, dest: Path, root: int, growing: int) -> None:
        """``root`` and ``growing`` are descriptors of ``dest`` and of the private folder in it."""
        self.dest = dest
        self._root = root
        self._growing = growing
        self._numbers = count()
        self._made: set[Parts] = set()
        self._last: tuple[Parts, int] | None = None  # small files come folder by folder

    def close(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None

    @contextmanager
    def grown(self, part: str, size: int) -> Iterator[BinaryIO | None]:
        """What an earlier download has left under this name of a file of this size, or ``None``."""
        with _regular(self._growing, part, range(size + 1)) as file:
            if file is None:
                with suppress(FileNotFoundError):
                    os.unlink(part, dir_fd=self._growing)
            yield file

    def write_part(self, part: str, offset: int, content: bytes | memoryview) -> None:
        """Some of a growing file; from any thread."""
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | _SAFE, 0o666, dir_fd=self._growing)
        try:
            left = memoryview(content)
            while left:
                written = os.pwrite(descriptor, left, offset)
                left, offset = left[written:], offset + written
        finally:
            os.close(descriptor)

    def make_folder(self, parts: Parts) -> None:
        with self._folder(parts):
            pass

    def write(self, parts: Parts, content: bytes, *, executable: bool) -> None:
        """A small file, unless an equal one is there. From one thread."""
        folder = self._open_folder(parts[:-1])
        if parts[:-1] not in self._made and _equal(folder, parts[-1], content, executable):
            return
        part = self._new_part()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
        descriptor = os.open(part, flags, 0o666, dir_fd=self._growing)
        try:
            written = os.write(descriptor, content)
            while written < len(content):
                written += os.write(descriptor, content[written:])
            if executable:
                _set_executable(descriptor, executable)
        finally:
            os.close(descriptor)
        self._rename(part, parts, folder)

    def settle(self, part: str, parts: Parts, *, executable: bool) -> None:
        """Move a finished file into place, over a file or link of that name."""
        if executable:
            mode = stat.S_IMODE(os.stat(part, dir_fd=self._growing).st_mode)
            os.chmod(part, mode | _readers_execute(mode), dir_fd=self._growing)
        with self._folder(parts[:-1]) as folder:
            self._rename(part, parts, folder)

    def link(self, parts: Parts, target: str) -> None:
        with self._folder(parts[:-1]) as folder:
            try:
                if os.readlink(parts[-1], dir_fd=folder) == target:
                    return
            except OSError:
                pass  # nothing there, or no link: made below
            part = self._new_part()
            os.symlink(target, part, dir_fd=self._growing)
            self._rename(part, parts, folder)

    @contextmanager
    def existing(self, parts: Parts, size: int) -> Iterator[BinaryIO | None]:
        """The regular file that is there already with just this size, open, or ``None``."""
        with self._folder(parts[:-1]) as folder, _existing(folder, parts[-1], size) as file:
            yield file

    def _new_part(self) -> str:
        return str(next(self._numbers))

    def _open_folder(self, parts: Parts) -> int:
        """A descriptor that is good until the next call."""
        if self._last is None or self._last[0] != parts:
            self.close()
            with self._folder(parts) as folder:
                self._last = parts, os.dup(folder)
        return self._last[1]

    def _rename(self, part: str, parts: Parts, folder: int) -> None:
        try:
            os.rename(part, parts[-1], src_dir_fd=self._growing, dst_dir_fd=folder)
        except (IsADirectoryError, NotADirectoryError) as error:
            raise InTheWay(f"'{self.dest.joinpath(*parts)}' is a folder.") from error

    @contextmanager
    def _folder(self, parts: Parts) -> Iterator[int]:
        current = os.dup(self._root)
        try:
            for depth, name in enumerate(parts):
                below = self._step(current, name, parts[: depth + 1])
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def _step(self, current: int, name: str, shown: Parts) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=current)
        except FileNotFoundError:
            with suppress(FileExistsError):  # another thread was first
                os.mkdir(name, dir_fd=current)
                self._made.add(shown)  # nothing is there that would have to be looked at
        except OSError as error:
            raise InTheWay(f"'{self.dest.joinpath(*shown)}' is no folder.") from error
        return os.open(name, _FOLDER, dir_fd=current)


@contextmanager
def landing(dest: Path) -> Iterator[Landing]:
    """Open ``dest`` (made if missing) for one download at a time.

    Large files that an earlier one did not finish may go on, and are cleared when this one is done.
    """
    dest.mkdir(parents=True, exist_ok=True)
    root = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyFetching(f"Another download into '{dest}' is running.") from error
        parts = dest / PARTS_NAME
        _clear_small(parts)
        parts.mkdir(mode=0o700, exist_ok=True)
        growing = os.open(parts, _FOLDER)
        place = Landing(dest, root, growing)
        try:
            yield place
        except BaseException:
            _clear_small(parts)
            with suppress(OSError):  # not empty: some of a large file is there
                parts.rmdir()
            raise
        else:
            shutil.rmtree(parts)
        finally:
            place.close()
            os.close(growing)
    finally:
        os.close(root)


def _existing(folder: int, name: str, size: int) -> AbstractContextManager[BinaryIO | None]:
    return _regular(folder, name, range(size, size + 1))


@contextmanager
def _regular(folder: int, name: str, sizes: Container[int]) -> Iterator[BinaryIO | None]:
    descriptor = None
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and found.st_size in sizes:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        descriptor = None
    if descriptor is None:
        yield None
        return
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        yield file


def _equal(folder: int, name: str, content: bytes, executable: bool) -> bool:
    """Whether a file with just this content is there; its mode is set to what it has to be."""
    with _existing(folder, name, len(content)) as file:
        if file is None or file.read() != content:
            return False
        _set_executable(file.fileno(), executable)
        return True


def _clear_small(parts: Path) -> None:
    """What was left and can't go on, or is not of our making."""
    if parts.is_symlink() or parts.is_file():
        parts.unlink()
    for path in parts.iterdir() if parts.exists() else ():
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(path)
        elif len(path.name) < _LARGE_NAME or not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            path.unlink()


def _set_executable(descriptor: int, executable: bool) -> None:
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    wanted = mode | _readers_execute(mode) if executable else mode & ~0o111
    if wanted != mode:
        os.fchmod(descriptor, wanted)


def _readers_execute(mode: int) -> int:
    """The execute bits of those who may read."""
    return (mode & 0o444) >> 2
