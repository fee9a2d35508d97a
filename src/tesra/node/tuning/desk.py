"""An attempt's tuning on one node: keeps the ranks told, and watches what they answer."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from tesra.node.tuning.decide import merged
from tesra.node.tuning.files import StatusFile, write_orders
from tesra.node.tuning.model import Order, RankTuning, TuningReport
from tesra.node.workspace import AttemptFolders

LOOK_EVERY_S = 0.5
LOOK_SOON_S = 0.05  # while a change is on its way

Gone = Callable[[], set[int]]


class TuningDesk:
    """``changed`` is called whenever ``report`` has become another. ``close`` it."""

    def __init__(
        self,
        folders: AttemptFolders,
        ranks: Sequence[int],
        *,
        gone: Gone,
        changed: Callable[[], None],
    ) -> None:
        """``gone``: the ranks that have ended."""
        self._folders = folders
        self._files = [StatusFile(folders, rank) for rank in ranks]
        self._gone = gone
        self._changed = changed
        self._orders: tuple[Order, ...] = ()
        self._ranks = tuple(RankTuning(rank) for rank in ranks)
        self._ordered = asyncio.Event()
        self._task = asyncio.create_task(self._watch())

    @property
    def report(self) -> TuningReport:
        return TuningReport(self._ranks, self._orders)

    def order(self, orders: Sequence[Order]) -> None:
        """Tell the ranks."""
        after = merged(self._orders, orders)
        if after == self._orders:
            return
        self._orders = after
        write_orders(self._folders, after)
        self._ordered.set()
        self._changed()

    def close(self) -> None:
        """Read a last time what the ranks have said; nothing is watched any more."""
        self._task.cancel()
        self._look()
        for file in self._files:
            file.close()
        self._files = []

    async def _watch(self) -> None:
        while True:
            pending = any(not order.failed for order in self._orders)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SOON_S if pending else LOOK_EVERY_S):
                    await self._ordered.wait()
            if self._ordered.is_set():
                self._ordered.clear()
                await asyncio.sleep(LOOK_SOON_S)
            self._look()

    def _look(self) -> None:
        gone = self._gone()
        ranks = tuple(
            replace(known, gone=True) if known.rank in gone else known
            for known in (file.read() for file in self._files)
        )
        if self._files and ranks != self._ranks:
            self._ranks = ranks
            self._changed()
