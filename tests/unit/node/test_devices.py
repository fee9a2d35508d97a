"""What a machine offers, and how fast it is."""

import pytest

from tesra.node import devices
from tesra.node.devices import DevicesInvalid, cpu_slots, deal, find_devices, measure


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


def test_devices_are_dealt_evenly_and_counted_on_each_node_from_zero() -> None:
    dealt = deal(find_devices(5), 2)
    assert [[device.index for device in part] for part in dealt] == [[0, 1, 2], [0, 1]]
    assert [device.name for device in dealt[1]] == ["CPU slot 3", "CPU slot 4"]
    assert {device.threads for part in dealt for device in part} == {1}


def test_each_node_has_a_device_even_on_a_small_machine() -> None:
    assert len(find_devices(nodes=6)) == 6
    assert len(find_devices(nodes=2)) == 4


def test_fewer_devices_than_nodes_are_refused_with_a_way_out() -> None:
    with pytest.raises(DevicesInvalid, match="2 nodes need at least 2 devices") as caught:
        deal(find_devices(1), 2)
    assert "--devices" in str(caught.value.way_out)


async def test_slot_is_measured_in_micro_t() -> None:
    rating = await measure(cpu_slots(8)[0])
    assert 1_000 < rating < 20_000_000  # between 0.001 and 20 TFLOPS for one core
