"""The callbacks for Keras and Lightning, made of whichever of their packages the script uses."""

from __future__ import annotations  # engines may bring an older Python

import sys
from importlib import import_module
from typing import Any

from tesra.sdk.runtime import torch_hook
from tesra.sdk.runtime.keras_hook import Fit
from tesra.sdk.runtime.tuner import tuner


def keras_callback() -> Any:
    """A class for ``callbacks=[TuningCallback()]``: Keras 2's if the script has that, else Keras 3's."""
    base: Any = _used("tf_keras", "keras").callbacks.Callback

    class TuningCallback(base):  # type: ignore[misc]  # its base is the script's
        """Changes the learning rate at the batch that all ranks have agreed on."""

        tesra_tuning = True
        async_safe = True

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self._tesra_fit = Fit(tuner(), self.model)

        def on_train_batch_begin(self, *_: Any, **__: Any) -> None:
            self._tesra_fit.begin_batch()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self._tesra_fit.end_batch()

    return TuningCallback


def lightning_callback() -> Any:
    """A class for ``Trainer(callbacks=[TuningCallback()])``."""
    base: Any = _used("pytorch_lightning", "lightning.pytorch").Callback

    class TuningCallback(base):  # type: ignore[misc]  # its base is the script's
        """Has torch's optimisers watched in this process, from before they are made."""

        def setup(self, *_: Any, **__: Any) -> None:
            for name in ("torch.optim.optimizer", "torch.optim.lr_scheduler"):
                torch_hook.patch(import_module(name), tuner())

    return TuningCallback


def _used(*names: str) -> Any:
    """The first of these that the script has imported; else the last one, imported now."""
    found = next((name for name in names if name in sys.modules), names[-1])
    return import_module(found)
