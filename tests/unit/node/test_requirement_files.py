"""What a project may ask to be installed."""

from pathlib import Path

import pytest

from tesra.node.requirement_files import EnvironmentRefused, checked_packages, project_requirements


def write(folder: Path, text: str, name: str = "requirements.txt") -> Path:
    (folder / name).write_text(text)
    return folder


def test_comments_blank_lines_hashes_and_joined_lines_are_read_as_pip_does(tmp_path: Path) -> None:
    write(
        tmp_path, "# top\n\nsix==1.17.0 \\\n  --hash=sha256:00 --hash=sha256:11\nidna>=3  # why\n"
    )
    assert project_requirements(tmp_path) == ["six==1.17.0", "idna>=3"]


def test_nested_files_of_the_project_are_read(tmp_path: Path) -> None:
    (tmp_path / "deps").mkdir()
    write(tmp_path, "-r deps/base.txt\nsix\n")
    write(tmp_path / "deps", "-r more.txt\n", "base.txt")
    write(tmp_path / "deps", "idna\n", "more.txt")
    assert project_requirements(tmp_path) == ["idna", "six"]


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentRefused, match="too deeply"):
        project_requirements(write(tmp_path, "-r requirements.txt\n"))


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/passwd", "link.txt", "missing.txt"])
def test_nested_file_outside_the_project_is_refused(tmp_path: Path, name: str) -> None:
    project = tmp_path / "project"
    project.mkdir()
    write(tmp_path, "six\n", "outside.txt")
    (project / "link.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(EnvironmentRefused, match="not in the project"):
        project_requirements(write(project, f"-r {name}\n"))


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://example.org/simple",
        "-i https://example.org/simple",
        "--extra-index-url=https://example.org/simple",
        "--find-links /tmp",
        "-f /tmp",
        "-e ../other",
        "--editable=lib",
        "-c constraints.txt",
        "--no-binary :all:",
        "./local",
        "/tmp/local-1.0-py3-none-any.whl",
        "file:///tmp/x.whl",
        "x @ file:///tmp/x.whl",
        "x @ http://example.org/x.whl",
        "x @ git+ssh://example.org/x",
        "https://example.org/x.whl",
    ],
)
def test_everything_but_names_and_wheels_by_https_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(EnvironmentRefused) as caught:
        project_requirements(write(tmp_path, line + "\n"))
    assert caught.value.way_out
    with pytest.raises(EnvironmentRefused):
        checked_packages([line])


def test_dependencies_of_pyproject_count_when_there_is_no_requirements_file(tmp_path: Path) -> None:
    write(tmp_path, "[project]\ndependencies = ['six>=1', 'idna']\n", "pyproject.toml")
    assert project_requirements(tmp_path) == ["six>=1", "idna"]
    write(tmp_path, "attrs\n")
    assert project_requirements(tmp_path) == ["attrs"]


@pytest.mark.parametrize("line", [".", "-e .", "--editable=.", "-e ./"])
def test_project_that_names_itself_gets_what_its_pyproject_needs(tmp_path: Path, line: str) -> None:
    assert project_requirements(write(tmp_path, f"{line}\nattrs\n")) == ["attrs"]
    write(tmp_path, "[project]\ndependencies = ['six>=1']\n", "pyproject.toml")
    assert project_requirements(tmp_path) == ["six>=1", "attrs"]


def test_extras_of_the_project_itself_are_taken_from_its_pyproject(tmp_path: Path) -> None:
    write(
        tmp_path,
        "[project]\ndependencies = ['six']\noptional-dependencies = {train = ['idna']}\n",
        "pyproject.toml",
    )
    assert project_requirements(write(tmp_path, "-e .[train]\n")) == ["six", "idna"]
    with pytest.raises(EnvironmentRefused, match="no extra 'dev'") as caught:
        project_requirements(write(tmp_path, "-e .[dev]\n"))
    assert "train" in str(caught.value.way_out)


@pytest.mark.parametrize(
    "text", ["not toml [", "[project]\ndependencies = 'six'\n", "[project]\ndependencies = [1]\n"]
)
def test_broken_pyproject_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(EnvironmentRefused, match=r"pyproject\.toml"):
        project_requirements(write(tmp_path, text, "pyproject.toml"))


def test_project_without_either_asks_for_nothing(tmp_path: Path) -> None:
    assert project_requirements(tmp_path) == []
    assert project_requirements(write(tmp_path, "[tool.x]\n", "pyproject.toml")) == []


CONDA = """
name: vision
channels: [conda-forge]
dependencies:
  - python=3.11
  - conda-forge::pip>=24
  - pip:
      - six==1.17.0
      - idna>=3
"""


@pytest.mark.parametrize("name", ["environment.yml", "environment.yaml"])
def test_pip_part_of_a_conda_environment_counts_when_nothing_else_does(
    tmp_path: Path, name: str
) -> None:
    write(tmp_path, CONDA, name)
    write(tmp_path, "[tool.x]\n", "pyproject.toml")
    assert project_requirements(tmp_path) == ["six==1.17.0", "idna>=3"]
    write(tmp_path, "attrs\n")
    assert project_requirements(tmp_path) == ["attrs"]


def test_what_the_engine_brings_is_passed_over_in_a_conda_environment(tmp_path: Path) -> None:
    write(
        tmp_path,
        "dependencies: [python=3.9, pytorch=2.1, pytorch::pytorch-cuda=12.1, numpy, {pip: [six]}]\n",
        "environment.yml",
    )
    assert project_requirements(tmp_path) == ["six"]


def test_packages_of_conda_are_refused_by_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        "dependencies: [python, numpy=1.26, pandas, conda-forge::scipy]\n",
        "environment.yml",
    )
    with pytest.raises(EnvironmentRefused, match=r"conda cannot .* \(pandas, scipy\)") as caught:
        project_requirements(tmp_path)
    assert "pip" in str(caught.value.way_out)


@pytest.mark.parametrize(
    "text",
    [
        "dependencies: [",
        "!!python/object/apply:os.system ['true']",
        "dependencies: [{pip: [1]}]",
        "dependencies: [{pip: six}]",
        "dependencies: [{pip: ['-e .']}]",
        "dependencies: [{conda: [six]}]",
        "[" * 5000,
    ],
)
def test_broken_conda_environment_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(EnvironmentRefused, match=r"environment\.yml"):
        project_requirements(write(tmp_path, text, "environment.yml"))


@pytest.mark.parametrize("text", ["", "name: x", "dependencies:", "- six"])
def test_conda_environment_without_packages_asks_for_nothing(tmp_path: Path, text: str) -> None:
    assert project_requirements(write(tmp_path, text, "environment.yml")) == []
