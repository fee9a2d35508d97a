import os
import socket
import unicodedata
from pathlib import Path

import pytest

from factories.storage import KEYS, MemoryPacks, contents, pack_of, random_bytes, sample_folder
from tesra.kit.errors import Conflict
from tesra.sdk import fetch
from tesra.sdk.clashes import NamesClash, name_form
from tesra.sdk.fetch import fetch_planned
from tesra.sdk.landing import AlreadyFetching, InTheWay, landing
from tesra.storage.format import ChunkBroken
from tesra.storage.listing import PathOutside
from tesra.storage.progress import Progress, silent
from tesra.storage.tree import Link, NameRefused, NodeWriter, TreeBroken
from tesra.storage.uploading import upload_folder
from tesra.wire.drive import ReadPlan


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return sample_folder(tmp_path / "source")


def test_a_folder_comes_back_as_it_was(source: Path, tmp_path: Path) -> None:
    packs = MemoryPacks()
    tree = upload_folder(packs, KEYS, source)
    fetch_planned(packs, packs.plan(tree.root), tmp_path / "dest", silent)
    assert contents(tmp_path / "dest") == contents(source)
    assert os.access(tmp_path / "dest" / "run.sh", os.X_OK)
    assert not os.access(tmp_path / "dest" / "train.py", os.X_OK)
    assert tree.file_count == 6
    assert tree.size_bytes == sum(len(c) for c in contents(source).values() if isinstance(c, bytes))


def test_an_unchanged_folder_sends_nothing_and_has_the_same_root(source: Path) -> None:
    packs = MemoryPacks()
    first = upload_folder(packs, KEYS, source)
    sent = set(packs.packs)
    os.utime(source / "big.bin", (1, 1))
    second = upload_folder(packs, KEYS, source)
    assert (second.root, second.moved_bytes) == (first.root, 0)
    assert set(packs.packs) == sent


def test_a_small_change_sends_little(source: Path) -> None:
    packs = MemoryPacks()
    upload_folder(packs, KEYS, source)
    (source / "train.py").write_text("print('other')\n")
    assert 0 < upload_folder(packs, KEYS, source).moved_bytes < 10_000


