"""What one attempt does about checkpoints on one node: bring one back, store new ones.

Every node of a gang brings back; the first one stores. What was brought back has been gone on from
only if the script has read it, and its bill depends on that.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tesra.kit.saying import said
from tesra.node.attempt_record import AttemptRecord
from tesra.node.checkpoint_store import CheckpointStore
from tesra.node.checkpoints import CheckpointKeeper
from tesra.node.ranks import RankExit
from tesra.node.read_watch import ReadWatch, tells
from tesra.node.restoring import RESUME_VARIABLE, restore
from tesra.node.site_client import SiteClient
from tesra.node.verdicts import Left, how_left, last_sign
from tesra.node.workspace import AttemptFolders
from tesra.wire.site import Assignment, Checkpoint, RunSpec


class AttemptCheckpoints:
    """``ran_ms`` is None once the gang has ended; ``note`` keeps changes of the attempt's status."""

    def __init__(
        self,
        client: SiteClient,
        record: Callable[[], AttemptRecord],
        *,
        ran_ms: Callable[[], int | None],
        note: Callable[..., None],
        say: Callable[[str], None],
    ) -> None:
        self._client = client
        self._record = record
        self._ran_ms = ran_ms
        self._note = note
        self._say = say
        self._watch: ReadWatch | None = None
        self._keeper: CheckpointKeeper | None = None
        self._every_s = 0.0
        self._left = Left(0, orderly=False)

    async def bring(self, assignment: Assignment, folders: AttemptFolders) -> RunSpec:
        """Put back what the attempt is to go on from; its spec, which says so to the script."""
        spec = assignment.spec
        if assignment.resume is None:
            return spec
        self._note(phase=said("fetching the checkpoint"))
        door = self._client.drive(assignment.attempt, assignment.fence)
        restored = await restore(door, assignment.resume, folders, self._say)
        if await asyncio.to_thread(tells, folders.root):
            self._watch = ReadWatch(restored.files)
        return spec.model_copy(update={"env": spec.env | {RESUME_VARIABLE: str(restored.newest)}})

    async def prepare(self, folders: AttemptFolders, every_s: float) -> None:
        """This node is to store, so often; what lies in the folders now was brought here."""
        self._every_s = every_s
        store = self._store(folders)
        await asyncio.to_thread(store.baseline)
        self._keeper = self._keeping(store)

    def begin(self) -> None:
        """All ranks run."""
        if self._keeper is not None:
            self._keeper.begin(self._every_s)

    def ended(self, exits: list[RankExit], ranks: int) -> None:
        """The gang is gone; there was one of so many ranks here."""
        self._left = how_left(exits, ranks)

    async def take_over(self, folders: AttemptFolders) -> None:
        """An agent that died left them to this one."""
        self._left = await asyncio.to_thread(last_sign, folders)
        if self._record().checkpoints:
            self._keeper = self._keeping(self._store(folders))

    async def finish(self, *, succeeded: bool) -> None:
        """Say whether the script went on from what it found; store what is left if it is needed."""
        self._note(resumed=self.was_read())
        if self._keeper is None:
            return
        if succeeded or not self._record().ran:
            await self._keeper.cancel()
            return
        self._note(phase=said("storing the last checkpoint"))
        await self._keeper.finish(ended_ns=self._left.at_ns, orderly=self._left.orderly)

    async def cancel(self) -> None:
        """Store nothing more."""
        if self._keeper is not None:
            await self._keeper.cancel()

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def was_read(self) -> bool:
        """Whether the script has read what was brought back."""
        known = self._record().status.resumed
        return known or (self._watch is not None and self._watch.was_read())

    def _store(self, folders: AttemptFolders) -> CheckpointStore:
        status = self._record().status
        door = self._client.drive(status.attempt, status.fence)
        return CheckpointStore(folders, door, self._say)

    def _keeping(self, store: CheckpointStore) -> CheckpointKeeper:
        last = self._record().status.checkpoint
        return CheckpointKeeper(
            store,
            ran_at=self._ran_at,
            told=self._told,
            say=self._say,
            number=last.number if last else 0,
        )

    def _told(self, checkpoint: Checkpoint) -> None:
        resumed = self.was_read()
        changes: dict[str, Any] = {"resumed": resumed}
        changes["checkpoint"] = checkpoint.model_copy(update={"resumed": resumed})
        self._note(**changes)

    def _ran_at(self, at_ns: int) -> int:
        """The running time at a moment of this node's clock; that of an agent that died is unknown."""
        ran_ms = self._ran_ms()
        if ran_ms is not None:
            return max(0, ran_ms - max(0, time.time_ns() - at_ns) // 1_000_000)
        status = self._record().status
        if status.started_at is None:
            return 0
        since_ms = max(0, at_ns // 1_000_000 - int(status.started_at.timestamp() * 1000))
        return min(since_ms, status.ran_ms) if status.ran_ms else since_ms
