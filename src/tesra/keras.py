"""``tesra.keras.TuningCallback``: a ``fit`` of Keras follows ``tesra tune``, by a line in the script.

Within a run this is not needed, since a rank's own process is watched anyhow: it is for processes
that a script starts by itself, and for those who like to say what happens. Outside of a run it does
nothing. Keras is imported when the name is first used.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "TuningCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tesra.sdk.runtime.callbacks import keras_callback

    found = globals()[name] = keras_callback()
    return found
