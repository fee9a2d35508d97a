import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from factories.storage import KEYS, MemoryPacks, contents, random_bytes
from tesra.sdk.collect import collected
from tesra.sdk.fetch import fetch_planned
from tesra.storage import archives
from tesra.storage.archives import Limits, unpack
from tesra.storage.progress import silent
from tesra.storage.sending import ChunkSender
from tesra.storage.spooling import spool_archive
from tesra.storage.tree import NameRefused
from tesra.storage.uploading import UploadedTree, upload_folder


def make_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def make_tar(path: Path, *members: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for member in members:
            packed.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(
    name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, to: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, to
    return info


def zip_entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def test_a_zip_with_one_folder_is_that_folder(tmp_path: Path) -> None:
    path = make_zip(
        tmp_path / "a.zip",
        ("proj/a.py", b"a"),
        ("proj/sub/b.txt", b"b" * 9000),
        (zip_entry("proj/run.sh", stat.S_IFREG | 0o755), b"#!"),
        (zip_entry("proj/link", stat.S_IFLNK | 0o777), b"a.py"),
        ("__MACOSX/proj/._a.py", b""),
    )
    root = unpack(path, tmp_path / "out")
    assert root.name == "proj"
    assert contents(root) == {
        "a.py": b"a",
        "link": "a.py",
        "run.sh": b"#!",
        "sub": None,
        "sub/b.txt": b"b" * 9000,
    }
    assert (root / "run.sh").stat().st_mode & 0o100


def test_windows_names_of_chinese_files_are_read_right(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("ab.txt", b"1"), ("x", b""))
    raw = path.read_bytes().replace(b"ab.txt", "数a".encode("gb18030") + b".tx"[:3])
    path.write_bytes(raw)
    assert "数a.tx" in contents(unpack(path, tmp_path / "out"))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_of_every_kind_are_unpacked(tmp_path: Path, mode: str) -> None:
    path = make_tar(
        tmp_path / "a.tar",
        member("./p/a", size=70_000),
        member("./p/b", tarfile.SYMTYPE, to="a"),
        member("./p/c", tarfile.LNKTYPE, to="./p/a"),
        mode=mode,
    )
    assert contents(unpack(path, tmp_path / "out")) == {
        "a": b"x" * 70_000,
        "b": "a",
        "c": b"x" * 70_000,
    }


def test_a_zstd_tar_is_unpacked(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", member("a", size=5), member("b", size=1))
    path.write_bytes(zstandard.compress(path.read_bytes()))
    assert contents(unpack(path, tmp_path / "out")) == {"a": b"xxxxx", "b": b"x"}


def zip_of(name: str) -> Callable[[Path], Path]:
    return lambda path: make_zip(path, (name, b"x"))


def zip_special(name: str, mode: int, content: bytes = b"") -> Callable[[Path], Path]:
    return lambda path: make_zip(path, (zip_entry(name, mode), content))


def tar_of(*members: tarfile.TarInfo) -> Callable[[Path], Path]:
    return lambda path: make_tar(path, *members)


def written(content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def encrypted(path: Path) -> Path:
    make_zip(path, ("a", b"x"))
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    path.write_bytes(data)
    return path


def cut_short(path: Path) -> Path:
    make_tar(path, member("a", size=100_000), mode="w:gz")
    path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (zip_of("../a"), archives.ArchivePathOutside),
        (zip_of("a/../../b"), archives.ArchivePathOutside),
        (zip_of("/etc/x"), archives.ArchivePathOutside),
        (zip_of("..\\a"), archives.ArchivePathOutside),
        (zip_of("C:\\a"), archives.ArchivePathOutside),
        (zip_of("x" * 300), NameRefused),
        (zip_special("l", stat.S_IFLNK | 0o777, b"/etc/passwd"), archives.ArchiveLinkOutside),
        (zip_special("d/l", stat.S_IFLNK | 0o777, b"../../x"), archives.ArchiveLinkOutside),
        (zip_special("dev", stat.S_IFCHR | 0o666), archives.ArchiveDevice),
        (encrypted, archives.ArchiveEncrypted),
        (written(b"this is no zip"), archives.ArchiveUnknown),
        (written(b""), archives.ArchiveUnknown),
        (written(b"PK\x03\x04" + b"x" * 100), archives.ArchiveUnknown),
        (cut_short, archives.ArchiveDamaged),
        (tar_of(member("../a")), archives.ArchivePathOutside),
        (tar_of(member("/a")), archives.ArchivePathOutside),
        (tar_of(member("l", tarfile.SYMTYPE, to="../x")), archives.ArchiveLinkOutside),
        (tar_of(member("l", tarfile.LNKTYPE, to="../x")), archives.ArchivePathOutside),
        (tar_of(member("l", tarfile.LNKTYPE, to="x")), archives.ArchiveDamaged),
        (tar_of(member("f", tarfile.FIFOTYPE)), archives.ArchiveDevice),
        (tar_of(member("c", tarfile.CHRTYPE)), archives.ArchiveDevice),
        (tar_of(member("a"), member("a/b")), archives.ArchiveDamaged),
    ],
)
def test_what_is_not_safe_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], refusal: type[Exception]
) -> None:
    path = make(tmp_path / "archive")
    with pytest.raises(refusal):
        unpack(path, tmp_path / "out")
    assert {entry.name for entry in tmp_path.iterdir()} == {"archive", "out"}
    with io.BytesIO() as file, pytest.raises(refusal):
        spool_archive(path, file)


