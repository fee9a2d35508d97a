"""What this machine offers: its NVIDIA GPUs, or CPU slots where it has none; and how fast they are."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psutil
import pynvml

from tesra.kit.errors import Invalid, Unavailable

MICROS = 1_000_000
_MEASURE_TIMEOUT_S = 120
_MEASURE = Path(__file__).with_name("measure_device.py")
_SHARED_GPU_FILES = (
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
)


class DevicesInvalid(Invalid):
    """The number of devices does not fit this machine."""


class DeviceUnmeasured(Unavailable):
    """A device could not be measured."""


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """One GPU or one CPU slot. ``index`` counts from 0 among this node's devices.

    ``threads`` is what a rank on it may use; ``paths`` are the device files that a sandbox needs;
    ``uuid`` names a GPU in CUDA_VISIBLE_DEVICES, whatever else the rank can see.
    """

    index: int
    kind: Literal["gpu", "cpu"]
    device_class: str
    name: str
    memory_bytes: int
    threads: int
    uuid: str = ""
    paths: tuple[Path, ...] = ()


def find_devices(declared: int | None = None, *, nodes: int = 1) -> list[FoundDevice]:
    """The GPUs of this machine (the first ``declared`` of them); else CPU slots.

    By default there is a slot for every two cores, and at least one for each of ``nodes``.
    """
    if declared is not None and declared < 1:
        raise DevicesInvalid(f"{declared} devices are too few: a node offers at least one.")
    found = find_gpus()
    if not found:
        return cpu_slots(declared if declared is not None else max(nodes, core_count() // 2))
    if declared is not None and declared > len(found):
        raise DevicesInvalid(f"This machine has {len(found)} GPUs, not {declared}.")
    return found[:declared]


def cpu_slots(slots: int) -> list[FoundDevice]:
    """So many equal shares of this machine's cores and memory."""
    cores = core_count()
    memory = psutil.virtual_memory().total // slots
    threads = max(1, cores // slots)
    return [
        FoundDevice(index, "cpu", "cpu", f"CPU slot {index}", memory, threads)
        for index in range(slots)
    ]


def deal(found: Sequence[FoundDevice], nodes: int) -> list[list[FoundDevice]]:
    """A machine's devices shared out evenly to its nodes, each one's counted from 0 again.

    Raises ``DevicesInvalid`` when there are fewer devices than nodes.
    """
    if len(found) < nodes:
        raise DevicesInvalid(
            f"{nodes} nodes need at least {nodes} devices; there are {len(found)}.",
            way_out="Offer more devices (--devices N), or fewer nodes (--nodes N).",
        )
    least, more = divmod(len(found), nodes)
    dealt, begin = [], 0
    for place in range(nodes):
        end = begin + least + (place < more)
        dealt.append([replace(device, index=i) for i, device in enumerate(found[begin:end])])
        begin = end
    return dealt


def find_gpus() -> list[FoundDevice]:
    """The NVIDIA GPUs; none when there is no driver."""
    with _nvml() as ready:
        if not ready:
            return []
        count = pynvml.nvmlDeviceGetCount()
        threads = max(1, core_count() // max(1, count))
        return [_gpu(index, threads) for index in range(count)]


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


async def measure(device: FoundDevice, python: Path | None = None) -> int:
    """FP32 matrix product in micro-T (millionths of a TFLOPS), the median of several, in about 1 s.

    ``python`` is an interpreter that has torch: needed for a GPU. A slot is measured with numpy
    on as many threads as its share, in a process of its own.
    """
    environ = _measure_environ(device)
    process = await asyncio.create_subprocess_exec(
        str(python or sys.executable),
        *("-I", str(_MEASURE), device.kind),
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), _MEASURE_TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        words = err.decode(errors="replace").strip().splitlines()[-1:] or ["it gave no reason"]
        raise DeviceUnmeasured(f"{device.name} could not be measured: {words[0]}")
    return round(float(out.split()[-1]) * MICROS)


def _measure_environ(device: FoundDevice) -> dict[str, str]:
    threads = str(device.threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environ = {"PATH": os.environ.get("PATH", os.defpath), **dict.fromkeys(names, threads)}
    if device.kind == "gpu":
        environ["CUDA_VISIBLE_DEVICES"] = device.uuid
    return environ


@contextlib.contextmanager
def _nvml() -> Iterator[bool]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int, threads: int) -> FoundDevice:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    name = _text(pynvml.nvmlDeviceGetName(handle))
    minor = pynvml.nvmlDeviceGetMinorNumber(handle)
    own = (Path(f"/dev/nvidia{minor}"), *(Path(shared) for shared in _SHARED_GPU_FILES))
    return FoundDevice(
        index=index,
        kind="gpu",
        device_class=name,
        name=f"{name} {index}",
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        threads=threads,
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        paths=own,
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
