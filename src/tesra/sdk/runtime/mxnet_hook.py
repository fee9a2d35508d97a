"""``lr``, ``momentum`` and ``wd`` of MXNet's Gluon trainer follow the tuner, unasked.

Where the key-value store's servers run the optimiser (``dist_*`` with more than one worker), it was
sent to them once and nothing on a worker reaches it: the change is told as not made. Standard
library only.
"""

from __future__ import annotations  # engines may bring an older Python

import weakref
from typing import Any

WATCHED = "_tesra_watched"
ATTRIBUTES = {"momentum": "momentum", "weight_decay": "wd"}
ON_SERVERS = (
    "the optimiser runs on MXNet's servers (update_on_kvstore), which take no change of it; with a"
    " kvstore of this machine, or with update_on_kvstore=False, it can be made"
)


def patch(module: Any, tuner: Any) -> None:
    """Called when ``mxnet.gluon.trainer`` has been loaded."""
    kind = module.Trainer
    if getattr(kind, WATCHED, False):
        return
    setattr(kind, WATCHED, True)
    trainers = Trainers(tuner)
    for name in ("step", "update"):
        setattr(kind, name, trainers.around(getattr(kind, name)))


class Trainers:
    """All Gluon trainers of this process."""

    def __init__(self, tuner: Any) -> None:
        self._tuner = tuner
        self._seen: Any = weakref.WeakKeyDictionary()  # trainer -> the version that it has

    def around(self, real: Any) -> Any:
        """A trainer's method that does one step."""

        def stepped(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            if trainer in self._seen and self._seen[trainer] != self._tuner.version:
                self._follow(trainer)
            answer = real(trainer, *args, **kwargs)
            if trainer not in self._seen:
                self._meet(trainer)
            self._tuner.optimiser_stepped()
            return answer

        stepped.__doc__, stepped.__name__ = real.__doc__, real.__name__
        return stepped

    def _meet(self, trainer: Any) -> None:
        """After its first step, when it is settled where the optimiser runs."""
        self._seen[trainer] = self._tuner.version
        if _on_servers(trainer):
            return
        optimiser = trainer._optimizer
        exposed = {"lr": trainer.learning_rate}
        for option, attribute in ATTRIBUTES.items():
            if isinstance(getattr(optimiser, attribute, None), (int, float)):
                exposed[option] = getattr(optimiser, attribute)
        self._tuner.meet(type(optimiser).__name__, exposed)

    def _follow(self, trainer: Any) -> None:
        wanted = self._tuner.options_since(self._seen[trainer])
        self._seen[trainer] = self._tuner.version
        try:
            if wanted and _on_servers(trainer):
                self._tuner.note(ON_SERVERS)
                return
            for option, value in wanted.items():
                if option == "lr":
                    _set_rate(trainer, value)
                elif hasattr(trainer._optimizer, ATTRIBUTES[option]):
                    setattr(trainer._optimizer, ATTRIBUTES[option], value)
        except Exception as error:  # noqa: BLE001 - a change must never end a training
            self._tuner.note(f"MXNet did not take it: {type(error).__name__}: {error}")


def _on_servers(trainer: Any) -> bool:
    return bool(trainer._update_on_kvstore and trainer._distributed)


def _set_rate(trainer: Any, value: float) -> None:
    """With a scheduler, what it computes from is scaled, so that it goes on from the new rate."""
    scheduler = trainer._optimizer.lr_scheduler
    if scheduler is None:
        trainer.set_learning_rate(value)
        return
    before = trainer.learning_rate
    for name in ("base_lr", "base_lr_orig"):
        known = getattr(scheduler, name, None)
        if known is not None:
            setattr(scheduler, name, known * value / before if before else value)