def test_a_link_is_never_written_through(tmp_path: Path) -> None:
    path = make_tar(
        tmp_path / "a.tar",
        member("d", tarfile.DIRTYPE),
        member("l", tarfile.SYMTYPE, to="d"),
        member("l/x", size=1),
    )
    with pytest.raises(archives.ArchiveDamaged):
        unpack(path, tmp_path / "out")


SMALL = Limits(total_bytes=10_000_000, entries=5, ratio=20, ratio_floor_bytes=10_000)


def test_bombs_are_refused(tmp_path: Path) -> None:
    zeros = make_zip(tmp_path / "zeros.zip", ("a", bytes(5_000_000)))
    large = make_zip(tmp_path / "large.zip", ("a", random_bytes(10_000_001)))
    many = make_zip(tmp_path / "many.zip", *((str(i), b"") for i in range(6)))
    hidden = make_tar(tmp_path / "hidden.tar", member("a", b"Z", size=200_000_000), mode="w:xz")
    for number, path in enumerate((zeros, large, many, hidden)):
        with pytest.raises(archives.ArchiveRefused):
            unpack(path, tmp_path / f"out{number}", SMALL)


def test_a_tar_with_a_huge_header_is_refused(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", member("a", tarfile.XHDTYPE, size=5_000_000), mode="w:gz")
    with pytest.raises(archives.ArchiveRefused):
        unpack(path, tmp_path / "out")


def test_an_archive_is_collected_under_its_name(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "digits.zip", ("p/a.py", b"a"), ("p/.gitignore", b"b"), ("p/b", b""))
    with collected(path) as found:
        assert found.name == "digits"
        assert [file.name for file in found.files] == [".gitignore", "a.py"]


def sent_back(archive: Path, place: Path) -> tuple[Path, UploadedTree]:
    """What is in the drive of an archive's files that lay in one file meanwhile."""
    packs = MemoryPacks()
    with (place / "spool").open("xb+") as file, ChunkSender(packs, KEYS) as sender:
        stored = spool_archive(archive, file).send(sender)
    fetch_planned(packs, packs.plan(stored.root), place / "back", silent)
    return place / "back", stored


def test_files_that_lie_in_one_file_are_stored_as_those_in_a_folder(tmp_path: Path) -> None:
    big = tarfile.TarInfo("p/z/big")
    big.size, big.mode = 3_000_000, 0o755
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:gz") as packed:
        packed.addfile(big, io.BytesIO(random_bytes(3_000_000)))
        for entry in (
            member("./p/图", size=70_000),
            member("p/z.txt", size=10),
            member("p/empty", tarfile.DIRTYPE),
            member("p/b", tarfile.SYMTYPE, to="a"),
            member("p/z/c", tarfile.LNKTYPE, to="./p/图"),
            member("p/none"),
            member("p/z.txt", size=11),
        ):
            packed.addfile(entry, io.BytesIO(b"x" * entry.size))
    back, stored = sent_back(path, tmp_path)
    unpack(path, tmp_path / "out")
    assert contents(back) == contents(tmp_path / "out")
    assert (back / "p/empty").is_dir()
    assert (back / "p/z/big").stat().st_mode & stat.S_IXUSR
    as_folder = upload_folder(MemoryPacks(), KEYS, tmp_path / "out")
    assert (stored.root, stored.file_count, stored.size_bytes) == (
        as_folder.root,
        as_folder.file_count,
        as_folder.size_bytes,
    )


def test_many_files_of_an_archive_are_one_on_the_disk(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", *(member(f"{n % 7}/{n}", size=9) for n in range(5000)))
    place = tmp_path / "place"
    place.mkdir()
    with (place / "spool").open("xb+") as file:
        spool_archive(path, file)
    assert [entry.name for entry in place.rglob("*")] == ["spool"]
    assert (place / "spool").stat().st_size == 9 * 5000


@pytest.mark.parametrize(
    "members",
    [
        (member("a"), member("a/b")),
        (member("a/b"), member("a")),
        (member("a/b"), member("a", tarfile.SYMTYPE, to="c")),
        (member("l", tarfile.LNKTYPE, to="x"),),
        (member("l", tarfile.LNKTYPE, to="d"), member("d", tarfile.DIRTYPE)),
        (member("."),),
    ],
)
def test_what_no_folder_can_hold_is_refused_in_one_file_too(
    tmp_path: Path, members: tuple[tarfile.TarInfo, ...]
) -> None:
    path = make_tar(tmp_path / "a.tar", *members)
    with (tmp_path / "spool").open("xb+") as file, pytest.raises(archives.ArchiveDamaged):
        spool_archive(path, file)
