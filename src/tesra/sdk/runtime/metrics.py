"""``tesra.log``: metrics as JSON lines in the file that ``TESRA_METRICS_FILE`` names.

Standard library only. Nothing here may ever hurt a training: whatever is logged, and whatever
becomes of the file, no exception reaches the script; without the variable nothing happens.

A line is a list of points, each ``[milliseconds, step, {"loss": 0.1}]``; what is no number stands there
as Python's ``json`` has it (``NaN``, ``Infinity``). A point that comes alone is written at once.
Points that come fast are gathered and written together, ten times a second, so that logging costs
two or three millionths of a second each; a process that ends without a word (``os._exit``,
SIGKILL) may lose those of its last quarter of a second. Each line is one write to a file that is
only appended to, so threads and forked processes may log too.
"""

from __future__ import annotations  # engines may bring an older Python

import atexit
import json
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from time import time
from typing import Any

FILE_VARIABLE = "TESRA_METRICS_FILE"
MAX_VALUES = 1000  # of one call
MAX_NAME = 256
TOGETHER_S = 0.1  # points that come faster are written together
LATEST_S = 0.25  # when nothing comes after them
_LINE_VALUES = 2000
_NESTING = 4

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Metrics:
    """One process's metrics; the file is opened at the first need."""

    def __init__(self) -> None:
        self._path = ""
        self._descriptor: int | None = None
        self._waiting: deque[tuple[int, int | None, dict[str, Any]]] = deque()
        self._room = _LINE_VALUES
        self._written_at = 0.0
        self._writing = threading.RLock()  # a signal handler may log amid a flush
        self._thread: threading.Thread | None = None
        self._leave = threading.Event()
        self._complained: set[str] = set()

    def log(self, values: Mapping[str, Any], step: int | None) -> None:
        """Take these values; what is no number is left out and told once on standard error."""
        try:
            if not self._path and not self._begin():
                return
            if step is not None and type(step) is not int:
                step = _whole(step)
            now = time()
            if not _is_plain(values):
                values = self._numbers(values)
                if not values:
                    return
            self._waiting.append((int(now * 1000), step, dict(values)))
            self._room -= len(values)
            if self._room < 0 or not 0 <= now - self._written_at < TOGETHER_S:
                self.flush()
            elif self._thread is None:
                self._write_later()
        except Exception as error:  # noqa: BLE001 - logging must never end a training
            self._complain("", f"not logged: {type(error).__name__}: {error}")

    def flush(self) -> None:
        """Write what has been gathered. Never raises."""
        with self._writing:
            self._written_at = time()
            self._room = _LINE_VALUES
            try:
                self._write()
            except Exception as error:  # noqa: BLE001 - logging must never end a training
                self._waiting.clear()
                self._complain("", f"not logged: {type(error).__name__}: {error}")

    def _begin(self) -> bool:
        """Whether there is a file to write to."""
        path = os.environ.get(FILE_VARIABLE)
        if not path:
            return False
        self._path = path
        atexit.register(self.flush)
        at_exit = getattr(threading, "_register_atexit", None)
        if at_exit is not None:  # the only one that multiprocessing's children know
            at_exit(self.flush)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._writing.release,
                after_in_child=self._after_fork,
            )
        return True

    def _write(self) -> None:
        waiting, lines = self._waiting, []
        while waiting:
            points, room = [], _LINE_VALUES
            while waiting and room > 0:
                points.append(waiting.popleft())
                room -= len(points[-1][2])
            lines.append(_encode(points))
        path = os.environ.get(FILE_VARIABLE)
        if not lines or not path:
            return
        if self._descriptor is None or path != self._path:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            self._descriptor, self._path = os.open(path, flags, 0o644), path
        for line in lines:
            os.write(self._descriptor, line.encode() + b"\n")

    def _write_later(self) -> None:
        """Points wait, and nothing may come after them: a thread writes them soon."""
        with self._writing:
            if self._thread is None:
                self._leave = threading.Event()
                thread = threading.Thread(target=self._keep_writing, args=(self._leave,))
                thread.daemon = True
                try:
                    thread.start()
                    self._thread = thread
                except RuntimeError:  # the interpreter is about to end
                    self.flush()

    def _keep_writing(self, leave: threading.Event) -> None:
        while not leave.wait(LATEST_S):
            if self._waiting:
                self.flush()

    def _before_fork(self) -> None:
        """No thread, no point and no lock is taken along."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._leave.set()
            thread.join()
        self.flush()
        self._writing.acquire()

    def _after_fork(self) -> None:
        self._waiting.clear()  # what other threads have added meanwhile is the parent's
        self._writing.release()

    def _numbers(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All that is a number, as one of Python's own."""
        numbers: dict[str, float | int] = {}
        for name, value in _flat(values, "", _NESTING):
            number = _number(value)
            if number is None:
                self._complain(
                    name, f"{name!r} is no number and not logged: {type(value).__name__}"
                )
            elif len(numbers) < MAX_VALUES:
                numbers[name[:MAX_NAME]] = number
            else:
                self._complain("", f"more than {MAX_VALUES} values at once: the rest is not logged")
                break
        return numbers

    def _complain(self, about: str, text: str) -> None:
        if about in self._complained or len(self._complained) > MAX_VALUES:
            return
        self._complained.add(about)
        try:
            sys.stderr.write(f"tesra.log: {text}\n")
        except (OSError, ValueError, AttributeError):  # closed, or none at all
            return


def _is_plain(values: Any) -> bool:
    """A dict of numbers of Python's own under short names: it can be kept as it is."""
    if type(values) is not dict or not 0 < len(values) <= MAX_VALUES:
        return False
    for name, value in values.items():
        kind = type(value)
        if (kind is not float and kind is not int) or type(name) is not str or len(name) > MAX_NAME:
            return False
    return True


def _flat(values: Mapping[Any, Any], above: str, depth: int) -> Iterator[tuple[str, Any]]:
    """``{"train": {"loss": 1}}`` as ``train/loss``."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and depth > 0:
            yield from _flat(value, f"{name}/", depth - 1)
        else:
            yield name, value


def _number(value: Any) -> float | int | None:
    """A number, also of a tensor or an array with one element; None for anything else."""
    if value is None or isinstance(value, (str, bytes, Mapping)):
        return None
    try:
        if not isinstance(value, (int, float)) and hasattr(value, "asnumpy"):  # MXNet
            value = value.asnumpy()
        if not isinstance(value, (int, float)) and hasattr(value, "item"):
            value = value.item()
        number = int(value) if isinstance(value, int) else float(value)
        if isinstance(number, int):
            return number if abs(number) < 2**63 else float(number)
    except Exception:  # noqa: BLE001 - a stranger's object may raise whatever it likes
        return None
    return number


def _whole(step: Any) -> int | None:
    number = _number(step)
    return int(number) if number is not None and math.isfinite(number) else None
