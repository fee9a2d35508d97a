"""GPUs are rated once, with the PyTorch that most runs use; CPU slots need none of this.

The environment is an ordinary one of the node's cache, so that the first run finds it there.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from tesra.kit.errors import TesraError
from tesra.node.devices import FoundDevice, measure
from tesra.node.environments import EnvironmentBuilder
from tesra.node.inventory import Inventory
from tesra.training.engines.catalog import read_engines

_ENGINE = "pytorch"

_log = logging.getLogger(__name__)


async def rate_gpus(
    inventory: Inventory, found: Sequence[FoundDevice], builder: EnvironmentBuilder, folder: Path
) -> None:
    """Measure those that have no rating yet, and keep it; ``folder`` exists while that goes on.

    What cannot be measured is logged, not offered, and tried again at the next start.
    """
    fresh = [device for device in found if device.kind == "gpu" and not inventory.rating(device)]
    if not fresh:
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        environment = await builder.ensure(read_engines().resolve(_ENGINE), [], folder, _log.info)
        for device in fresh:
            await _rate(inventory, device, environment.python)
    except TesraError as error:
        _log.error("GPUs are not offered: no environment to measure them with: %s", error.detail)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _rate(inventory: Inventory, device: FoundDevice, python: Path) -> None:
    try:
        micro_t = await measure(device, python)
    except TesraError as error:
        _log.error("not offered: %s", error.detail)
        return
    inventory.keep(device, micro_t)
    _log.info("%s: %.1f TFLOPS", device.name, micro_t / 1e6)
