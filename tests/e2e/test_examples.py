"""Every example as its user starts it, with nothing but the folder and a number of devices.

All runs are queued at once: while one trains, the environment of the next is built. The cache of
environments outlives the network; a cold one works too and takes minutes.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from factories.command_line import Person
from tesra import Client
from tesra.wire.drive import Project

pytestmark = [pytest.mark.e2e, pytest.mark.engines, pytest.mark.timeout(900)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ACCURATE = 0.9
WAIT_S = 840.0

RUNS = [
    ("pytorch", None, 1),
    ("tensorflow", None, 1),
    ("keras", "jax", 1),
    ("mxnet", None, 1),
    ("keras", "torch", 1),
    ("jax", None, 1),
    ("keras", "tensorflow", 1),
    ("pytorch", None, 2),
    ("tensorflow", None, 2),
    ("keras", "jax", 2),
    ("mxnet", None, 2),
    ("jax", None, 2),
]
VERSIONS = {"jax==0.9": "0.9.2", "jax==0.10.2": "0.10.2"}
Key = tuple[str, str | None, int]


@dataclass
class Queued:
    """A user's runs, by what they were started with."""

    client: Client
    runs: dict[Key, str]


@pytest.fixture(scope="module")
def queued(new_person: Callable[[], Person]) -> Iterator[Queued]:
    ann = new_person()
    ann.commands.done("autopay", "on")
    with Client(token=ann.token, url=ann.commands.environ["TESRA_URL"]) as client:
        projects: dict[str, Project] = {}
        runs: dict[Key, str] = {}
        for engine, backend, devices in RUNS:
            if engine not in projects:
                projects[engine] = client.import_project(EXAMPLES / f"{engine}-digits")
            run = client.run(projects[engine].id, backend=backend, devices=devices)
            runs[engine, backend, devices] = run.id
        yield Queued(client, runs)


@pytest.mark.parametrize(("engine", "backend", "devices"), RUNS)
def test_example_learns_to_read_digits(
    queued: Queued, tmp_path: Path, engine: str, backend: str | None, devices: int
) -> None:
    run = queued.client.wait(queued.runs[engine, backend, devices], WAIT_S)
    chunks = list(queued.client.logs(run.id))
    log = "".join(f"[{chunk.rank}] {chunk.text}" for chunk in chunks if chunk.text)
    assert run.state == "succeeded", f"{run.reason}\n{log}"
    assert run.engine.startswith(f"{engine}==")
    assert (run.backend, run.launch) == (backend, "gang")
    assert (run.launch_reason is None) == (devices == 1)

    own = "".join(chunk.text or "" for chunk in chunks if chunk.rank == 0)
    found = re.search(r"accuracy (0\.\d+|1\.0+)\n", own)
    assert found is not None, log
    assert float(found[1]) > ACCURATE
    for rank in range(devices):
        assert f"rank {rank} of {devices}: " in log
    assert run.output is not None, f"{run.warnings}\n{log}"
    files = queued.client.download(run, tmp_path / "out").rglob("*")
    assert [file.name for file in files if "model" in file.name]


def test_versions_of_an_engine_stand_side_by_side(
    queued: Queued, new_person: Callable[[], Person]
) -> None:
    """``jax==0.9`` is the newest 0.9; each has an environment of its own."""
    ben = new_person()
    ben.commands.done("autopay", "on")
    folder = ben.project("import jax; print('this is', jax.__version__)\n")
    for asked, got in VERSIONS.items():
        run = ben.commands.ask("run", folder, "--engine", asked, "--detach")["run"]
        assert f"this is {got}\n" in ben.commands.done("logs", run, "--follow")
        shown = ben.commands.ask("show", run)
        assert shown["engine"] == f"jax=={got}"
        assert f"jax=={got}" in shown["environment_lock"].split()
