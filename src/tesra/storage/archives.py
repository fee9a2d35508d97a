"""Archives from strangers are unpacked into a fresh folder, or refused with a reason.

While files are written the folder holds no link, so no name can lead out of it; links are made at
the end, and only those that stay inside. What comes out is counted as it is written, never taken
from what the archive says of itself. ``read_archive`` does the same for any other target.
"""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

import zstandard

from tesra.kit.errors import Invalid
from tesra.storage.decompression import compression_of, decompressed
from tesra.storage.tree import check_name, link_stays_inside

_AGAIN = "Make the archive again."
_BLOCK_BYTES = 2**20
_MAX_HEADER_BYTES = 2**20
_MAX_DIRECTORY_BYTES = 64 * 2**20
_MAX_LINK_BYTES = 4096
_ZIP_ENCRYPTED = 0x1
_ZIP_UTF8 = 0x800
_CONSUMED = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)


class ArchiveRefused(Invalid):
    """This archive can't be unpacked safely."""


class ArchiveUnknown(ArchiveRefused):
    """This is neither a zip nor a tar file."""


class ArchiveDamaged(ArchiveRefused):
    """This archive is damaged or cut short."""


class ArchiveEncrypted(ArchiveRefused):
    """This archive is encrypted."""


class ArchivePathOutside(ArchiveRefused):
    """A name in this archive leads out of its folder."""


class ArchiveLinkOutside(ArchiveRefused):
    """A link in this archive leads out of its folder."""


class ArchiveDevice(ArchiveRefused):
    """This archive holds a device or another special file."""


class ArchiveTooLarge(ArchiveRefused):
    """This archive unpacks to more than is allowed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``ratio`` counts from ``ratio_floor_bytes`` on: small archives of text shrink a lot."""

    total_bytes: int = 20 * 2**30
    entries: int = 200_000
    ratio: int = 200
    ratio_floor_bytes: int = 100 * 2**20


class Target(Protocol):
    """Where entries of an archive go; a file or link takes the place of an earlier one of its name.

    Raises ``ArchiveDamaged`` (see ``both_kinds``) where a file and a folder have the same name.
    """

    def folder(self, path: PurePosixPath) -> None: ...

    def file(self, path: PurePosixPath, blocks: Iterator[bytes], *, executable: bool) -> None: ...

    def link(self, path: PurePosixPath, target: str) -> None: ...

    def same(self, path: PurePosixPath, other: PurePosixPath) -> None:
        """The content of another file, which is there."""
        ...

    def size_of(self, path: PurePosixPath) -> int | None:
        """None where no file stands."""
        ...


def unpack(archive: Path, dest: Path, limits: Limits | None = None) -> Path:
    """Unpack into the new folder ``dest`` and return where the content begins.

    That is ``dest``, or the one folder in it when there is nothing beside it. Raises a kind of
    ``ArchiveRefused``; ``dest`` may hold a part by then and is the caller's to remove.
    """
    dest.mkdir()
    read_archive(archive, _IntoFolder(dest), limits)
    return _top(dest)


def read_archive(archive: Path, target: Target, limits: Limits | None = None) -> None:
    """All entries of a zip or tar into ``target``, links last; raises a kind of ``ArchiveRefused``."""
    unpacking = _Unpacking(target, archive.stat().st_size, limits or Limits())
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, unpacking)
        else:
            _unpack_tar(archive, unpacking)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        ValueError,
        zstandard.ZstdError,
    ) as error:
        raise ArchiveDamaged(way_out=_AGAIN) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ArchiveDamaged(way_out=_AGAIN) from error  # how gzip and bz2 call bad data
    unpacking.make_links()


def both_kinds(path: PurePosixPath) -> ArchiveDamaged:
    """What is wrong where a file and a folder have the same name."""
    return ArchiveDamaged(f"'{path}' is both a folder and a file.")


