"""Archives from strangers are unpacked into a fresh folder, or refused with a reason.

While files are written the folder holds no link, so no name can lead out of it; links are made at
the end, and only those that stay inside. What comes out is counted as it is written, never taken
from what the archive says of itself.
"""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

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


def unpack(archive: Path, dest: Path, limits: Limits | None = None) -> Path:
    """Unpack into the new folder ``dest`` and return where the content begins.

    That is ``dest``, or the one folder in it when there is nothing beside it. Raises a kind of
    ``ArchiveRefused``; ``dest`` may hold a part by then and is the caller's to remove.
    """
    dest.mkdir()
    unpacking = _Unpacking(dest, archive.stat().st_size, limits or Limits())
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
    return _top(dest)


class _Unpacking:
    """Writes into one folder and keeps count."""

    def __init__(self, dest: Path, archive_bytes: int, limits: Limits) -> None:
        self._dest = dest
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
        self._make_folder(self._dest / path)

    def file(self, path: PurePosixPath, content: IO[bytes], *, executable: bool) -> None:
        target = self._free(path)
        with target.open("xb") as out:
            while block := content.read(_BLOCK_BYTES):
                self.take(len(block))
                out.write(block)
        target.chmod(0o755 if executable else 0o644)

    def link(self, path: PurePosixPath, target: str) -> None:
        """Made at the end."""
        if not link_stays_inside(len(path.parts) - 1, target):
            raise ArchiveLinkOutside(f"The link '{path}' leads to '{target[:200]}'.")
        self._links.append((path, target))

    def same(self, path: PurePosixPath, other: PurePosixPath) -> None:
        """A hard link to a file that came before."""
        source = self._dest / other
        if not source.is_file():
            raise ArchiveDamaged(
                f"'{path}' is a hard link to '{other}', which did not come before."
            )
        target = self._free(path)
        if target != source:
            self.take(source.stat().st_size)
            shutil.copy(source, target)

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
            place = self._free(path)
            if place.is_symlink():
                place.unlink()
            place.symlink_to(target)

    def _free(self, path: PurePosixPath) -> Path:
        """The place for a file; an earlier file of that name gives way."""
        if not path.parts:
            raise ArchiveDamaged("An entry has no name.")
        target = self._dest / path
        self._make_folder(target.parent)
        if target.is_dir() and not target.is_symlink():
            raise ArchiveDamaged(f"'{path}' is both a folder and a file.")
        target.unlink(missing_ok=True)
        return target

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            shown = folder.relative_to(self._dest)
            raise ArchiveDamaged(f"'{shown}' is both a folder and a file.") from error


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
