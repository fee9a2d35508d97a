"""``tesra.lightning.TuningCallback``: a Lightning trainer follows ``tesra tune``, by a line in the script.

Within a run this is not needed, since torch's optimisers are watched in a rank's own process: it is
for processes that a strategy of Lightning's starts by itself. Outside of a run it does nothing.
Lightning is imported when the name is first used.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "TuningCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tesra.sdk.runtime.callbacks import lightning_callback

    found = globals()[name] = lightning_callback()
    return found
