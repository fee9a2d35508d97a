"""``lr``, ``momentum`` and ``weight_decay`` of torch's optimisers follow the tuner, unasked.

Steps are counted by torch's own global hooks, which every subclass of ``Optimizer`` runs. A change
is written into all parameter groups that have the option, right before the step that it is for.
With a scheduler attached, what the scheduler computes from is scaled alike, so that the schedule
goes on from the new value. Standard library only: torch is what the script has imported.
"""

from __future__ import annotations  # engines may bring an older Python

import atexit
import contextlib
import os
import time
import weakref
from typing import Any

WATCHED = "_tesra_watched"
OPTIONS = ("lr", "momentum", "weight_decay")
THREADS_END_S = 0.05
SCALED_BESIDE_LR = ("initial_lr", "max_lr", "min_lr")  # of a group: schedulers compute from these


def patch(module: Any, tuner: Any) -> None:
    """Called when a module of ``torch.optim`` has been loaded."""
    if module.__name__ == "torch.optim.lr_scheduler":
        base = getattr(module, "LRScheduler", None) or module._LRScheduler
        if not getattr(base, WATCHED, False):
            setattr(base, WATCHED, True)
            _watch_schedulers(base)
    elif not getattr(module.Optimizer, WATCHED, False):
        setattr(module.Optimizer, WATCHED, True)
        Optimisers(module, tuner).watch()
        atexit.register(_let_threads_end)


def _let_threads_end() -> None:
    """Give up the interpreter's lock for a moment before it ends.

    gloo's threads drop the tensors of the last collective under that lock, and abort the process
    when they get to it only while the interpreter is ending.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        time.sleep(THREADS_END_S)


_schedulers: Any = weakref.WeakKeyDictionary()  # optimiser -> set of its schedulers, weakly


class Optimisers:
    """All optimisers of this process."""

    def __init__(self, module: Any, tuner: Any) -> None:
        self._module = module
        self._tuner = tuner
        self._seen: Any = weakref.WeakKeyDictionary()  # optimiser -> the version that it has
        self._set: Any = weakref.WeakKeyDictionary()  # optimiser -> what was set a step ago
        self._outer: int | None = None  # an optimiser that steps others within its own step

    def watch(self) -> None:
        real_init = self._module.Optimizer.__init__

        def init(optimiser: Any, *args: Any, **kwargs: Any) -> None:
            real_init(optimiser, *args, **kwargs)
            self._meet(optimiser)

        init.__doc__, init.__wrapped__ = real_init.__doc__, real_init  # type: ignore[attr-defined]
        self._module.Optimizer.__init__ = init
        self._module.register_optimizer_step_pre_hook(_bound(self._before))
        self._module.register_optimizer_step_post_hook(_bound(self._after))

    def _meet(self, optimiser: Any) -> None:
        """A new optimiser: what it exposes can be changed from now on."""
        try:
            self._seen[optimiser] = self._tuner.version
            first = optimiser.param_groups[0]
            exposed = {name: first[name] for name in OPTIONS if name in first}
            self._tuner.meet(type(optimiser).__name__, exposed)
        except (AttributeError, LookupError, TypeError, ValueError):
            return

    def _before(self, optimiser: Any, _args: Any, _kwargs: Any) -> None:
        if self._outer is None or self._outer == id(optimiser):
            self._outer = id(optimiser)
        if self._tuner.version:
            self._follow(optimiser)

    def _after(self, optimiser: Any, _args: Any, _kwargs: Any) -> None:
        if self._outer == id(optimiser):
            self._outer = None
            self._tuner.optimiser_stepped()

    def _follow(self, optimiser: Any) -> None:
        """Make the changes that the optimiser has not yet; a change must never end a training."""
        try:
            self._check(optimiser)
            before = self._seen.get(optimiser, 0)
            if before == self._tuner.version:
                return
            self._seen[optimiser] = self._tuner.version
            for option, value in self._tuner.options_since(before).items():
                set_option(optimiser, option, value)
                if option == "lr" and optimiser not in _schedulers:
                    rates = [group.get("lr") for group in optimiser.param_groups]
                    self._set[optimiser] = rates
        except Exception as error:  # noqa: BLE001 - see above
            self._tuner.note(f"{type(optimiser).__name__}: {type(error).__name__}: {error}")

    def _check(self, optimiser: Any) -> None:
        """Whether the script has overwritten what was set one step ago."""
        values = self._set.pop(optimiser, None)
        if values is None:
            return
        now = [group.get("lr") for group in optimiser.param_groups]
        if any(old is not new and old != new for old, new in zip(values, now)):  # noqa: B905 - an older Python
            self._tuner.note(
                "the script itself sets lr at each step, so the change lasted one step"
            )


def set_option(optimiser: Any, option: str, value: float) -> None:
    """In all groups that have it; a learning rate takes its schedules along."""
    scales: list[float | None] = []
    for group in optimiser.param_groups:
        old = group.get(option)
        if old is None:
            scales.append(1.0)
            continue
        before = float(old)
        if hasattr(old, "fill_"):  # a tensor, for capturable and fused optimisers
            old.fill_(value)
        else:
            group[option] = value
        scales.append(value / before if before else None)
        if option == "lr":
            for name in SCALED_BESIDE_LR:
                if isinstance(group.get(name), float):
                    group[name] = scaled(group[name], scales[-1], value)
    if option == "lr":
        for scheduler in _schedulers.get(optimiser, ()):
            _rescale(scheduler, scales, value)


def scaled(old: Any, scale: float | None, value: float) -> Any:
    """What a schedule computes from; where the rate was 0 there is no ratio, and it starts anew."""
    if hasattr(old, "fill_"):
        return old
    return value if scale is None else old * scale


def _rescale(scheduler: Any, scales: list[float | None], value: float) -> None:
    for name in ("base_lrs", "max_lrs"):
        rates = getattr(scheduler, name, None)
        if isinstance(rates, list) and len(rates) == len(scales):
            rates[:] = [scaled(rate, scale, value) for rate, scale in zip(rates, scales)]  # noqa: B905 - an older Python


def _watch_schedulers(base: Any) -> None:
    real_init = base.__init__

    def init(scheduler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(TypeError):  # no optimiser: torch will say so
            _schedulers.setdefault(optimizer, weakref.WeakSet()).add(scheduler)
        real_init(scheduler, optimizer, *args, **kwargs)

    init.__doc__, init.__wrapped__ = real_init.__doc__, real_init  # type: ignore[attr-defined]
    base.__init__ = init


def _bound(method: Any) -> Any:
    """As a function that torch.compile leaves alone."""

    def hook(optimiser: Any, args: Any, kwargs: Any) -> None:
        method(optimiser, args, kwargs)

    hook._torchdynamo_disable = True  # type: ignore[attr-defined]
    return hook