class _Unpacking:
    """Checks names and keeps count, on the way into one target."""

    def __init__(self, target: Target, archive_bytes: int, limits: Limits) -> None:
        self._target = target
        self._entries_left = limits.entries
        self._limits = limits
        most = max(limits.ratio_floor_bytes, limits.ratio * archive_bytes)
        self.left_bytes = min(limits.total_bytes, most)
        self._links: list[tuple[PurePosixPath, str]] = []

    def path(self, name: str) -> PurePosixPath:
        """The checked path of an entry; counts it."""
        self._entries_left -= 1
        if self._entries_left < 0:
            raise ArchiveTooLarge(f"This archive has more than {self._limits.entries:,} entries.")
        plain = name.replace("\\", "/")
        path = PurePosixPath(plain)
        if path.is_absolute() or ".." in path.parts or plain[1:3] == ":/":
            raise ArchivePathOutside(f"The name '{name[:200]}' leads out of the archive's folder.")
        for part in path.parts:
            check_name(part)
        return path

    def folder(self, path: PurePosixPath) -> None:
        self._target.folder(path)

    def file(self, path: PurePosixPath, content: IO[bytes], *, executable: bool) -> None:
        self._target.file(_named(path), self._blocks(content), executable=executable)

    def link(self, path: PurePosixPath, target: str) -> None:
        """Made at the end."""
        if not link_stays_inside(len(path.parts) - 1, target):
            raise ArchiveLinkOutside(f"The link '{path}' leads to '{target[:200]}'.")
        self._links.append((path, target))

    def same(self, path: PurePosixPath, other: PurePosixPath) -> None:
        """A hard link to a file that came before."""
        size = self._target.size_of(other)
        if size is None:
            raise ArchiveDamaged(
                f"'{path}' is a hard link to '{other}', which did not come before."
            )
        if path != other:
            self.take(size)
            self._target.same(_named(path), other)

    def take(self, size: int) -> None:
        """Count bytes that came out."""
        self.left_bytes -= size
        if self.left_bytes < 0:
            raise ArchiveTooLarge(
                f"This archive unpacks to more than {self._limits.total_bytes // 2**20} MiB, or to "
                f"more than {self._limits.ratio} times its size."
            )

    def make_links(self) -> None:
        for path, target in self._links:
            self._target.link(_named(path), target)

    def _blocks(self, content: IO[bytes]) -> Iterator[bytes]:
        while block := content.read(_BLOCK_BYTES):
            self.take(len(block))
            yield block


def _named(path: PurePosixPath) -> PurePosixPath:
    if not path.parts:
        raise ArchiveDamaged("An entry has no name.")
    return path


class _IntoFolder:
    """A target on the disk."""

    def __init__(self, dest: Path) -> None:
        self._dest = dest

    def folder(self, path: PurePosixPath) -> None:
        try:
            (self._dest / path).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise both_kinds(path) from error

    def file(self, path: PurePosixPath, blocks: Iterator[bytes], *, executable: bool) -> None:
        target = self._free(path)
        with target.open("xb") as out:
            out.writelines(blocks)
        target.chmod(0o755 if executable else 0o644)

    def link(self, path: PurePosixPath, target: str) -> None:
        self._free(path).symlink_to(target)

    def same(self, path: PurePosixPath, other: PurePosixPath) -> None:
        shutil.copy(self._dest / other, self._free(path))

    def size_of(self, path: PurePosixPath) -> int | None:
        place = self._dest / path
        return place.stat().st_size if place.is_file() else None

    def _free(self, path: PurePosixPath) -> Path:
        """The place for a file; an earlier file of that name gives way."""
        target = self._dest / path
        self.folder(path.parent)
        if target.is_dir() and not target.is_symlink():
            raise both_kinds(path)
        target.unlink(missing_ok=True)
        return target


def _unpack_zip(archive: Path, unpacking: _Unpacking) -> None:
    _check_directory(archive)
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            if entry.flag_bits & _ZIP_ENCRYPTED:
                raise ArchiveEncrypted(way_out="Make it again without a password.")
            _unpack_zip_entry(opened, entry, unpacking)


