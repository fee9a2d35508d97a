"""Loaded by the interpreter of a rank of a gang: a rank whose script has failed ends soon.

JAX and MXNet wait for all other ranks while the interpreter ends, and those wait in a collective
call for the rank that has failed: without this, nobody would learn of the failure for minutes.
Standard library only; changes nothing for a script that succeeds, nor for the rank's children.
"""

import faulthandler
import importlib.machinery
import importlib.util
import os
import sys
import threading
import time
from typing import Any

MARK = "TESRA_GANG_RANK"
END_WITHIN_S = 1.5
_HARD_AFTER_S = 0.3  # when no thread of Python's runs any more

_asked: list[object] = []  # what sys.exit was last called with


def _guard() -> None:
    real_exit = sys.exit

    def exit_noted(status: Any = None, /) -> Any:
        _asked[:] = [status]
        real_exit(status)

    sys.exit = exit_noted
    register = getattr(threading, "_register_atexit", None)  # before atexit's, where they wait
    if register is not None:
        register(_end_soon)


def _end_soon() -> None:
    """The interpreter begins to end: if that is for a failure, it may not take long."""
    code = _exit_code()
    if code == 0:
        return
    null = open(os.devnull, "w")  # noqa: SIM115, PTH123 - lives as long as the process
    faulthandler.dump_traceback_later(END_WITHIN_S + _HARD_AFTER_S, file=null, exit=True)
    threading.Thread(target=_end, args=(code,), daemon=True).start()


def _exit_code() -> int:
    if getattr(sys, "last_value", None) is not None:
        return 1
    status = _asked[0] if _asked else None
    if status is None:
        return 0
    return status & 0xFF if isinstance(status, int) else 1


def _end(code: int) -> None:
    time.sleep(END_WITHIN_S)
    os._exit(code)


def _leave_path(folder: str) -> None:
    """As if this folder had never been on the path, here and for the rank's children."""
    sys.path[:] = [path for path in sys.path if path != folder]
    left = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path != folder]
    if any(left):
        os.environ["PYTHONPATH"] = ":".join(left)
    else:
        os.environ.pop("PYTHONPATH", None)


def _load_hidden() -> None:
    """The environment's own ``sitecustomize``, which this one hides."""
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize")
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.pop(MARK, None) is not None:
    _guard()
_leave_path(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib is slow to import
_load_hidden()