def test_a_known_folder_is_asked_about_in_few_questions(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(random_bytes(60_000_000))
    packs = MemoryPacks()
    upload_folder(packs, KEYS, tmp_path)
    packs.asked.clear()
    upload_folder(packs, KEYS, tmp_path)
    assert len(packs.asked) <= 5


def test_only_chosen_files_are_stored(source: Path, tmp_path: Path) -> None:
    packs = MemoryPacks()
    chosen = [Path("train.py"), source / "sub" / "link", Path("empty")]
    tree = upload_folder(packs, KEYS, source, files=chosen)
    fetch_planned(packs, packs.plan(tree.root), tmp_path / "dest", silent)
    assert list(contents(tmp_path / "dest")) == ["empty", "sub", "sub/link", "train.py"]


def test_paths_are_found_below_a_folder_that_is_written_with_dots(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    root = (Path("..") / source.name).absolute()
    packs = MemoryPacks()
    tree = upload_folder(packs, KEYS, root, files=[root / "train.py"])
    fetch_planned(packs, packs.plan(tree.root), tmp_path / "dest", silent)
    assert list(contents(tmp_path / "dest")) == ["train.py"]


def test_a_path_outside_of_the_folder_is_refused(source: Path) -> None:
    with pytest.raises(PathOutside):
        upload_folder(MemoryPacks(), KEYS, source, files=[Path("../other")])


def test_links_out_and_sockets_are_left_out_with_a_warning(source: Path, tmp_path: Path) -> None:
    (source / "out").symlink_to("/etc/passwd")
    (source / "absolute").symlink_to(source / "train.py")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(source / "socket"))
    warnings: list[str] = []
    packs = MemoryPacks()
    tree = upload_folder(packs, KEYS, source, warn=warnings.append)
    listening.close()
    fetch_planned(packs, packs.plan(tree.root), tmp_path / "dest", silent)
    found = contents(tmp_path / "dest")
    assert found["absolute"] == "train.py"
    assert "out" not in found
    assert "socket" not in found
    assert len(warnings) == 2


def test_what_is_there_already_is_not_fetched_again(source: Path, tmp_path: Path) -> None:
    packs = MemoryPacks()
    plan = packs.plan(upload_folder(packs, KEYS, source).root)
    fetch_planned(packs, packs.plan(bytes.fromhex(plan.root)), tmp_path / "dest", silent)
    seen: list[Progress] = []
    fetch_planned(packs, packs.plan(bytes.fromhex(plan.root)), tmp_path / "dest", seen.append)
    assert seen[-1].moved_bytes == 0
    (tmp_path / "dest" / "big.bin").write_bytes(random_bytes(5_000_000, seed=9))
    fetch_planned(packs, packs.plan(bytes.fromhex(plan.root)), tmp_path / "dest", silent)
    assert contents(tmp_path / "dest") == contents(source)


def test_a_node_that_has_no_id_key_fetches_too(source: Path, tmp_path: Path) -> None:
    packs = MemoryPacks()
    tree = upload_folder(packs, KEYS, source)
    plan = packs.plan(tree.root, with_id_key=False)
    for _ in range(2):
        fetch_planned(packs, plan, tmp_path / "dest", silent)
        assert contents(tmp_path / "dest") == contents(source)


def test_a_changed_pack_is_never_delivered(source: Path, tmp_path: Path) -> None:
    packs = MemoryPacks()
    tree = upload_folder(packs, KEYS, source)
    good = dict(packs.packs)
    for pack_id, data in good.items():
        middle = len(data) // 2
        packs.packs[pack_id] = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    with pytest.raises(ChunkBroken):
        fetch_planned(packs, packs.plan(tree.root), tmp_path / "dest", silent)
    assert not (tmp_path / "dest" / "big.bin").exists()
    packs.packs = good
    fetch_planned(packs, packs.plan(tree.root), tmp_path / "dest", silent)
    assert contents(tmp_path / "dest") == contents(source)


class CutOff(Exception):
    """The connection is gone."""


class MortalPacks(MemoryPacks):
    """Gives so many bytes of packs, then nothing any more."""

    def __init__(self, packs: MemoryPacks, most_bytes: int) -> None:
        super().__init__()
        self.packs = packs.packs
        self.left_bytes = most_bytes

    def read_pack(self, pack_id: str, start: int, end: int) -> bytes:
        if self.left_bytes < 0:
            raise CutOff
        self.left_bytes -= end - start
        return super().read_pack(pack_id, start, end)


LARGE = 36_000_000


@pytest.fixture
def cut_off(tmp_path: Path) -> tuple[MemoryPacks, ReadPlan, Path]:
    """The packs of one large file, the plan to read it, and where half of it is."""
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "a.bin").write_bytes(random_bytes(LARGE))
    packs, dest = MemoryPacks(), tmp_path / "dest"
    plan = packs.plan(upload_folder(packs, KEYS, tmp_path / "large").root)
    with pytest.raises(CutOff):
        fetch_planned(MortalPacks(packs, LARGE // 2), plan, dest, silent)
    assert [path.name for path in dest.iterdir()] == [".tesra-fetch"]
    return packs, plan, dest


def fetched_bytes(packs: MemoryPacks, plan: ReadPlan, dest: Path) -> int:
    """What had to be moved until all of it was there."""
    seen: list[Progress] = []
    fetch_planned(packs, plan, dest, seen.append)
    assert (dest / "a.bin").read_bytes() == random_bytes(LARGE)
    assert [path.name for path in dest.iterdir()] == ["a.bin"]
    assert seen[-1].done_bytes == LARGE
    return seen[-1].moved_bytes


def test_a_large_file_goes_on_from_what_is_there(
    cut_off: tuple[MemoryPacks, ReadPlan, Path],
) -> None:
    assert 0 < fetched_bytes(*cut_off) < 0.7 * LARGE


def test_what_is_there_of_a_large_file_is_looked_at_before_it_counts(
    cut_off: tuple[MemoryPacks, ReadPlan, Path],
) -> None:
    (left,) = (cut_off[2] / ".tesra-fetch").iterdir()
    left.write_bytes(random_bytes(left.stat().st_size, seed=9))
    assert fetched_bytes(*cut_off) == LARGE


def test_a_file_that_is_whole_but_for_its_name_is_not_fetched_again(
    cut_off: tuple[MemoryPacks, ReadPlan, Path],
) -> None:
    (left,) = (cut_off[2] / ".tesra-fetch").iterdir()
    left.write_bytes(random_bytes(LARGE))
    assert fetched_bytes(*cut_off) == 0


@pytest.mark.parametrize("longer", [False, True])
def test_other_peoples_files_in_the_place_of_what_was_left_are_not_written_to(
    cut_off: tuple[MemoryPacks, ReadPlan, Path], tmp_path: Path, longer: bool
) -> None:
    (left,) = (cut_off[2] / ".tesra-fetch").iterdir()
    victim = tmp_path / "victim"
    precious = b"precious" * (LARGE // 4 if longer else 1)
    victim.write_bytes(precious)
    for plant in (left.symlink_to, left.hardlink_to):
        left.unlink()
        plant(victim)
        assert fetched_bytes(*cut_off) == LARGE
        assert victim.read_bytes() == precious
        (cut_off[2] / "a.bin").unlink()
        left.parent.mkdir()
        left.touch()


def test_a_link_that_lies_in_wait_is_not_written_through(source: Path, tmp_path: Path) -> None:
    packs = MemoryPacks()
    tree = upload_folder(packs, KEYS, source)
    victim, dest = tmp_path / "victim", tmp_path / "dest"
    victim.mkdir()
    dest.mkdir()
    (dest / "train.py").symlink_to(victim / "file")
    (dest / "sub").symlink_to(victim)
    with pytest.raises(InTheWay):
        fetch_planned(packs, packs.plan(tree.root), dest, silent)
    assert list(victim.iterdir()) == []


def test_a_lying_tree_writes_nothing_outside(tmp_path: Path) -> None:
    packs = MemoryPacks()
    writer = NodeWriter()
    list(writer.add(Link("out", "../../etc")))
    (node,) = writer.finish()
    root = KEYS.chunk_id(node)
    pack = pack_of(node)
    packs.keep(pack.id, pack.data)
    with pytest.raises(NameRefused):
        fetch_planned(packs, packs.plan(root), tmp_path / "dest", silent)


def test_a_plan_that_lacks_a_chunk_is_refused(source: Path, tmp_path: Path) -> None:
    packs = MemoryPacks()
    plan = packs.plan(upload_folder(packs, KEYS, source).root)
    del plan.chunks[plan.root]
    with pytest.raises(TreeBroken):
        fetch_planned(packs, plan, tmp_path / "dest", silent)


def test_two_downloads_into_one_folder_do_not_mix(tmp_path: Path) -> None:
    with landing(tmp_path / "dest"), pytest.raises(AlreadyFetching), landing(tmp_path / "dest"):
        pass


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path: Path) -> None:
    """Bytes that were let go of are read again; when they are others by then, nothing is stored."""
    (tmp_path / "known").write_bytes(random_bytes(30_000_000))
    packs = MemoryPacks()
    upload_folder(packs, KEYS, tmp_path)
    changing = tmp_path / "later"
    changing.write_bytes(random_bytes(3_000_000, seed=2))

    class Changing(MemoryPacks):
        def missing(self, ids: list[bytes]) -> set[bytes]:
            found = packs.missing(ids)
            if found:
                changing.write_bytes(random_bytes(3_000_000, seed=3))
            return found

    with pytest.raises(Conflict):
        upload_folder(Changing(), KEYS, tmp_path)


def by_case(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def test_names_that_one_disk_can_not_both_hold_are_told_and_nothing_is_written_over(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk of a Mac or of Windows would do is said here by ``name_form`` alone."""
    clashing = tmp_path / "clashing"
    for name in ("README", "Readme", "caf\u00e9", "cafe\u0301", "Data/a", "data/b", "other"):
        (clashing / name).parent.mkdir(parents=True, exist_ok=True)
        (clashing / name).write_text(name)
    packs = MemoryPacks()
    plan = packs.plan(upload_folder(packs, KEYS, clashing).root)
    fetch_planned(packs, plan, tmp_path / "tells apart", silent)
    assert contents(tmp_path / "tells apart") == contents(clashing)

    monkeypatch.setattr(fetch, "name_form", lambda _: by_case)
    with pytest.raises(NamesClash) as refusal:
        fetch_planned(packs, plan, tmp_path / "one", silent)
    assert set(contents(tmp_path / "one")) == {"README", "cafe\u0301", "Data", "Data/a", "other"}
    for words in ("'Readme' (beside 'README')", "'data' (beside 'Data')", r"caf\xe9", r"e\u0301"):
        assert words in refusal.value.detail
    assert "tesra drive mv" in (refusal.value.way_out or "")


def test_a_disk_is_asked_how_it_compares_names(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    form = name_form(tmp_path)
    if (tmp_path / "A").exists():
        assert form is not None
        assert form("A") == form("a")
    else:
        assert form is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
