"""How much a gang uses of its devices."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest

from tesra.node.devices import FoundDevice, cpu_slots
from tesra.node.metrics.devices import (
    DeviceUse,
    Energy,
    UsedDevice,
    by_rank,
    memory_bytes,
)
from tesra.node.metrics.points import Sample
from tesra.node.processes import descendants

MIB = 2**20
BUSY = "while True: pass"
LARGE = "import time; kept = b'x' * (64 * 2**20); print(1, flush=True); time.sleep(60)"


@pytest.fixture
def gang() -> Iterator[subprocess.Popen[str]]:
    """A process with two children: rank 4 works, rank 5 sleeps."""
    code = f"""
import subprocess, sys, time
busy = subprocess.Popen([sys.executable, "-c", {BUSY!r}])
large = subprocess.Popen([sys.executable, "-c", {LARGE!r}], stdout=subprocess.PIPE)
large.stdout.readline()
print(busy.pid, large.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        for child in descendants(process.pid):
            child.kill()
        process.kill()


def pids_of(gang: subprocess.Popen[str]) -> dict[int, int]:
    assert gang.stdout is not None
    busy, large = map(int, gang.stdout.readline().split())
    return {busy: 4, large: 5}


def test_a_slots_use_is_that_of_its_ranks_processes(gang: subprocess.Popen[str]) -> None:
    pids = pids_of(gang)
    slot = FoundDevice(0, "cpu", "cpu", "CPU slot", 1, threads=1)
    devices = [UsedDevice("dev_a", 4, slot), UsedDevice("dev_b", 5, slot)]
    use = DeviceUse(devices, pid=lambda: gang.pid, pids=pids)
    use._next = 0.0
    assert list(use.read(1.0, False)) == []
    busy = psutil.Process(next(pid for pid, rank in pids.items() if rank == 4))
    began_s = busy.cpu_times().user
    deadline = time.monotonic() + 20
    while busy.cpu_times().user - began_s < 0.1:
        assert time.monotonic() < deadline
    use._next = 0.0
    samples = {
        fact.device: fact.values for fact in use.read(2.0, False) if isinstance(fact, Sample)
    }
    assert samples["dev_a"]["use"] > 0.1
    assert samples["dev_b"]["use"] < 0.1
    assert 64 * MIB < samples["dev_b"]["memory_bytes"] < 120 * MIB
    assert samples["dev_a"]["memory_bytes"] < 40 * MIB


def test_a_single_process_uses_all_its_slots_alike(gang: subprocess.Popen[str]) -> None:
    pids = dict.fromkeys(pids_of(gang), 0)
    devices = [UsedDevice(f"dev_{slot.index}", 0, slot) for slot in cpu_slots(2)]
    use = DeviceUse(devices, pid=lambda: gang.pid, pids=pids)
    for _ in range(2):
        use._next = 0.0
        facts = list(use.read(1.0, False))
    first, second = (fact.values for fact in facts if isinstance(fact, Sample))
    assert first == second


def test_processes_without_a_rank_belong_to_none(gang: subprocess.Popen[str]) -> None:
    pids = pids_of(gang)
    groups = by_rank([psutil.Process(gang.pid), *descendants(gang.pid)], pids)
    assert {rank: [p.pid for p in found] for rank, found in groups.items()} == {
        rank: [pid] for pid, rank in pids.items()
    }


def test_memory_of_a_process_that_is_gone_is_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        known = psutil.Process(process.pid)
    assert memory_bytes([known]) == 0


def test_nothing_is_told_before_the_gang_runs() -> None:
    use = DeviceUse([UsedDevice("dev", 0, cpu_slots(1)[0])], pid=lambda: None, pids={})
    use._next = 0.0
    assert list(use.read(1.0, False)) == []


def test_power_is_what_the_packages_counters_have_grown(tmp_path: Path) -> None:
    for name, start in (("intel-rapl:0", 0), ("intel-rapl:1", 0), ("intel-rapl:0:0", 10**9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(str(start))
    energy = Energy(tmp_path)
    assert energy.power_w() is None
    began = time.monotonic()
    for name in ("intel-rapl:0", "intel-rapl:1"):
        (tmp_path / name / "energy_uj").write_text("5000000")
    power_w = energy.power_w()
    assert power_w is not None
    assert power_w <= 10 / (time.monotonic() - began) * 1000
    assert power_w > 10
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("3")
    assert energy.power_w() is None
    assert Energy(tmp_path / "none").power_w() is None


class Card:
    """What a driver says, in part: this one does not know its power."""

    gpu = 93
    used = 5 * MIB


def test_a_gpu_is_told_as_far_as_its_driver_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_handle: Any) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetUtilizationRates": lambda _handle: Card,
        "nvmlDeviceGetMemoryInfo": lambda _handle: Card,
        "nvmlDeviceGetPowerUsage": unknown,
    }.items():
        monkeypatch.setattr(pynvml, name, answer)
    found = FoundDevice(0, "gpu", "H100", "H100 0", 1, 1, uuid="GPU-1")
    use = DeviceUse([UsedDevice("dev", 0, found)], pid=lambda: 1, pids={})
    use._next = 0.0
    assert list(use.read(9.0, False)) == [
        Sample("dev", 9.0, {"use": 0.93, "memory_bytes": 5 * MIB})
    ]
