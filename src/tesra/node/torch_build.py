"""Which build of torch fits a node: this machine's own wheel first, then CPU or the GPU's CUDA."""

from collections.abc import Sequence

from packaging.requirements import Requirement

from tesra.node.uv import Uv


async def torch_build(uv: Uv, wanted: Sequence[str], *, gpu: bool) -> tuple[list[str], list[str]]:
    """Pins to add to ``wanted`` and arguments for uv; nothing when torch is not pinned there.

    A pin that names its build (``2.13.0+cpu``, as a lock does) is that build on any node.
    """
    version = _pinned_torch(wanted)
    if version is None:
        return [], []
    number, _, build = version.partition("+")
    if gpu and not build:
        return [], ["--torch-backend", "auto"]
    if build in {"", "cpu"}:
        for folder in (await uv.pip()).folders():
            if any(folder.glob(f"torch-{number}+cpu-*.whl")):
                return [f"torch=={number}+cpu"], ["--find-links", str(folder)]
    return [], ["--torch-backend", build or "cpu"]


def _pinned_torch(wanted: Sequence[str]) -> str | None:
    for line in wanted:
        requirement = Requirement(line)
        pins = [pin.version for pin in requirement.specifier if pin.operator == "=="]
        if requirement.name == "torch" and pins:
            return pins[0]
    return None
