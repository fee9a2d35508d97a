"""AI engines as data: what ships, what the operator adds, what a user may ask for."""

from pathlib import Path

import pytest

from tesra.node.announce import _WAYS
from tesra.training.engines.catalog import (
    EngineCatalog,
    EngineFileInvalid,
    EngineUnknown,
    read_engines,
)

TOY = """
title = "Toy"
announce = "none"
default = "2.0"
default_backend = "a"
env = { ALL = "1", WINS = "engine" }
[versions."1.0"]
python = ">=3.10"
requirements = ["toy==1.0"]
[versions."1.10"]
python = ">=3.10"
requirements = ["toy==1.10"]
[versions."1.9"]
python = ">=3.10"
requirements = ["toy==1.9"]
[versions."2.0"]
python = ">=3.10"
requirements = ["toy==2.0"]
gang_env = { MANY = "1" }
links = [{ from = "a/*.so", to = "b/c.so" }]
[versions."2.0".backends.a]
requirements = ["a==1"]
gpu = { requirements = ["a-gpu==1"] }
[versions."2.0".backends.b]
requirements = ["b==1"]
announce = "torch"
env = { WINS = "backend" }
"""


def write(folder: Path, text: str, name: str = "toy.toml") -> Path:
    (folder / name).write_text(text)
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> EngineCatalog:
    return read_engines(write(tmp_path, TOY))


def test_five_engines_ship_and_their_gangs_can_be_announced() -> None:
    catalog = read_engines()
    names = [engine.name for engine in catalog.engines()]
    assert names == ["jax", "keras", "mxnet", "pytorch", "tensorflow"]
    for engine in catalog.engines():
        for version in engine.versions:
            for backend in engine.versions[version].backends or [None]:
                spec = catalog.resolve(f"{engine.name}=={version}", backend)
                assert spec.announce in _WAYS
                assert spec.requirements


def test_keras_runs_on_the_backend_that_is_asked_for() -> None:
    catalog = read_engines()
    assert catalog.resolve("keras").backend == "jax"
    torch = catalog.resolve("keras", "torch")
    assert (torch.announce, torch.env["KERAS_BACKEND"]) == ("torch", "torch")
    assert any(line.startswith("torch==") for line in torch.requirements)


def test_engine_of_the_operators_folder_stands_beside_the_shipped(catalog: EngineCatalog) -> None:
    assert {"toy", "pytorch"} <= {engine.name for engine in catalog.engines()}
    spec = catalog.resolve("toy")
    assert (spec.version, spec.backend, spec.requirements) == ("2.0", "a", ["toy==2.0", "a==1"])
    assert (spec.env, spec.gang_env) == ({"ALL": "1", "WINS": "engine"}, {"MANY": "1"})
    assert (spec.links[0].source, spec.links[0].target) == ("a/*.so", "b/c.so")


def test_operators_file_replaces_the_shipped_one(tmp_path: Path) -> None:
    catalog = read_engines(write(tmp_path, TOY, "pytorch.toml"))
    assert catalog.resolve("pytorch").requirements == ["toy==2.0", "a==1"]


def test_backend_changes_requirements_announcement_and_variables(catalog: EngineCatalog) -> None:
    spec = catalog.resolve("toy==2.0", "B")
    assert (spec.requirements, spec.announce) == (["toy==2.0", "b==1"], "torch")
    assert spec.env["WINS"] == "backend"


def test_gpu_requirements_replace_only_their_own_part(catalog: EngineCatalog) -> None:
    assert catalog.resolve("toy").gpu_requirements == ["toy==2.0", "a-gpu==1"]
    assert catalog.resolve("toy", "b").gpu_requirements is None


def test_part_of_a_version_means_the_newest_of_it(catalog: EngineCatalog) -> None:
    assert catalog.resolve("toy==1").version == "1.10"
    assert catalog.resolve("Toy == 1.9").version == "1.9"


@pytest.mark.parametrize(
    ("engine", "backend", "said"),
    [
        ("theano", None, "no AI engine 'theano'"),
        ("toy==3", None, "Toy 3 is not on offer"),
        ("toy", "c", "no backend 'c'"),
        ("toy==1.0", "a", "no backends"),
    ],
)
def test_what_is_not_on_offer_is_refused_with_the_offer(
    catalog: EngineCatalog, engine: str, backend: str | None, said: str
) -> None:
    with pytest.raises(EngineUnknown, match=said) as caught:
        catalog.resolve(engine, backend)
    assert caught.value.way_out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "Toy"', "title = ", "not TOML"),
        ('title = "Toy"', "", "title"),
        ('default = "2.0"', 'default = "3.0"', "3.0 is not among"),
        ('default_backend = "a"', "", "default_backend"),
        ('"toy==1.0"', '"toy>=1.0"', "not pinned"),
        ('"toy==1.0"', '"-e ."', "not a requirement"),
        ('python = ">=3.10"', 'python = "3.10 or so"', "range of Python"),
        ('to = "b/c.so"', 'to = "../c.so"', "leaves the environment"),
        ("gang_env", "gangenv", "gangenv"),
    ],
)
def test_bad_file_is_named_with_what_is_wrong_in_it(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    write(tmp_path, TOY.replace(old, new, 1))
    with pytest.raises(EngineFileInvalid, match=said) as caught:
        read_engines(tmp_path)
    assert str(tmp_path / "toy.toml") in caught.value.detail
    assert caught.value.way_out


def test_file_named_after_no_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineFileInvalid, match="named after no engine"):
        read_engines(write(tmp_path, TOY, "My Engine.toml"))


def test_folder_that_does_not_exist_adds_nothing(tmp_path: Path) -> None:
    assert len(read_engines(tmp_path / "none").engines()) == 5
