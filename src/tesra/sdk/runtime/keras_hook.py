"""The learning rate of Keras follows the tuner in ``fit``, unasked: Keras 3 on any backend, and Keras 2.

A step is one call of the training function: one batch, or ``steps_per_execution`` of them. A change is
set between two of them, when Keras itself would call callbacks; with JAX, whose training keeps the
optimiser's state outside of the model, the model gets it back first. Standard library only.
"""

from __future__ import annotations  # engines may bring an older Python

from typing import Any

WATCHED = "_tesra_watched"


def patch(module: Any, tuner: Any) -> None:
    """Called when the module with ``CallbackList`` has been loaded."""
    kind = module.CallbackList
    if not getattr(kind, WATCHED, False):
        setattr(kind, WATCHED, True)
        _watch(kind, tuner)


def _watch(kind: Any, tuner: Any) -> None:
    real_begin, real_batch = kind.on_train_begin, kind.on_train_batch_begin
    real_end = kind.on_epoch_end

    def on_train_begin(callbacks: Any, *args: Any, **kwargs: Any) -> Any:
        if not _speaks_for_itself(callbacks):
            vars(callbacks)["_tesra_fit"] = Fit(tuner, callbacks.model)
        return real_begin(callbacks, *args, **kwargs)

    def on_train_batch_begin(callbacks: Any, *args: Any, **kwargs: Any) -> Any:
        fit = vars(callbacks).get("_tesra_fit")
        if fit is not None:
            fit.begin_batch()
        return real_batch(callbacks, *args, **kwargs)

    def on_epoch_end(callbacks: Any, *args: Any, **kwargs: Any) -> Any:
        fit = vars(callbacks).get("_tesra_fit")
        if fit is not None:
            fit.end_batch()
        return real_end(callbacks, *args, **kwargs)

    kind.on_train_begin = on_train_begin
    kind.on_train_batch_begin = on_train_batch_begin
    kind.on_epoch_end = on_epoch_end


def _speaks_for_itself(callbacks: Any) -> bool:
    """Whether the script has a ``tesra.keras.TuningCallback``."""
    return any(getattr(callback, "tesra_tuning", False) for callback in callbacks.callbacks)


class Fit:
    """One ``fit`` of a model: counts its steps, and has its optimiser follow."""

    def __init__(self, tuner: Any, model: Any) -> None:
        self._tuner = tuner
        self._model = model
        self._version = tuner.version
        self._open = False
        rate = _rate(model)
        if rate is not None:
            tuner.meet(type(model.optimizer).__name__, {"lr": rate})

    def begin_batch(self) -> None:
        """A batch begins, so that the one before it is done."""
        self.end_batch()
        self._open = True
        if self._version != self._tuner.version:
            self._follow()

    def end_batch(self) -> None:
        if self._open:
            self._open = False
            self._tuner.optimiser_stepped()

    def _follow(self) -> None:
        wanted = self._tuner.options_since(self._version).get("lr")
        self._version = self._tuner.version
        if wanted is None:
            return
        try:
            if hasattr(self._model, "jax_state_sync"):
                self._model.jax_state_sync()
            _set_rate(self._model, wanted)
        except Exception as error:  # noqa: BLE001 - a change must never end a training
            first = str(error).strip().partition("\n")[0]
            self._tuner.note(f"Keras did not take it: {first or type(error).__name__}")


def _rate(model: Any) -> float | None:
    """The learning rate, if it is a number that can be set."""
    try:
        optimiser = model.optimizer
        kept = getattr(optimiser, "_learning_rate", None)
        return None if callable(kept) else float(optimiser.learning_rate)
    except Exception:  # noqa: BLE001 - whatever stands there is not ours
        return None


def _set_rate(model: Any, value: float) -> None:
    optimiser = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # of loss scaling
    rate = optimiser.learning_rate
    if hasattr(rate, "assign"):
        rate.assign(value)
    else:
        optimiser.learning_rate = value
