"""The server reads from a project's code what a request leaves out, once for each snapshot."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from tesra.drive.intake import Intake
from tesra.kit.ids import SnapshotId, UserId
from tesra.training import project_doctor
from tesra.training.proposals import EntryUnknown

pytestmark = pytest.mark.postgres

DDP = "import torch\ntorch.distributed.init_process_group('gloo')\nloss.backward()\n"
PLAIN = "import torch\nloss.backward()\ntorch.save(m, 'model/m.pt')\n"


@pytest_asyncio.fixture
async def network(fresh_database: FreshDatabase) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(4)
        yield network


@pytest_asyncio.fixture
async def ann(network: NetworkDouble) -> UserId:
    return await network.user("ann")


async def submit(network: NetworkDouble, owner: UserId, **request: Any) -> Any:
    return await network.submit(
        owner, **(dict.fromkeys(("entry", "engine", "output", "launch")) | request)
    )


async def test_launch_is_decided_by_the_code_and_said_in_log_and_record(
    network: NetworkDouble, ann: UserId
) -> None:
    await network.project(ann, train=DDP)
    run = await submit(network, ann, devices=2)
    assert (run.launch, run.entry, run.engine.split("==")[0]) == ("gang", "train.py", "pytorch")
    assert run.launch_reason == "train.py:2 forms a torch process group: init_process_group()"
    await network.dispatch()
    [assignment] = await network.site.assignments()
    [note] = assignment.spec.notes
    assert note.startswith("launch: gang, because train.py:2 ")
    assert note.endswith("; --launch single overrides")

    said = await submit(network, ann, devices=2, launch="single")
    assert (said.launch, said.launch_reason) == ("single", None)


async def test_edited_code_is_read_again_and_the_entry_that_is_named_decides(
    network: NetworkDouble, ann: UserId
) -> None:
    await network.project(ann, train=PLAIN, other=DDP)
    run = await submit(network, ann, devices=2)
    assert (run.launch, run.output_path) == ("single", "model")
    assert (await submit(network, ann, devices=2, entry="other.py")).launch == "gang"
    await network.project(ann, train=DDP)
    assert (await submit(network, ann, devices=2)).launch == "gang"


async def test_code_is_read_once_for_each_snapshot(
    network: NetworkDouble, ann: UserId, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await network.project(ann, train=PLAIN)
    first = await network.services.training.doctor.report(SnapshotId(project.snapshot), owner=ann)

    async def never(*_: Any) -> None:
        raise AssertionError("examined twice")

    monkeypatch.setattr(project_doctor, "_examined_apart", never)
    doctor = network.services.training.doctor
    assert await doctor.report(SnapshotId(project.snapshot), owner=ann) == first
    assert (await submit(network, ann, devices=2)).output_path == "model"


async def test_two_candidates_are_refused_with_their_names(
    network: NetworkDouble, ann: UserId
) -> None:
    await network.project(ann, train_a=PLAIN, train_b=PLAIN)
    with pytest.raises(EntryUnknown) as refused:
        await submit(network, ann)
    assert refused.value.fields["candidates"] == ["train_a.py", "train_b.py"]


async def test_warning_of_the_start_stays_beside_those_of_the_end(
    network: NetworkDouble, ann: UserId
) -> None:
    await network.project(ann, train="import tqdm\n" + PLAIN)
    run = await submit(network, ann)
    assert any("--with tqdm" in warning for warning in run.warnings)
    await network.dispatch()
    [assignment] = await network.site.assignments()
    await network.site.train(assignment)
    ended = await network.run(ann, run.id)
    assert ended.state == "succeeded"
    assert ended.warnings == run.warnings


async def test_hostile_code_costs_the_doctor_its_process_and_nothing_else(
    network: NetworkDouble, ann: UserId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project_doctor, "TIMEOUT_S", 0.001)
    await network.project(ann, train=PLAIN)
    with pytest.raises(EntryUnknown, match="too large, or too deeply nested"):
        await submit(network, ann)
    assert (await submit(network, ann, entry="train.py", devices=2)).launch == "single"


async def test_a_large_project_is_read_within_bounds(
    network: NetworkDouble, ann: UserId, tmp_path: Path
) -> None:
    """Thousands of files and one enormous script: what is near the top is read, the rest is told."""
    (tmp_path / "train.py").write_text(DDP)
    (tmp_path / "huge.py").write_text("x = 1\n" * 1_000_000)
    for folder in range(30):
        (tmp_path / f"d{folder}").mkdir()
        for number in range(100):
            (tmp_path / f"d{folder}" / f"m{number}.py").write_text(f"import torch\nx = {number}\n")
    intake = Intake(network.services.database, network.services.drive)
    await intake.folder(ann, tmp_path, name="digits")
    began = time.monotonic()
    run = await submit(network, ann, devices=2)
    assert (run.entry, run.launch) == ("train.py", "gang")
    assert time.monotonic() - began < 15
