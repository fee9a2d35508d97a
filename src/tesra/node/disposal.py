"""Folders of attempts that are over: removed when the node has time for it, and not much later.

To remove a short run's folders costs its node a fifth of all that the run costs; those that run
or are about to go first. What lies there until then has a record that says it has ended.
"""

import asyncio
import time
from dataclasses import dataclass

from tesra.node.workspace import AttemptFolders, remove

LATEST_S = 60.0  # however busy the node is


@dataclass(frozen=True, slots=True)
class _Waste:
    """``due``: from then on it may go, in seconds since the epoch."""

    folders: AttemptFolders
    due: float


class Disposal:
    """One per node."""

    def __init__(self) -> None:
        self._waste: dict[str, _Waste] = {}
        self._lock = asyncio.Lock()

    def add(self, attempt: str, folders: AttemptFolders, *, keep_until: float | None) -> None:
        """``keep_until``: its output could not be stored, and its user may still want it."""
        self._waste[attempt] = _Waste(folders, keep_until or time.time())

    async def work(self, *, busy: bool) -> None:
        """Remove what is due; while the node is busy only what has waited long enough."""
        until = time.time() - (LATEST_S if busy else 0.0)
        for attempt in [name for name, waste in self._waste.items() if waste.due <= until]:
            await self.remove(attempt)

    async def remove(self, attempt: str) -> None:
        """Now, if it is there: returns when its place is free."""
        async with self._lock:
            waste = self._waste.get(attempt)
            if waste is not None:
                await asyncio.to_thread(remove, waste.folders)
                self._waste.pop(attempt, None)
