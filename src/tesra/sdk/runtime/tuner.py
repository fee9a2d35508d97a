"""A rank's side of tuning while it runs: counts steps, and takes changes at the step agreed on.

Standard library only; docs/spec/tuning.md is the protocol. A process has one ``Tuner``, found by
``tuner()`` whoever loads this file first, the platform's hook or the script's ``import tesra``.
A step costs an addition and a comparison: a thread of its own looks for changes, and sets the
*gate*, the number of steps at which the training has to stop and look. Nothing here may ever
hurt a training: without the platform's two variables, or when they are spoilt, steps are counted
and nothing else happens.
"""

from __future__ import annotations  # engines may bring an older Python

import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

CONTROL_VARIABLE = "TESRA_TUNING_FILE"
STATUS_VARIABLE = "TESRA_TUNING_STATUS"
MODULE = "tesra._tuner"  # where the process's one copy of this module stands in sys.modules

LOOK_EVERY_S = 0.1
LOOK_SOON_S = 0.01  # while a change is on its way
TELL_EVERY_S = 1.0
AHEAD_S = 0.25  # how far ahead a rank promises; four times as far when it is asked again
PATIENCE_S = 10.0  # at the promised limit; then the rank goes on without the change
NEVER = sys.maxsize
MOST_FOUND = 100
MOST_TOOK = 64
STATUS_BYTES = 32_768

Values = Mapping[str, Any]

# An optimiser's options, and the names that parameters of a run may have for them.
OPTIONS = {
    "lr": ("lr", "learning_rate", "learning-rate"),
    "momentum": ("momentum",),
    "weight_decay": ("weight_decay", "weight-decay", "wd"),
}


class Order:
    """A change that the platform wants; ``step`` is the one that it is for, once that is known."""

    __slots__ = ("limit", "round", "seq", "since", "step", "values")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.seq = int(fields["seq"])
        self.round = int(fields["round"])
        self.values: dict[str, Any] = dict(fields["values"])
        self.step: int | None = None if fields["step"] is None else int(fields["step"])
        self.limit = NEVER
        self.since = 0.0  # when the training began to wait for the step's number


