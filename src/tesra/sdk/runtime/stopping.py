"""``tesra.stopping``: whether the run was asked to end; standard library only.

A script that asks has decided to end by itself: from then on SIGTERM is noted in place of ending
the process at once, unless the script has a handler of its own, which stays. The node says the same
in a file, so that it is seen in threads too, and under any handler. Outside of a run it is False.
"""

from __future__ import annotations  # engines may bring an older Python

import os
import signal
from types import FrameType

FILE_VARIABLE = "TESRA_STOPPING_FILE"


class Stopping:
    """One process's view; nothing is watched until a script first asks."""

    def __init__(self) -> None:
        self._asked = False
        self._watcher = 0

    def asked(self) -> bool:
        """Whether the end was asked for; once true it stays so."""
        if not self._watcher:
            self._watch()
        if not self._asked:
            path = os.environ.get(FILE_VARIABLE)
            self._asked = bool(path) and os.path.exists(path or "")  # noqa: PTH110 - pathlib is slow
        return self._asked

    def _watch(self) -> None:
        self._watcher = os.getpid()
        if not os.environ.get(
            FILE_VARIABLE
        ):  # bare, the terminal's and the user's signals are theirs
            return
        try:
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self._note)
        except ValueError:  # not in the main thread: the file has to do
            return

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._watcher:  # a worker that was forked ends as it would have
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._asked = True
