"""Prints the rate of an FP32 matrix product in TFLOPS; run as a script: ``measure_device.py cpu|gpu``.

The rate is 2·n³ operations over the median time of several products, after warming up.
"""

import statistics
import sys
import time
from collections.abc import Callable

CPU_SIDE = 1024
GPU_SIDE = 8192
LEAST_PRODUCTS = 5
LEAST_S = 0.3


def main() -> None:
    """Measure what the one argument names."""
    print(_gpu_rate() if sys.argv[1] == "gpu" else _cpu_rate())  # noqa: T201 - its answer


def _cpu_rate() -> float:
    import numpy

    left = numpy.ones((CPU_SIDE, CPU_SIDE), dtype=numpy.float32)
    right, out = left.copy(), numpy.empty_like(left)
    return _rate(CPU_SIDE, lambda: numpy.matmul(left, right, out=out))


def _gpu_rate() -> float:
    import torch  # type: ignore[import-not-found] # only in the engine's environment

    torch.backends.cuda.matmul.allow_tf32 = False  # FP32 proper, as the rating says
    left = torch.ones((GPU_SIDE, GPU_SIDE), device="cuda", dtype=torch.float32)
    right, out = left.clone(), torch.empty_like(left)

    def product() -> None:
        torch.matmul(left, right, out=out)
        torch.cuda.synchronize()

    return _rate(GPU_SIDE, product)


def _rate(side: int, product: Callable[[], object]) -> float:
    for _ in range(2):
        product()
    times: list[float] = []
    while len(times) < LEAST_PRODUCTS or sum(times) < LEAST_S:
        began = time.perf_counter()
        product()
        times.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(times) / 1e12


if __name__ == "__main__":
    main()