class Tuner:
    """``values`` are the changes in force; ``version`` grows with each, so that hooks see it at once."""

    def __init__(self) -> None:
        self.done = 0
        self.values: dict[str, Any] = {}
        self._since: dict[str, int] = {}  # the version in which each value came into force
        self.version = 0
        self.rank = False  # whether this process speaks for its rank
        self._gate = 1  # the first step starts the thread
        self._order: Order | None = None
        self._took: list[tuple[int, int]] = []
        self._taken: set[int] = set()
        self._notes: dict[int, str] = {}
        self._declined: tuple[int, int] | None = None
        self._found: dict[str, dict[str, Any]] = {}
        self._where: dict[str, list[str]] = {}
        self._listeners: list[Callable[[Values], None]] = []
        self._by_script = False
        self._own = _parameters_of_run()
        self._descriptor = -1
        self._control = ""
        self._control_seen: Any = None
        self._thread: threading.Thread | None = None
        self._steps_in_a_second = 1
        self._changed = threading.Condition(threading.RLock())

    # What is called for each step

    def advance(self) -> None:
        """A step is done: the next one begins, with the values that are meant for it."""
        self.done = done = self.done + 1
        if done >= self._gate:
            self._stop_and_look()

    def optimiser_stepped(self) -> None:
        """The same, told by an optimiser: counts unless the script counts by itself."""
        if not self._by_script:
            self.advance()

    def script_stepped(self) -> None:
        """The same, told by the script: from its first word on, optimisers do not count.

        What they have counted of this step already stays counted, on every rank alike.
        """
        if self._by_script:
            self.advance()
            return
        self._by_script = True
        if self.done == 0:
            self.advance()

    # What scripts and hooks tell

    def declare(self, name: str, **facts: Any) -> None:
        """The script, or an optimiser, has a parameter of this name; ``value``, ``low``, …"""
        known = self._found.get(name)
        if known == facts or (known is None and len(self._found) >= MOST_FOUND):
            return
        with self._changed:
            self._found[name] = facts
            self._attach()
            self._tell()

    def reached(self, names: list[str], where: str) -> None:
        """``where`` (``tesra.params``, ``SGD``) takes changes of these parameters; ``*`` is any."""
        with self._changed:
            for name in names:
                places = self._where.setdefault(name, [])
                if where not in places and len(places) < 10:
                    places.append(where)
            self._attach()
            self._tell()

    def meet(self, kind: str, options: Mapping[str, Any]) -> None:
        """An optimiser is there, and takes changes of these options; their values are of now."""
        for option, value in options.items():
            names = OPTIONS[option]
            self.reached(list(names), kind)
            if not any(name in self._own for name in names):
                self.declare(option, value=float(value), origin="optimiser")

    def options_since(self, version: int) -> dict[str, float]:
        """What optimisers have to change that have followed up to that version."""
        changed = self.changed_since(version)
        found = {}
        for option, names in OPTIONS.items():
            for name in names:
                if name in changed and not isinstance(changed[name], (str, bool)):
                    found[option] = float(changed[name])
        return found

    def note(self, words: str) -> None:
        """Something about the last change that its user should know."""
        with self._changed:
            if self._took:
                self._notes[self._took[-1][0]] = words[:500]
                self._tell()

    def listen(self, listener: Callable[[Values], None]) -> None:
        """Call it with the new values whenever a change takes effect, within ``advance``."""
        self._listeners.append(listener)

    def changed_since(self, version: int) -> dict[str, Any]:
        """What came into force after that version."""
        since = self._since
        return {name: value for name, value in self.values.items() if since[name] > version}

    # Stopping at the gate

    def _stop_and_look(self) -> None:
        with self._changed:
            if self._thread is None:
                self._begin()
            while True:
                order = self._order
                if order is None:
                    self._gate = NEVER
                    return
                if order.step is not None:
                    if self.done < order.step - 1:
                        self._gate = order.step - 1
                        return
                    self._take(order)
                elif self.done < order.limit:
                    self._gate = order.limit
                    return
                else:
                    self._wait(order)

    def _wait(self, order: Order) -> None:
        """At the promised limit: until the step is named, or the change is withdrawn, or too long."""
        now = time.monotonic()
        order.since = order.since or now
        if now - order.since < PATIENCE_S:
            self._changed.wait(PATIENCE_S / 10)
            return
        self._declined = (order.seq, order.round)
        self._order = None
        self._tell()

    def _take(self, order: Order) -> None:
        """Step ``done + 1`` is about to begin: the change is in force for it."""
        self._order = None
        self._since = {**self._since, **dict.fromkeys(order.values, self.version + 1)}
        self.values = {**self.values, **order.values}
        self.version += 1
        self._took = [*self._took[-MOST_TOOK + 1 :], (order.seq, self.done + 1)]
        self._taken.add(order.seq)
        for listener in self._listeners:
            try:
                listener(order.values)
            except Exception as error:  # noqa: BLE001 - a change must never end a training
                self._notes[order.seq] = f"{type(error).__name__}: {error}"[:500]
        self._read_orders()
        self._tell()

    # The thread

    def _begin(self) -> None:
        self._gate = NEVER
        self._attach()
        self._thread = threading.current_thread()  # there will be none where there is no platform
        if self._descriptor < 0 or not self._claim(speak=True):
            return
        self.rank = True
        self._thread = threading.Thread(target=self._watch, name="tesra-tuning", daemon=True)
        self._read_orders()
        self._tell()
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending, or there can be no more threads
            self.rank = False

    def _watch(self) -> None:
        told_at = rate_at = time.monotonic()
        told_step = rate_step = self.done
        while self.rank:
            time.sleep(LOOK_SOON_S if self._order is not None else LOOK_EVERY_S)
            now = time.monotonic()
            if now - rate_at >= TELL_EVERY_S:
                self._steps_in_a_second = max(1, int((self.done - rate_step) / (now - rate_at)))
                rate_at, rate_step = now, self.done
            with self._changed:
                self._read_orders()
                if now - told_at >= TELL_EVERY_S and self.done != told_step:
                    told_at, told_step = now, self.done
                    self._tell()

    def _read_orders(self) -> None:
        """Follow the platform's file, if it has changed; called with the lock held."""
        try:
            known = os.stat(self._control)  # noqa: PTH116 - pathlib is slow to import
            seen = (known.st_ino, known.st_mtime_ns, self._taken_last())
            if seen == self._control_seen:
                return
            with open(self._control, "rb") as file:  # noqa: PTH123 - pathlib is slow to import
                orders = [Order(fields) for fields in json.loads(file.read())["orders"]]
        except (OSError, ValueError, KeyError, TypeError):
            return
        self._control_seen = seen
        self._follow(next((order for order in orders if order.seq not in self._taken), None))

    def _taken_last(self) -> int:
        return self._took[-1][0] if self._took else 0

    def _follow(self, order: Order | None) -> None:
        """The first change that is not made yet is the one to look after."""
        present = self._order
        if order is None:
            self._order = None
        elif present is not None and (present.seq, present.round) == (order.seq, order.round):
            if order.step is not None:
                present.step = order.step
                self._gate = order.step - 1
        elif order.step is not None:
            self._order = order
            self._gate = order.step - 1
        elif self._declined == (order.seq, order.round):
            self._order = None
        else:
            self._promise(order)
        self._changed.notify_all()

    def _promise(self, order: Order) -> None:
        """Not to begin the step behind the limit before it is known which step the change is for.

        The training counts on meanwhile, so the limit holds only if it is still ahead afterwards.
        """
        ahead = max(1, int(self._steps_in_a_second * AHEAD_S * 4 ** (order.round - 1)))
        while True:
            order.limit = self.done + ahead
            self._order = order
            self._gate = order.limit
            if self.done < order.limit:
                break
        self._tell()

    # The status

    def _attach(self) -> None:
        """Find the platform's files, if this is a run."""
        if self._descriptor >= 0 or self._thread is not None:
            return
        control, status = os.environ.get(CONTROL_VARIABLE), os.environ.get(STATUS_VARIABLE)
        if not control or not status:
            return
        try:
            self._descriptor = os.open(status, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        except OSError:
            return
        if not self._control:
            os.register_at_fork(after_in_child=self._leave)
        self._control = control

    def _claim(self, *, speak: bool) -> bool:
        """To speak for the rank, as one process does: the first that steps, until it ends."""
        try:
            import fcntl

            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if speak else fcntl.LOCK_UN)
        except (ImportError, OSError):
            return False
        return True

    def _leave(self) -> None:
        """A forked child is not the rank while its parent is; its values stay as they are."""
        if self._thread is not None:
            self._thread = threading.current_thread()
            self._gate = NEVER
        self.rank = False
        self._order = None
        self._changed = threading.Condition(threading.RLock())
        if self._descriptor >= 0:
            os.close(self._descriptor)  # else the parent's claim would outlive it
            self._descriptor = -1

    def _tell(self) -> None:
        """Write the status; before the first step too, unless another process steps already."""
        if self.rank:
            self._write()
        elif self._thread is None and self._descriptor >= 0 and self._claim(speak=True):
            self._write()
            self._claim(speak=False)

    def _write(self) -> None:
        order = self._order
        status = {
            "pid": os.getpid(),
            "live": self.done > 0,
            "step": self.done,
            "ask": None if order is None or order.step else [order.seq, order.round, order.limit],
            "declined": self._declined,
            "took": [[seq, step, self._notes.get(seq)] for seq, step in self._took],
            "found": self._found,
            "where": self._where,
        }
        try:
            text = json.dumps(status, default=str).encode()
            if len(text) < STATUS_BYTES:
                os.pwrite(self._descriptor, b"%08x %s\n" % (zlib.crc32(text), text), 0)
        except (OSError, ValueError, TypeError):
            return


def _parameters_of_run() -> frozenset[str]:
    try:
        with open(os.environ["TESRA_PARAMS_FILE"], "rb") as file:  # noqa: PTH123 - see above
            return frozenset(json.loads(file.read()))
    except (KeyError, OSError, ValueError, TypeError):
        return frozenset()


TUNER = Tuner()


def tuner() -> Tuner:
    """The process's one."""
    found: Tuner = sys.modules.setdefault(MODULE, sys.modules[__name__]).TUNER
    return found
