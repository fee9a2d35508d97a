"""What a machine offers, and how fast it is."""

import pytest

from tesra.node import devices
from tesra.node.devices import DevicesInvalid, cpu_slots, find_devices, measure


@pytest.fixture(autouse=True)
def eight_cores_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "core_count", lambda: 8)
    monkeypatch.setattr(devices, "find_gpus", list)


def test_machine_without_gpu_offers_half_its_cores_as_slots() -> None:
    found = find_devices()
    assert [device.index for device in found] == [0, 1, 2, 3]
    assert {(device.device_class, device.threads) for device in found} == {("cpu", 2)}


def test_declared_slots_share_the_cores() -> None:
    assert [device.threads for device in find_devices(3)] == [2, 2, 2]
    assert [device.threads for device in find_devices(16)] == [1] * 16


@pytest.mark.parametrize("declared", [0, -1])
def test_no_device_is_too_few(declared: int) -> None:
    with pytest.raises(DevicesInvalid):
        find_devices(declared)


async def test_slot_is_measured_in_micro_t() -> None:
    rating = await measure(cpu_slots(8)[0])
    assert 1_000 < rating < 20_000_000  # between 0.001 and 20 TFLOPS for one core
