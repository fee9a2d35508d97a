"""``xingpan://PATH`` for everything that opens files by fsspec: pandas, datasets, torch and others.

A file that is read is the same from its opening to its end, whatever is put meanwhile; a file
that is written appears whole when it is closed, or not at all. Needs the package ``fsspec``.
"""

import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fsspec import AbstractFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import AbstractBufferedFile
from fsspec.utils import isfilelike, stringify_path

from tesra.kit import errors
from tesra.sdk.client import Client
from tesra.sdk.private.places import refuse_private
from tesra.wire.files import Copy, DriveEntry, MakeFolder, Move, Remove

BLOCK_BYTES = 4 * 2**20  # what is read ahead; a drive's chunk has a megabyte on average
_CHANGES_AT_ONCE = 500
_KINDS = {"file": "file", "dir": "directory", "link": "link"}


class XingPanFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Your default drive. Address and token as for ``tesra.Client``: given, from the environment
    (``TESRA_URL``, ``TESRA_TOKEN``), or of the stored login."""

    protocol = "xingpan"
    root_marker = "/"

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        home: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(url=url, token=token, home=home, **options)
        self._access = (url, token, home)
        self._clients: dict[int, Client] = {}

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = stringify_path(path).removeprefix("xingpan:")
        refuse_private(text.removeprefix("//"), "xingpan://")
        return "/" + text.strip("/")

    @property
    def client(self) -> Client:
        """Each process has its own: connections do not survive a fork."""
        pid = os.getpid()
        if pid not in self._clients:
            self._clients[pid] = Client(*self._access)
        return self._clients[pid]

    # Looking

    def info(self, path: str, version: int | None = None, **_: Any) -> dict[str, Any]:
        place = self._strip_protocol(path)
        with _as_os_errors(place):
            return _described(self.client.drive_entry(place, version=version))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        place = self._strip_protocol(path)
        with _as_os_errors(place):
            found = [_described(one) for one in self.client.drive_list(place)]
        return found if detail else [one["name"] for one in found]

    def ukey(self, path: str) -> str:
        """Changes with the content, and with nothing else."""
        return str(self.info(path)["ETag"])

    def checksum(self, path: str) -> int:
        return int(self.ukey(path)[:16], 16)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        place = self._strip_protocol(path)
        if start is not None or end is not None:
            found: bytes = super().cat_file(place, start=start, end=end, **options)
            return found
        with _as_os_errors(place):
            return b"".join(self.client.drive_read(place))

    def read_range(self, path: str, start: int, end: int, version: int) -> bytes:
        """Bytes ``start`` up to (not with) ``end`` of a file as it was in a version."""
        if end <= start:
            return b""
        with _as_os_errors(path):
            return self.client.drive_read_range(path, start, end, version=version)

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Callback = DEFAULT_CALLBACK,
        outfile: IO[bytes] | None = None,
        **options: Any,
    ) -> None:
        place = self._strip_protocol(rpath)
        if outfile is not None or isfilelike(lpath):
            super().get_file(place, lpath, callback=callback, outfile=outfile, **options)
            return
        found, target = self.info(place), Path(lpath)
        if found["type"] == "directory":
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        callback.set_size(found["size"])
        part = target.with_name(f".{target.name[:200]}.tesra-part")
        try:
            with _as_os_errors(place), part.open("wb") as file:
                for piece in self.client.drive_read(place):
                    callback.relative_update(file.write(piece))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    # Changing

    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Callback = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **_: Any,
    ) -> None:
        place, source = self._strip_protocol(rpath), Path(lpath)
        if source.is_dir():
            self.makedirs(place, exist_ok=True)
            return
        self._check_target(place, new=mode == "create")
        with _as_os_errors(place):
            self.client.drive_put_file(source, place)
        callback.set_size(source.stat().st_size)
        callback.absolute_update(source.stat().st_size)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        place = self._strip_protocol(path)
        if self.exists(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place)
        if not create_parents and not self.isdir(self._parent(place)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._parent(place))
        self._change(MakeFolder(path=place))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        place = self._strip_protocol(path)
        if not exist_ok and self.exists(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place)
        if place != "/":
            self._change(MakeFolder(path=place))

    def rmdir(self, path: str) -> None:
        place = self._strip_protocol(path)
        if not self.isdir(place):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), place)
        if self.ls(place, detail=False):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), place)
        self._change(Remove(path=place))

    def rm_file(self, path: str) -> None:
        place = self._strip_protocol(path)
        if self.isdir(place):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), place)
        self._change(Remove(path=place))

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Into the drive's trash."""
        if maxdepth is not None:
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        gone = _uppermost(self.expand_path(path))
        if "/" in gone:
            gone = self.ls("/", detail=False)
        if not recursive:
            for place in gone:
                self.rm_file(place)
            return
        for begin in range(0, len(gone), _CHANGES_AT_ONCE):
            batch = gone[begin : begin + _CHANGES_AT_ONCE]
            self._change(*(Remove(path=place) for place in batch))

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """No content is moved."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if source == target:
            return
        if self.isdir(source):
            self.makedirs(target, exist_ok=True)
            return
        self._check_target(target)
        self._change(Copy(path=source, to=target, replace=True))

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **options: Any,
    ) -> None:
        """No content is moved; a folder goes as a whole."""
        if isinstance(path1, list) or maxdepth is not None or any(one in path1 for one in "*?["):
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **options)
            return
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if str(path2).endswith("/") or self.isdir(target):
            target = f"{target.rstrip('/')}/{source.rpartition('/')[2]}"
        if source != target:
            self._change(Move(path=source, to=target, replace=True))

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> "XingPanFile":
        if mode == "rb":
            version = options.pop("version", None) or self._head()
            found = self.info(path, version=version)
            if found["type"] != "file":
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            options |= {"version": version, "size": found["size"]}
        else:
            self._check_target(path, new=mode == "xb")
        return XingPanFile(
            self,
            path,
            mode,
            block_size or BLOCK_BYTES,
            autocommit=autocommit,
            cache_options=cache_options,
            **options,
        )

    def _head(self) -> int:
        with _as_os_errors("/"):
            return self.client.drive_head().version

    def _check_target(self, path: str, *, new: bool = False) -> None:
        """A file does not take the place of a folder."""
        if self.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if new and self.exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)

    def _change(self, *changes: Any) -> None:
        with _as_os_errors(changes[0].path):
            self.client.drive_change(*changes)


class XingPanFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """Reads ranges of one version; what is written waits on this disk until it is closed."""

    DEFAULT_BLOCK_SIZE = BLOCK_BYTES
    _part: Path | None = None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is not None and not self.readable():
            self.discard()
            self.closed = True
            return
        self.close()

    def commit(self) -> None:
        """The file is in the drive when this returns."""
        assert self._part is not None  # made by the first write, which closing is at the latest
        with _as_os_errors(self.path):
            self.fs.client.drive_put_file(self._part, self.path)
        self.discard()

    def discard(self) -> None:
        if self._part is not None:
            shutil.rmtree(self._part.parent, ignore_errors=True)
            self._part = None

    def _fetch_range(self, start: int, end: int) -> bytes:
        found: bytes = self.fs.read_range(self.path, start, end, self.kwargs["version"])
        return found

    def _initiate_upload(self) -> None:
        place = tempfile.mkdtemp(prefix="tesra-write-")
        weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)  # if it is never closed
        self._part = Path(place) / "content"
        self._part.touch()
        if self.mode == "ab" and self.fs.exists(self.path):
            self.fs.get_file(self.path, str(self._part))

    def _upload_chunk(self, final: bool = False) -> None:
        assert self._part is not None
        with self._part.open("ab") as file:
            file.write(self.buffer.getbuffer())
        if final and self.autocommit:
            self.commit()


def _described(entry: DriveEntry) -> dict[str, Any]:
    return {
        "name": entry.path,
        "size": entry.size_bytes,
        "type": _KINDS[entry.kind],
        "executable": entry.executable,
        "ETag": entry.content,
    }


def _uppermost(paths: list[str]) -> list[str]:
    """Without what lies below another of them."""
    kept: list[str] = []
    for path in sorted(paths, key=len):
        if not any(path.startswith(f"{above.rstrip('/')}/") for above in kept):
            kept.append(path)
    return kept


@contextmanager
def _as_os_errors(path: str) -> Iterator[None]:
    """Refusals as Python's own, so that callers of fsspec understand them."""
    try:
        yield
    except errors.NotFound as error:
        raise FileNotFoundError(errno.ENOENT, _words(error), path) from error
    except errors.Conflict as error:
        code = error.fields.get("code", error.code)
        if code == "not_a_folder":
            raise NotADirectoryError(errno.ENOTDIR, _words(error), path) from error
        if code == "something_there":
            raise FileExistsError(errno.EEXIST, _words(error), path) from error
        raise
    except errors.QuotaExceeded as error:
        raise OSError(errno.EDQUOT, _words(error), path) from error
    except (errors.Forbidden, errors.Unauthenticated) as error:
        raise PermissionError(errno.EACCES, _words(error), path) from error


def _words(error: errors.TesraError) -> str:
    return f"{error} {error.way_out or ''}".strip()
