from pathlib import Path

import pytest

from tesra.sdk.collect import SourceMissing, collected
from tesra.storage.cloning import GitUrlRefused, check_git_url, check_own_url, repository_name
from tesra.storage.selection import FolderMissing, select_files


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def chosen(root: Path) -> list[str]:
    return [str(path) for path in select_files(root).files]


def test_what_git_ignores_stays_out_at_every_level(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "a.log", "keep.log", "data/x.bin", "sub/b.log", "sub/c.tmp", "sub/d.py")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/data/\n")
    (tmp_path / "sub" / ".gitignore").write_text("*.tmp\n!b.log\n")
    assert chosen(tmp_path) == [
        ".gitignore",
        "a.py",
        "keep.log",
        "sub/.gitignore",
        "sub/b.log",
        "sub/d.py",
    ]


def test_tesraignore_adds_to_gitignore(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "b.bin")
    (tmp_path / ".tesraignore").write_text("*.bin\n")
    assert chosen(tmp_path) == [".tesraignore", "a.py"]


def test_what_is_rebuilt_anyway_stays_out(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a.py",
        ".git/HEAD",
        "__pycache__/a.pyc",
        "x/.venv/bin/python",
        "venv/y",
        "node_modules/z",
        ".ipynb_checkpoints/n",
        "b.pyc",
    )
    (tmp_path / "x" / "c.py").write_text("")
    assert chosen(tmp_path) == ["a.py", "x/c.py"]


def test_empty_folders_and_links_are_chosen(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "loop").symlink_to(".")
    assert chosen(tmp_path) == ["loop", "out"]


def test_secrets_are_warned_of(tmp_path: Path) -> None:
    make(tmp_path, ".env", "id_rsa", "certs/a.pem", ".env.example")
    assert len(select_files(tmp_path).warnings) == 3
    (tmp_path / ".gitignore").write_text(".env\nid_rsa\n*.pem\n")
    assert select_files(tmp_path).warnings == []


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FolderMissing):
        select_files(tmp_path / "no")


def test_a_folder_is_collected_under_its_name(tmp_path: Path) -> None:
    make(tmp_path / "digits", "a.py")
    with collected(str(tmp_path / "digits")) as found:
        assert (found.name, found.files) == ("digits", [tmp_path / "digits" / "a.py"])


def test_nothing_to_collect_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing), collected(str(tmp_path / "no")):
        pass


@pytest.mark.parametrize(
    "url",
    [
        "git@host:x/y.git",
        "ssh://host/x",
        "file:///etc",
        "/etc",
        "ext::sh -c x",
        "https://",
        "http://h/a b",
        "--upload-pack=x",
    ],
)
def test_only_web_addresses_of_repositories_are_cloned(url: str) -> None:
    with pytest.raises(GitUrlRefused):
        check_git_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://h/a b.git",
        "git@host:x/y.git",
        "ssh://git@host:22/x",
        "git://h/x",
        "file:///我的 库/x.git",
    ],
)
def test_a_users_own_git_clones_whatever_it_can_reach(url: str) -> None:
    assert check_own_url(url) == url


@pytest.mark.parametrize("url", ["ext::sh -c x", "https://-oops", "https://", "--x@y:z", "a@-b:c"])
def test_what_is_no_repository_is_refused_to_a_users_own_git_too(url: str) -> None:
    with pytest.raises(GitUrlRefused):
        check_own_url(url)


def test_a_repository_is_called_by_the_end_of_its_address() -> None:
    assert repository_name("git@host:digits.git") == "digits"
    assert repository_name("file:///a/%E5%BA%93.git") == "库"
    assert repository_name("https://h/a/digits.git") == "digits"
    assert repository_name("https://h/a/digits/") == "digits"
