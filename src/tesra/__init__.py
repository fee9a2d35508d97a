"""Tesra: a shared compute network for AI.

Exports lazily what users import, so that ``import tesra`` costs nothing: ``tesra.Client`` speaks
to a server; ``params``, ``log``, ``step``, ``checkpoint_dir``, ``output_dir``, ``resume_from`` and
``stopping`` are for scripts, within a run and outside. Within a run this file and ``sdk/runtime`` are all that is there.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tesra.sdk.client import Client
    from tesra.sdk.runtime.names import log, params, step

    checkpoint_dir: Path
    output_dir: Path
    resume_from: Path | None
    stopping: bool

__all__ = [
    "Client",
    "checkpoint_dir",
    "log",
    "output_dir",
    "params",
    "resume_from",
    "step",
    "stopping",
]

_RUNTIME = frozenset(__all__) - {"Client"}
_CALLBACKS = frozenset({"keras", "lightning"})
_LASTING = frozenset({"log", "params", "step"})


def __getattr__(name: str) -> Any:
    if name == "Client":
        from tesra.sdk.client import Client

        return Client
    if name in _CALLBACKS:
        from importlib import import_module

        return import_module(f"tesra.{name}")
    if name in _RUNTIME:
        from tesra.sdk.runtime import names

        found = getattr(names, name)
        if name in _LASTING:
            globals()[name] = found  # a training may ask at every step
        return found
    raise AttributeError(f"module 'tesra' has no attribute {name!r}")
