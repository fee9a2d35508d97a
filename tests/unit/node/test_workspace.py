"""The folders of an attempt, and reading what strangers left in them."""

import os
import socket
from pathlib import Path

import pytest

from tesra.node.workspace import (
    AttemptFolders,
    OutputOutside,
    hand_over,
    output_files,
    prepare,
    remove,
    size_bytes,
)


def folders_for(tmp_path: Path, output: str = "out") -> AttemptFolders:
    folders = prepare(tmp_path / "attempts", "att_1", output)
    hand_over(folders)
    return folders


def test_folders_are_made_private_with_the_output_ready(tmp_path: Path) -> None:
    folders = folders_for(tmp_path, "models/v1")
    assert folders.output_path.is_dir()
    assert folders.root.stat().st_mode & 0o077 == 0


def test_output_named_like_a_file_is_not_made_a_folder(tmp_path: Path) -> None:
    folders = folders_for(tmp_path, "models/model.pt")
    assert folders.output_path.parent.is_dir()
    assert not folders.output_path.exists()
    folders.output_path.write_text("weights")
    output = output_files(folders)
    assert [file.path for file in output.files] == ["model.pt"]
    assert output.root == folders.output_path.parent


@pytest.mark.parametrize("output", ["../out", "/out", "a/../../out", "", "  ", "a\0b"])
def test_output_outside_the_project_is_refused(tmp_path: Path, output: str) -> None:
    with pytest.raises(OutputOutside):
        prepare(tmp_path, "att_1", output)


def test_output_is_listed_with_its_folders(tmp_path: Path) -> None:
    folders = folders_for(tmp_path)
    (folders.output_path / "deep").mkdir()
    (folders.output_path / "deep" / "model.pt").write_bytes(b"12345")
    (folders.output_path / "latest").symlink_to("deep/model.pt")
    output = output_files(folders)
    found = [(file.path, file.kind, file.size_bytes, file.target) for file in output.files]
    assert found == [
        ("deep", "dir", 0, None),
        ("deep/model.pt", "file", 5, None),
        ("latest", "link", 0, "deep/model.pt"),
    ]
    assert output.warnings == []
    assert size_bytes(folders.output_path) == 5


def test_links_that_leave_and_special_files_are_skipped_and_told(tmp_path: Path) -> None:
    folders = folders_for(tmp_path)
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "key").write_text("secret")
    (folders.output_path / "absolute").symlink_to(outside / "key")
    (folders.output_path / "folder").symlink_to(outside)
    (folders.output_path / "up").symlink_to("../../../../secret/key")
    os.mkfifo(folders.output_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        old = Path.cwd()
        os.chdir(folders.output_path)
        try:
            listener.bind("socket")
        finally:
            os.chdir(old)
    (folders.output_path / "model").touch()
    output = output_files(folders)
    assert [file.path for file in output.files] == ["model"]
    assert len(output.warnings) == 5
    assert any("'pipe' (neither a file nor a folder)" in warning for warning in output.warnings)


@pytest.mark.parametrize("swapped", ["a", "a/b"])
def test_output_path_that_became_a_link_is_not_read(tmp_path: Path, swapped: str) -> None:
    folders = folders_for(tmp_path, "a/b")
    (tmp_path / "secret" / "b").mkdir(parents=True)
    (tmp_path / "secret" / "b" / "key").touch()
    folders.output_path.rmdir()
    if swapped == "a":
        (folders.work / "a").rmdir()
        (folders.work / "a").symlink_to(tmp_path / "secret")
    else:
        folders.output_path.symlink_to(tmp_path / "secret" / "b")
    output = output_files(folders)
    assert output.files == []
    assert "symbolic link" in output.warnings[0]


def test_project_with_a_link_as_its_output_makes_no_folder_elsewhere(tmp_path: Path) -> None:
    folders = prepare(tmp_path / "attempts", "att_1", "out/deep")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folders.work / "out").symlink_to(elsewhere)
    hand_over(folders)
    assert list(elsewhere.iterdir()) == []


def test_missing_and_empty_output_are_no_files(tmp_path: Path) -> None:
    folders = folders_for(tmp_path)
    (folders.output_path / "empty").mkdir()
    assert output_files(folders).files == []
    (folders.output_path / "empty").rmdir()
    folders.output_path.rmdir()
    assert output_files(folders).files == []


def test_removing_deletes_links_and_not_what_they_name(tmp_path: Path) -> None:
    folders = folders_for(tmp_path)
    (tmp_path / "kept").write_text("x")
    (folders.work / "link").symlink_to(tmp_path / "kept")
    remove(folders)
    remove(folders)
    assert not folders.root.exists()
    assert (tmp_path / "kept").exists()
