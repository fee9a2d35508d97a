"""Environments built by the real uv, from wheels made here: no index is asked."""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from factories.wheels import make_source_archive, make_wheel
from tesra.node.environments import Environment, EnvironmentBuilder, EnvironmentRefused
from tesra.wire.site import EngineLink, EngineSpec


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"file://{tmp_path}/empty")
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    make_wheel(folder, "base", "1.0")
    make_wheel(folder, "base", "2.0")
    make_wheel(folder, "extra", "1.0", requires=("base>=1",))
    make_wheel(folder, "picky", "1.0", requires=("base>=2",))
    return folder


@pytest.fixture
def builder(wheels: Path, tmp_path: Path) -> EnvironmentBuilder:
    return EnvironmentBuilder(tmp_path / "cache", gpu=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


ENGINE = EngineSpec(
    name="toy", version="1", requirements=["base==1.0"], python=">=3.11", announce="none"
)


def ask(environment: Environment, code: str) -> str:
    done = subprocess.run(
        [environment.python, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


async def build(builder: EnvironmentBuilder, project: Path, *packages: str) -> Environment:
    return await builder.ensure(ENGINE, packages, project, lambda _line: None)


async def test_engine_and_project_and_packages_are_installed_together(
    builder: EnvironmentBuilder, wheels: Path, project: Path
) -> None:
    make_wheel(wheels, "more")
    (project / "requirements.txt").write_text("extra  # needed\n")
    environment = await build(builder, project, "more")
    assert environment.lock.split() == ["base==1.0", "extra==1.0", "more==1.0"]
    assert ask(environment, "import base, extra, more; print(base.version)") == "1.0"


async def test_second_time_is_warm_and_starts_no_process(
    builder: EnvironmentBuilder, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not builder.is_warm(ENGINE, [], project)
    built = await build(builder, project)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", None)
    assert builder.is_warm(ENGINE, [], project)
    assert await build(builder, project) == built


async def test_changed_requirements_are_another_environment(
    builder: EnvironmentBuilder, project: Path
) -> None:
    first = await build(builder, project)
    (project / "requirements.txt").write_text("extra\n")
    second = await build(builder, project)
    assert first.key != second.key
    assert first.python.exists()


async def test_pyproject_dependencies_count_without_a_requirements_file(
    builder: EnvironmentBuilder, project: Path
) -> None:
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\ndependencies = ['extra>=1']\n")
    assert "extra==1.0" in (await build(builder, project)).lock


async def test_requirement_against_the_engines_pin_is_refused_in_uvs_words(
    builder: EnvironmentBuilder, project: Path, tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentRefused) as caught:
        await build(builder, project, "picky")
    assert "picky" in caught.value.detail
    assert "together" in caught.value.detail
    assert "base" in caught.value.detail
    assert str(tmp_path) not in caught.value.detail
    assert await build(builder, project)  # the node is unharmed
    assert len(list((tmp_path / "cache" / "environments").glob("*/"))) == 1


async def test_package_that_does_not_exist_is_named(
    builder: EnvironmentBuilder, project: Path
) -> None:
    with pytest.raises(EnvironmentRefused, match="nosuchpackage"):
        await build(builder, project, "nosuchpackage")


async def test_package_without_a_wheel_is_never_built(
    builder: EnvironmentBuilder, wheels: Path, project: Path
) -> None:
    make_source_archive(wheels, "sourceonly")
    with pytest.raises(EnvironmentRefused, match="no ready-made wheel") as caught:
        await build(builder, project, "sourceonly")
    assert "the build ran" not in caught.value.detail
    assert "wheel" in str(caught.value.way_out)


async def test_no_code_of_a_package_runs_while_it_is_installed(
    builder: EnvironmentBuilder, wheels: Path, project: Path, tmp_path: Path
) -> None:
    """A .pth file runs at the start of every interpreter of its environment: ours must not be one."""
    mark = tmp_path / "ran"
    make_wheel(
        wheels, "sly", files={"sly.pth": f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n"}
    )
    environment = await build(builder, project, "sly")
    assert not mark.exists()
    assert (environment.root / "lib").exists()
    ask(environment, "pass")
    assert mark.exists(), "the trap itself works"


async def test_byte_code_is_there_and_taken_over_by_the_next(
    builder: EnvironmentBuilder, project: Path
) -> None:
    first = await build(builder, project)
    second = await build(builder, project, "extra")
    codes = [next(environment.root.rglob("base.*.pyc")) for environment in (first, second)]
    assert codes[0].stat().st_ino == codes[1].stat().st_ino
    assert next(second.root.rglob("extra.*.pyc"))


async def test_everybody_may_read_an_environment(
    builder: EnvironmentBuilder, project: Path
) -> None:
    previous = os.umask(0o077)
    try:
        environment = await build(builder, project)
    finally:
        os.umask(previous)
    for folder, _folders, files in os.walk(environment.root):
        assert Path(folder).stat().st_mode & 0o005 == 0o005, folder
        assert all((Path(folder) / name).lstat().st_mode & 0o004 for name in files)


async def test_rubble_of_a_build_that_was_cut_off_is_cleared(
    builder: EnvironmentBuilder, project: Path, tmp_path: Path
) -> None:
    built = await build(builder, project)
    (built.root.parent / "ready").unlink()
    (built.root / "rubble").touch()
    assert not builder.is_warm(ENGINE, [], project)
    assert await build(builder, project) == built
    assert not (built.root / "rubble").exists()


async def test_two_at_once_build_once(
    builder: EnvironmentBuilder, project: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    other = EnvironmentBuilder(tmp_path / "cache", gpu=False)
    one, two = await asyncio.gather(
        *(each.ensure(ENGINE, [], project, lines.append) for each in (builder, other))
    )
    assert one == two
    assert sum("Building" in line for line in lines) == 1
    assert any(line.startswith("Waiting") for line in lines)


async def test_cancelled_build_leaves_no_lock(builder: EnvironmentBuilder, project: Path) -> None:
    begun = asyncio.Event()
    building = asyncio.create_task(builder.ensure(ENGINE, [], project, lambda _line: begun.set()))
    await begun.wait()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert not builder.is_warm(ENGINE, [], project)
    assert await asyncio.wait_for(build(builder, project), 30)


async def test_link_that_an_engine_asks_for_leads_to_the_file(
    builder: EnvironmentBuilder, wheels: Path, project: Path
) -> None:
    make_wheel(wheels, "lib", files={"lib.libs/libx-12ab.so.0": "x"})
    link = EngineLink(source="lib.libs/libx*.so*", target="lib/libx.so.0")
    make_wheel(wheels, "user", files={"lib/__init__.py": ""})
    engine = ENGINE.model_copy(update={"requirements": ["lib==1.0", "user==1.0"], "links": [link]})
    environment = await builder.ensure(engine, [], project, print)
    made = environment.packages / "lib" / "libx.so.0"
    assert made.is_symlink()
    assert made.read_text() == "x"
    missing = [EngineLink(source="none*.so", target="a.so")]
    with pytest.raises(EnvironmentRefused, match=r"no file none\*\.so"):
        await builder.ensure(engine.model_copy(update={"links": missing}), [], project, print)


async def test_node_with_gpus_takes_the_engines_list_for_them(
    builder: EnvironmentBuilder, project: Path, tmp_path: Path
) -> None:
    engine = ENGINE.model_copy(update={"gpu_requirements": ["base==2.0"]})
    with_gpus = EnvironmentBuilder(tmp_path / "cache", gpu=True)
    assert "base==2.0" in (await with_gpus.ensure(engine, [], project, print)).lock
    assert "base==1.0" in (await builder.ensure(engine, [], project, print)).lock


async def test_what_is_warm_is_known_with_its_size_to_other_builders_too(
    builder: EnvironmentBuilder, project: Path, tmp_path: Path
) -> None:
    other = EnvironmentBuilder(tmp_path / "cache", gpu=False)
    assert builder.warm() == other.warm() == ()
    await build(builder, project)
    (warm,) = builder.warm()
    assert (warm.name, warm.version, warm.backend) == ("toy", "1", None)
    assert warm.size_bytes > 0
    await build(builder, project, "extra")  # with a layer of a project it is the same engine
    assert builder.warm() == other.warm() == (warm,)


async def test_engine_that_no_python_fits_is_refused(
    builder: EnvironmentBuilder, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    odd = ENGINE.model_copy(update={"python": "==3.1.*"})
    builder = EnvironmentBuilder(tmp_path / "cache", gpu=False)
    with pytest.raises(EnvironmentRefused, match=r"toy 1 needs Python ==3\.1\.\*; this node has 3"):
        await builder.ensure(odd, [], project, lambda _line: None)


@pytest.mark.slow
async def test_pytorch_without_a_gpu_is_its_cpu_build(tmp_path: Path, project: Path) -> None:
    """From this machine's own index and find-links folder, or the framework's."""
    engine = ENGINE.model_copy(
        update={
            "name": "pytorch",
            "requirements": ["torch==2.13.0", "numpy==2.4.6"],
            "announce": "torch",
        }
    )
    builder = EnvironmentBuilder(tmp_path / "cache", gpu=False)
    environment = await builder.ensure(engine, [], project, print)
    assert "torch==2.13.0+cpu" in environment.lock
    assert not any(word in environment.lock for word in ("nvidia", "cuda", "triton"))
    assert ask(environment, "import torch; print(torch.ones(2).sum().item())") == "2.0"
    began = time.monotonic()
    (project / "requirements.txt").write_text("typing-extensions\n")
    await builder.ensure(engine, [], project, print)
    assert time.monotonic() - began < 60


async def test_a_lock_is_installed_exactly_whatever_the_project_asks_for(
    builder: EnvironmentBuilder, project: Path
) -> None:
    lock = "base==2.0\nextra==1.0\n"
    said: list[str] = []
    locked = await builder.ensure(ENGINE, [], project, said.append, lock=lock)
    assert locked.lock == lock
    assert ask(locked, "import base, extra; print(base.version, extra.version)") == "2.0 1.0"

    said.clear()
    assert await builder.ensure(ENGINE, [], project, said.append, lock=lock) == locked
    resolved = await build(builder, project, "extra")
    again = await builder.ensure(ENGINE, ["extra"], project, said.append, lock=resolved.lock)
    assert (again, said) == (resolved, [])  # what was resolved to the same lock serves


@pytest.mark.parametrize("lock", ["base>=1", "--index-url https://x", "./folder", "base"])
async def test_a_lock_that_is_no_list_of_exact_versions_is_refused(
    builder: EnvironmentBuilder, project: Path, lock: str
) -> None:
    with pytest.raises(EnvironmentRefused):
        await builder.ensure(ENGINE, [], project, lambda _line: None, lock=lock)
