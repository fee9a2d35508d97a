"""From an entry to a rank's command."""

from pathlib import Path

import pytest

from tesra.node.entry import (
    CALL_ENTRY,
    EntryMissing,
    Parameters,
    command_of,
    parameter_arguments,
    source_roots,
)
from tesra.wire.parameters import checked_format

PYTHON = Path("/env/bin/python")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pkg").mkdir()
    for name in ("train.py", "other.py", "pkg/__init__.py", "pkg/module.py"):
        (tmp_path / name).touch()
    return tmp_path


def command(entry: str | list[str], project: Path) -> list[str]:
    return command_of(
        entry,
        ["--own", "1"],
        Parameters({"lr": 0.1, "wide": True}),
        python=PYTHON,
        workspace=project,
    )


TAIL = ["--lr", "0.1", "--wide", "true", "--own", "1"]


def test_file_runs_as_python_file_with_parameters_before_arguments(project: Path) -> None:
    assert command("train.py", project) == ["/env/bin/python", "train.py", *TAIL]
    assert command("./pkg/module.py", project) == ["/env/bin/python", "pkg/module.py", *TAIL]


def test_dotted_name_runs_as_a_module(project: Path) -> None:
    assert command("pkg.module", project) == ["/env/bin/python", "-m", "pkg.module", *TAIL]


def test_function_and_method_run_through_the_caller(project: Path) -> None:
    for entry in ("train:main", "pkg.module:Trainer.fit"):
        assert command(entry, project) == ["/env/bin/python", str(CALL_ENTRY), entry, *TAIL]


def test_module_below_src_is_found(project: Path) -> None:
    (project / "src" / "below").mkdir(parents=True)
    (project / "src" / "below" / "__init__.py").touch()
    (project / "src" / "below" / "train.py").touch()
    assert command("below.train", project)[1:3] == ["-m", "below.train"]
    assert command("below.train:main", project)[1:3] == [str(CALL_ENTRY), "below.train:main"]
    assert source_roots(project) == [project / "src"]


def test_src_without_packages_is_no_root(project: Path) -> None:
    (project / "src").mkdir()
    (project / "src" / "random.py").touch()
    assert source_roots(project) == []


def test_list_stays_as_it_is(project: Path) -> None:
    assert command(["python", "-u", "train.py"], project) == ["python", "-u", "train.py", *TAIL]


@pytest.mark.parametrize(
    "entry",
    [
        "missing.py",
        "../train.py",
        "/etc/passwd",
        "pkg",
        "no.module",
        "none:main",
        "train:",
        "a b",
        "",
        [],
    ],
)
def test_missing_entry_names_the_files_found(entry: str | list[str], project: Path) -> None:
    with pytest.raises(EntryMissing) as caught:
        command(entry, project)
    if entry:
        assert "other.py, pkg/module.py, train.py" in str(caught.value.way_out)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("--{name} {value}", ["--lr", "0.1", "--text", "a {name} b"]),
        ("--{name}={value}", ["--lr=0.1", "--text=a {name} b"]),
        ("{name}={value}", ["lr=0.1", "text=a {name} b"]),
        ("--set '{name} is {value}'", ["--set", "lr is 0.1", "--set", "text is a {name} b"]),
        ("none", []),
        ("file", ["--config", "/att/my params.json"]),
        ("--cfg={file}", ["--cfg=/att/my params.json"]),
    ],
)
def test_parameters_stand_as_the_format_says(form: str, words: list[str]) -> None:
    values = {"lr": 0.1, "text": "a {name} b"}
    file = Path("/att/my params.json")
    assert parameter_arguments(Parameters(values, checked_format(form), file)) == words
    assert parameter_arguments(Parameters({}, form, file)) == []


@pytest.mark.parametrize(
    "form",
    ["", "--x", "{name}", "{value}", "{name} {value} {file}", "{name.x} {}", "'{name}{value}"],
)
def test_a_format_that_says_nothing_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=r"it takes|quotation marks"):
        checked_format(form)


def test_project_without_python_says_so(tmp_path: Path) -> None:
    with pytest.raises(EntryMissing) as caught:
        command("train.py", tmp_path)
    assert caught.value.way_out == "The project holds no Python file."
