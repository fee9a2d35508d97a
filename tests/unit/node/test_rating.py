"""GPUs are measured once, with an environment that is built for it."""

from pathlib import Path

import pytest

from tesra.kit.errors import Unavailable
from tesra.node import rating
from tesra.node.devices import DeviceUnmeasured, FoundDevice, cpu_slots
from tesra.node.environments import Environment
from tesra.node.inventory import Inventory
from tesra.node.orders import AgentConfig
from tesra.node.rating import rate_gpus
from tesra.wire.site import EngineSpec

GPUS = [
    FoundDevice(index, "gpu", "Card", f"Card {index}", 2**34, 8, uuid=f"GPU-{index}")
    for index in range(2)
]

NODE = AgentConfig(
    node="nod_1", site_folder=Path("/"), cache=Path("/"), server_url="", site_token=""
)


class BuilderDouble:
    """Says which engines were asked for; the environment has only a name."""

    def __init__(self, error: Unavailable | None = None) -> None:
        self.built: list[str] = []
        self._error = error

    async def ensure(
        self, engine: EngineSpec, packages: list[str], project: Path, report: object
    ) -> Environment:
        assert project.is_dir(), "while this is there, `tesra up` is patient"
        assert not list(project.iterdir())
        self.built.append(engine.name)
        if self._error:
            raise self._error
        return Environment(Path("/env"), Path("/env/bin/python"), "key", "")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """What was measured, with which interpreter; the second card fails its first measure."""
    calls: list[tuple[str, Path]] = []

    async def measure(device: FoundDevice, python: Path) -> int:
        calls.append((device.uuid, python))
        if len(calls) == 2:
            raise DeviceUnmeasured("Card 1 is hot.")
        return 20_000_000 + device.index

    monkeypatch.setattr(rating, "measure", measure)
    return calls


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    inventory = Inventory(tmp_path / "devices.json")
    inventory.node_id()
    return inventory


async def rate(inventory: Inventory, builder: BuilderDouble) -> None:
    await rate_gpus(inventory, GPUS, builder, inventory.path.parent / "measuring")  # type: ignore[arg-type]


async def test_each_gpu_is_measured_once_and_a_failed_one_again_at_the_next_start(
    inventory: Inventory, measured: list[tuple[str, Path]]
) -> None:
    builder = BuilderDouble()
    await rate(inventory, builder)
    offered = (await inventory.describe(NODE, "127.0.0.1", GPUS)).devices
    assert [(device.index, device.measured_micro_t) for device in offered] == [(0, 20_000_000)]

    await rate(inventory, builder)
    again = (await inventory.describe(NODE, "127.0.0.1", GPUS)).devices
    assert [device.measured_micro_t for device in again] == [20_000_000, 20_000_001]
    assert again[0].id == offered[0].id

    await rate(inventory, builder)
    assert [uuid for uuid, _ in measured] == ["GPU-0", "GPU-1", "GPU-1"]
    assert {python for _, python in measured} == {Path("/env/bin/python")}
    assert builder.built == ["pytorch", "pytorch"]
    assert not (inventory.path.parent / "measuring").exists()


async def test_gpus_are_left_out_while_no_environment_can_be_built(
    inventory: Inventory, measured: list[tuple[str, Path]]
) -> None:
    await rate(inventory, BuilderDouble(Unavailable("No package index answers.")))
    assert (await inventory.describe(NODE, "127.0.0.1", GPUS)).devices == []
    assert measured == []
    assert not (inventory.path.parent / "measuring").exists()


async def test_cpu_slots_need_no_environment(inventory: Inventory) -> None:
    builder = BuilderDouble()
    slots = cpu_slots(2)
    await rate_gpus(inventory, slots, builder, inventory.path.parent / "measuring")  # type: ignore[arg-type]
    assert builder.built == []
    offered = (await inventory.describe(NODE, "127.0.0.1", slots)).devices
    assert offered[0].measured_micro_t == offered[1].measured_micro_t > 0
