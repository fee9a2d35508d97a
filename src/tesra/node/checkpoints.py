"""The checkpoints of one attempt, stored while it runs and at its end; training never waits for it.

A round that fails is tried again at the next one. The server that is away, a full drive, a file
that cannot be read: each leaves the run as it is, with a line in its log.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from tesra.kit.errors import QuotaExceeded, TesraError, Unavailable
from tesra.node.checkpoint_store import Abandoned, CheckpointStore, Stored
from tesra.node.site_client import StaleFence, meaning
from tesra.wire.site import Checkpoint

_RETRY_S = 5.0

_log = logging.getLogger(__name__)


class CheckpointKeeper:
    """One for an attempt, on its first node. ``begin`` while it runs, then ``finish`` or ``cancel``.

    ``ran_at`` maps a time of the node's clock to the attempt's running time in ms; ``told`` takes
    each checkpoint that is in the drive; ``number`` is that of the last one.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        ran_at: Callable[[int], int],
        told: Callable[[Checkpoint], None],
        say: Callable[[str], None],
        number: int = 0,
    ) -> None:
        self._store = store
        self._ran_at = ran_at
        self._told = told
        self._say = say
        self._number = number
        self._refused = ""
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self, every_s: float) -> None:
        """Store what is new each ``every_s`` seconds."""
        self._task = asyncio.create_task(self._keep(every_s))

    async def finish(self, *, ended_ns: int, orderly: bool) -> None:
        """After the gang's end: store what is left, however long the server is away.

        Raises ``StaleFence``; anything else that is refused is said in the run's log.
        """
        self._ending.set()
        if self._task is not None:
            await self._task
        while True:
            try:
                await self._round(ended_ns, orderly=orderly)
            except Unavailable as error:
                _log.warning("checkpoints wait for the server: %s", error.detail)
                await asyncio.sleep(_RETRY_S)
            except TesraError as error:
                if isinstance(meaning(error), StaleFence):
                    raise StaleFence from error
                self._refuse(error)
                return
            else:
                return

    async def cancel(self) -> None:
        """Store nothing more."""
        self._store.abandon()
        self._ending.set()
        if self._task is not None:
            await self._task

    async def _keep(self, every_s: float) -> None:
        while not self._ending.is_set():
            try:
                await asyncio.wait_for(self._ending.wait(), every_s)
            except TimeoutError:
                await self._try()

    async def _try(self) -> None:
        try:
            await self._round(None, orderly=False)
        except Unavailable as error:
            _log.warning("a checkpoint waits for the server: %s", error.detail)
        except TesraError as error:
            if not isinstance(meaning(error), StaleFence):  # that ends the attempt by itself
                self._refuse(error)
        except Abandoned:
            return
        except Exception:  # noqa: BLE001 - a worker's outer loop: the run goes on without it
            _log.exception("checkpoints could not be stored")

    async def _round(self, ended_ns: int | None, *, orderly: bool) -> None:
        began = time.monotonic()
        stored = await asyncio.to_thread(self._store.store, ended_ns=ended_ns, orderly=orderly)
        if stored is None:
            return
        self._number += 1
        self._refused = ""
        checkpoint = self._checkpoint(stored)
        self._told(checkpoint)
        step = "" if stored.step is None else f", step {stored.step}"
        _log.info("checkpoint %d took %.2f s", self._number, time.monotonic() - began)
        self._say(
            f"Stored checkpoint {self._number} of this attempt: {_files(stored.files)}, "
            f"{stored.size_bytes / 2**20:,.1f} MiB{step}."
        )

    def _checkpoint(self, stored: Stored) -> Checkpoint:
        return Checkpoint(
            number=self._number,
            snapshot=stored.commit,
            ran_ms=self._ran_at(stored.finished_ns),
            finished_at=datetime.fromtimestamp(stored.finished_ns / 1e9, UTC),
            files=stored.files,
            size_bytes=stored.size_bytes,
            newest=stored.newest,
            step=stored.step,
        )

    def _refuse(self, error: TesraError) -> None:
        """Said once, until the reason changes or one is stored again."""
        kind = "quota" if isinstance(error, QuotaExceeded) else error.detail
        if kind != self._refused:
            self._refused = kind
            way_out = f" {error.way_out}" if error.way_out else ""
            self._say(f"No checkpoint was stored: {error.detail}{way_out} The run goes on.")


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
