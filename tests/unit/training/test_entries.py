"""What an entry may name."""

import pytest

from tesra.training.entries import EntryMissing, OutputPathInvalid, check_entry, check_output_path

FILES = {"train.py", "pkg/__init__.py", "pkg/fit.py", "src/lib/__main__.py"}


@pytest.mark.parametrize(
    "entry",
    [
        "train.py",
        "./train.py",
        "train",
        "pkg.fit",
        "pkg.fit:main",
        "pkg.fit:Trainer.run",
        "lib",
        ["python", "x"],
    ],
)
def test_an_entry_that_exists_is_accepted(entry: str | list[str]) -> None:
    check_entry(entry, FILES)


@pytest.mark.parametrize("entry", ["", "  ", "main.py", "pkg.nope", "nope:main", "../train.py", []])
def test_an_entry_that_is_missing_is_refused(entry: str | list[str]) -> None:
    with pytest.raises(EntryMissing):
        check_entry(entry, FILES)


def test_the_error_names_the_scripts_that_are_there() -> None:
    with pytest.raises(EntryMissing) as caught:
        check_entry("main.py", FILES)
    assert "train.py" in (caught.value.way_out or "")


@pytest.mark.parametrize("output", ["", "/tmp/out", "../out", "a/../../b"])
def test_an_output_path_that_leaves_the_project_is_refused(output: str) -> None:
    with pytest.raises(OutputPathInvalid):
        check_output_path(output)
