"""Calls ``module:function`` or ``module:Class.method``; standard library only, runs as the user's script.

Started as ``python call_entry.py TARGET ARGS…`` in the project's folder, which comes first on
the path as under ``python train.py``. A class whose method needs an instance is made without
arguments. What the function returns is not looked at; ``sys.argv`` is [module file, ARGS…].
"""

import importlib
import inspect
import sys
from pathlib import Path


def main() -> None:
    """Import, find, call."""
    sys.path[0] = str(Path.cwd())
    target = sys.argv.pop(1)
    module_name, _, path = target.partition(":")
    module = importlib.import_module(module_name)
    sys.argv[0] = getattr(module, "__file__", None) or module_name
    owner: object = module
    *outer, last = path.split(".")
    for name in outer:
        owner = getattr(owner, name)
    if inspect.isclass(owner) and _needs_instance(owner, last):
        owner = owner()
    result = getattr(owner, last)()
    if inspect.iscoroutine(result):
        import asyncio  # slow, and needed only here

        asyncio.run(result)


def _needs_instance(owner: type, name: str) -> bool:
    found = inspect.getattr_static(owner, name, None)
    return not isinstance(found, staticmethod | classmethod)


if __name__ == "__main__":
    main()
