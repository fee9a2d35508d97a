"""Loaded by the interpreter of every rank, before the script.

Two things: optimisers that the script imports later are watched, so that parameters can be changed
while it runs (``tuning_hooks``); and in gangs, a rank whose script has failed ends soon. JAX and
MXNet wait for all other ranks while the interpreter ends, and those wait in a collective call for
the rank that has failed: without this, nobody would learn of the failure for minutes. It also
notes when it began to fail, so that of several ranks the first is known.

Standard library only, and quick: nothing is imported before it is needed. Changes nothing for a
script that imports no known framework and succeeds, nor for the rank's children.
"""

from __future__ import annotations  # engines may bring an older Python

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all the rest
    from typing import Any

MARK = "TESRA_GANG_RANK"
RUNTIME = "TESRA_RANK_RUNTIME"
END_WITHIN_S = 1.5
_HARD_AFTER_S = 0.3  # when no thread of Python's runs any more
_FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is slow to import

_asked: list[object] = []  # what sys.exit was last called with
_asked_ns: list[int] = []  # and when


def _guard(note: str) -> None:
    """``note``: the file that says when this process began to fail."""
    import threading
    import time

    real_exit, own = sys.exit, os.getpid()

    def exit_noted(status: Any = None, /) -> Any:
        _asked[:], _asked_ns[:] = [status], [time.time_ns()]
        real_exit(status)

    def end_soon() -> None:
        if os.getpid() == own:  # a fork of a rank is no rank
            _end_soon(note)

    sys.exit = exit_noted
    register = getattr(threading, "_register_atexit", None)  # before atexit's, where they wait
    if register is not None:
        register(end_soon)


def _end_soon(note: str) -> None:
    """The interpreter begins to end: if that is for a failure, it may not take long."""
    code = _exit_code()
    if code == 0:
        return
    _note(note, code)
    import faulthandler
    import threading

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


def _note(path: str, code: int) -> None:
    """Before anything of this process is gone that another rank could fail of."""
    import time

    raised = getattr(sys, "last_value", None) is not None
    at_ns = time.time_ns() if raised else _asked_ns[0]
    try:
        descriptor = os.open(path, os.O_WRONLY)
        os.write(descriptor, b"%d %d" % (at_ns, code))
        os.close(descriptor)
    except OSError:
        pass  # then its end has to do


def _end(code: int) -> None:
    import time

    time.sleep(END_WITHIN_S)
    os._exit(code)


class ImportWatch:
    """A finder that finds nothing: it has the module of a known framework patched when it is loaded.

    Everything else costs one look into a dictionary.
    """

    HOOKS = {  # noqa: RUF012 - the class has one instance
        "torch.optim.optimizer": "torch_hook",
        "torch.optim.lr_scheduler": "torch_hook",
        "mxnet.gluon.trainer": "mxnet_hook",
        "keras.src.callbacks.callback_list": "keras_hook",
        "tf_keras.src.callbacks": "keras_hook",
    }

    def __init__(self, runtime: str) -> None:
        self._runtime = runtime

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self.HOOKS:
            return None
        try:
            return self._watched(name, path, target)
        except Exception as error:  # noqa: BLE001 - the script is imported in any case
            _complain(name, error)
            return None

    def _watched(self, name: str, path: Any, target: Any) -> Any:
        """The spec that the others find, its module patched once it has been executed."""
        finders = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in finders)
        spec = next((found for found in specs if found is not None), None)
        loader: Any = getattr(spec, "loader", None)
        if not hasattr(loader, "exec_module"):
            return spec
        execute = loader.exec_module

        def execute_and_patch(module: Any) -> None:
            del loader.exec_module
            execute(module)
            try:
                self._load(self.HOOKS[name]).patch(module, self._load("tuner").tuner())
            except Exception as error:  # noqa: BLE001 - the script goes on without
                _complain(name, error)

        loader.exec_module = execute_and_patch
        return spec

    def _load(self, name: str) -> Any:
        """A module of the runtime by its file: what the script calls ``tesra`` may be another."""
        from importlib.util import module_from_spec, spec_from_file_location

        known = f"tesra._{name}"
        if known in sys.modules:
            return sys.modules[known]
        path = os.path.join(self._runtime, "tesra", "sdk", "runtime", f"{name}.py")  # noqa: PTH118
        spec = spec_from_file_location(known, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[known] = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def _complain(name: str, error: Exception) -> None:
    sys.stderr.write(f"tesra: {name} can't be tuned while it runs: {error!r}\n")


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
    found = (finder.find_spec("sitecustomize", None) for finder in sys.meta_path)
    spec = next((spec for spec in found if spec is not None), None)
    if spec is not None and spec.loader is not None:
        from importlib.util import module_from_spec

        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_noted_in = os.environ.pop(MARK, None)
if _noted_in is not None:
    _guard(_noted_in)
_runtime = os.environ.pop(RUNTIME, None)
if _runtime is not None:
    sys.meta_path.insert(0, ImportWatch(_runtime))
_leave_path(_FOLDER)
_load_hidden()