def _unpack_zip_entry(
    opened: zipfile.ZipFile, entry: zipfile.ZipInfo, unpacking: _Unpacking
) -> None:
    path = unpacking.path(_zip_name(entry))
    mode = entry.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if entry.is_dir() or kind == stat.S_IFDIR:
        unpacking.folder(path)
        return
    if kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
        raise ArchiveDevice(f"'{path}' is a device or another special file.")
    try:
        with opened.open(entry) as content:
            if kind == stat.S_IFLNK:
                target = content.read(_MAX_LINK_BYTES + 1)
                unpacking.link(path, target.decode("utf-8", "surrogateescape"))
            else:
                unpacking.file(path, content, executable=bool(mode & stat.S_IXUSR))
    except (NotImplementedError, RuntimeError) as error:
        raise ArchiveRefused(f"'{path}' is packed in a way that is not known here.") from error


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """The name as it was meant: old Windows archives hold GBK and call it code page 437."""
    if entry.flag_bits & _ZIP_UTF8:
        return entry.filename
    try:
        raw = entry.filename.encode("cp437")
    except UnicodeEncodeError:
        return entry.filename
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return entry.filename


def _check_directory(archive: Path) -> None:
    """A zip's directory is read into memory: look at its size first."""
    find_end: Callable[[IO[bytes]], list[int] | None] = zipfile._EndRecData  # type: ignore[attr-defined]
    with archive.open("rb") as file:
        end = find_end(file)
    if end is None:
        raise ArchiveDamaged(way_out=_AGAIN)
    if end[5] > _MAX_DIRECTORY_BYTES:  # 5: size of the directory
        raise ArchiveTooLarge("This archive has too many entries.")


class _Member(tarfile.TarInfo):
    """A member whose extended header is small: tarfile reads those into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _CONSUMED and self.size > _MAX_HEADER_BYTES:
            raise ArchiveRefused("An entry of this archive has a header of more than 1 MiB.")
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return found


def _unpack_tar(archive: Path, unpacking: _Unpacking) -> None:
    with decompressed(archive, compression_of(archive)) as stream:
        # Skipped and header bytes count too: a bomb may hide where no file is.
        counted = _Counted(stream, unpacking.left_bytes + 64 * 2**20)
        with _open_tar(cast(IO[bytes], counted)) as opened:
            for member in opened:
                _unpack_member(opened, member, unpacking)
                opened.members = []  # type: ignore[attr-defined]  # tarfile keeps them all otherwise


def _open_tar(stream: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member)
    except tarfile.ReadError as error:
        raise ArchiveUnknown(way_out="Give a .zip, .tar, .tar.gz, .tar.xz …") from error


def _unpack_member(opened: tarfile.TarFile, member: tarfile.TarInfo, unpacking: _Unpacking) -> None:
    path = unpacking.path(member.name)
    if member.isdir():
        unpacking.folder(path)
    elif member.issym():
        unpacking.link(path, member.linkname)
    elif member.islnk():
        unpacking.same(path, unpacking.path(member.linkname))
    elif member.isreg():
        content = opened.extractfile(member)
        assert content is not None  # a regular member has content
        unpacking.file(path, content, executable=bool(member.mode & stat.S_IXUSR))
    else:
        raise ArchiveDevice(f"'{path}' is a device or another special file.")


class _Counted:
    """A stream that ends in a refusal when more comes out than may."""

    def __init__(self, stream: IO[bytes], left_bytes: int) -> None:
        self._stream = stream
        self._left_bytes = left_bytes

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise ArchiveTooLarge
        return data


def _top(dest: Path) -> Path:
    found = [entry for entry in dest.iterdir() if entry.name not in {"__MACOSX", ".DS_Store"}]
    alone = len(found) == 1 and found[0].is_dir() and not found[0].is_symlink()
    return found[0] if alone else dest
