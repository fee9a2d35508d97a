"""A folder here and a path of the drive are made equal, both ways; only what differs moves.

What goes up lands as one change, and only on what was looked at: who comes too late looks again.
Killed anywhere, the next sync goes on: what is equal by then is not moved again.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from tesra.kit.errors import Conflict, Invalid, NotFound
from tesra.sdk.client import Client
from tesra.sdk.connection import PREFIX
from tesra.sdk.credentials import config_folder
from tesra.sdk.fetch import fetch_planned, planned_entries
from tesra.sdk.private.places import parse_place
from tesra.sdk.sync.ignoring import Ignored
from tesra.sdk.sync.local import Naming, Seen, scan, stamp_of
from tesra.sdk.sync.plan import Plan, plan_sync, uppermost
from tesra.sdk.sync.state import Memory, SyncState
from tesra.sdk.transfer import HttpDoor, upload_tree
from tesra.storage.format import EpochKeys
from tesra.storage.progress import Report, silent
from tesra.storage.tree import Folder, content_id
from tesra.wire.drive import ReadPlan
from tesra.wire.files import Change, Expect, PutTree, Remove

_TRIES = 4
_CHANGES_AT_ONCE = 900
_CHANGED = frozenset({"changed_meanwhile", "file_changed"})  # there, here


class NotInAPrivateDrive(Invalid):
    """Only paths of your default drive can be synced."""


class NoFolderHere(Invalid):
    """What is to be synced here is a file, not a folder."""


class NoFolderThere(Conflict):
    """What stands at this path of the drive is a file, not a folder."""


class NothingToSync(NotFound):
    """There is nothing on either side."""


class FolderGone(Conflict):
    """A folder that was synced is not there any more."""


class ChangesWithoutEnd(Conflict):
    """This folder, or this path of the drive, was changed again and again at the same moment."""


@dataclass(frozen=True, slots=True)
class Synced:
    """``skipped``: changed here while this ran; the next sync has them."""

    plan: Plan
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _View:
    """Both sides as they were looked at; ``there_id`` is empty where nothing stands."""

    identity: str
    version: int
    there_id: str
    memory: Memory
    here: dict[str, Seen]
    there: dict[str, str]
    plan: Plan


class FolderSync:
    """One pair of a folder and a path such as ``/datasets/digits``."""

    def __init__(
        self,
        client: Client,
        folder: Path,
        path: str,
        *,
        delete: bool = False,
        state_folder: Path | None = None,
    ) -> None:
        if parse_place(path).drive is not None:
            raise NotInAPrivateDrive(
                way_out="`tesra drive put --merge` and `tesra drive get` carry a private drive's."
            )
        self._client = client
        self._folder = folder.absolute()
        self._path = f"/{path.strip('/')}"
        self._delete = delete
        self._door = HttpDoor(client.connection.http, f"{PREFIX}/drive")
        self._state = SyncState(
            state_folder or config_folder() / "sync",
            local=self._folder.resolve(),
            remote=self._path,
            url=client.url,
        )
        self._warnings: list[str] = []

    def preview(self) -> Synced:
        """What a sync would do now."""
        with self._state.alone():
            return Synced(self._look().plan, warnings=tuple(self._warnings))

    def run(self, report: Report = silent) -> Synced:
        with self._state.alone():
            for left in reversed(range(_TRIES)):
                view = self._look()
                self._folder.mkdir(parents=True, exist_ok=True)
                try:
                    skipped = self._carry_out(view, report)
                except Conflict as error:
                    if error.code not in _CHANGED:
                        raise
                    continue
                except FileNotFoundError:  # of what was to go up: the next look knows
                    if not left:
                        raise
                    continue
                return Synced(view.plan, tuple(sorted(skipped)), tuple(self._warnings))
        raise ChangesWithoutEnd(way_out="Try again.")

    def _look(self) -> _View:
        self._warnings.clear()
        head = self._client.drive_head()
        identity = f"{head.drive}:{head.epoch}"
        memory = self._state.load(identity)
        there_id = self._there_id(head.version)
        ignored = Ignored(self._folder)
        there = memory.there
        if not there_id:
            there = {}
        elif there_id != memory.there_id:
            there = self._listing(head.version)
        self._require_folder(memory, there_id)
        here: dict[str, Seen] = {}
        if self._folder.is_dir():
            naming = Naming(lambda: self._keys)
            here = scan(self._folder, ignored, memory.here, naming, self._warnings.append)
        plan = plan_sync(
            memory.base,
            {path: seen.content for path, seen in here.items()},
            {path: content for path, content in there.items() if not ignored.hides(path)},
            delete=self._delete,
            mark=f"{socket.gethostname()[:40]} {datetime.now().astimezone():%Y-%m-%d}",
        )
        return _View(identity, head.version, there_id, memory, here, dict(there), plan)

    def _require_folder(self, memory: Memory, there_id: str) -> None:
        """A folder may be missing only where the drive's is to come for the first time."""
        if self._folder.is_dir():
            return
        if self._folder.exists():
            raise NoFolderHere(way_out="`tesra drive get` and `put` carry single files.")
        if memory.base:
            raise FolderGone(
                f"'{self._folder}' was synced, and is not there any more.",
                way_out="Bring it back, or make it anew, empty, and sync again.",
            )
        if not there_id:
            raise NothingToSync(
                f"There is no folder '{self._folder}', and nothing at '{self._path}' of the drive."
            )

    def _carry_out(self, view: _View, report: Report) -> set[str]:
        """Both sides as planned, then the memory of it; what was skipped."""
        plan, skipped = view.plan, set[str]()
        now = {path: seen.content for path, seen in view.here.items()}
        for path, beside in plan.renamed:
            (self._folder / beside).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / path).rename(self._folder / beside)
            now[beside] = now.pop(path)
        if plan.upload or plan.renamed or plan.remove_there:
            self._send(view, now, report)
        for path in plan.remove_here:
            if self._untouched(view, path):
                self._remove(path)
                del now[path]
            else:
                skipped.add(path)
        wanted = {path for path in plan.download if self._untouched(view, path)}
        skipped |= {*plan.download} - wanted
        if wanted:
            chosen = {tuple(path.split("/")) for path in wanted}
            fetch_planned(self._door, self._plan(view.version), self._folder, report, chosen=chosen)
            now |= {path: view.there[path] for path in wanted}
        self._remember(view, now, skipped)
        return skipped

    def _send(self, view: _View, now: dict[str, str], report: Report) -> None:
        """What changed here, and what is gone, in one change; ``view`` has the drive's side after."""
        plan = view.plan
        going = [*plan.upload, *(beside for _, beside in plan.renamed)]
        kept = {*view.there} - {*plan.remove_there}
        gone = uppermost({*plan.remove_there}, kept)
        changes: list[Change] = [Remove(path=f"{self._path.rstrip('/')}/{one}") for one in gone]
        if going:
            files = [Path(path) for path in going]
            tree = upload_tree(self._door, self._folder, files, report)
            changes.append(PutTree(path=self._path, tree=tree, merge=True))
        expected = Expect(path=self._path, content=view.there_id or None)
        for begin in range(0, len(changes), _CHANGES_AT_ONCE):
            first: list[Change] = [expected] if begin == 0 else []
            batch = changes[begin : begin + _CHANGES_AT_ONCE]
            view.version = self._client.drive_change(*first, *batch).head.version
        view.there_id = self._there_id(view.version)
        for path in plan.remove_there:
            view.there.pop(path)
        view.there |= {path: now[path] for path in going}

    def _remember(self, view: _View, now: dict[str, str], skipped: set[str]) -> None:
        base: dict[str, str] = {}
        for path in {*now, *view.there}:
            ours, theirs = now.get(path), view.there.get(path)
            agreed = ours if ours == theirs and path not in skipped else view.memory.base.get(path)
            if agreed is not None:
                base[path] = agreed
        here: dict[str, Seen] = {}
        for path, content in now.items():
            before, stamp = view.here.get(path), stamp_of(self._folder / path)
            moved = before is None or before.content != content  # it came down just now
            if stamp is not None and (moved or (before is not None and before.stamp == stamp)):
                here[path] = Seen(content, stamp)
            elif path in view.plan.upload:
                base.pop(path, None)  # changed while it went up: look at both sides again
                view.there_id = ""
        memory = Memory(base, view.there, view.there_id, here)
        if memory != view.memory:
            self._state.save(view.identity, memory)

    def _untouched(self, view: _View, path: str) -> bool:
        """Whether a path here is as it was looked at; a name that was moved away is free."""
        seen = view.here.get(path)
        if path in dict(view.plan.renamed):
            seen = None
        return stamp_of(self._folder / path) == (seen.stamp if seen else None)

    def _remove(self, path: str) -> None:
        """A file, and the folders above it that hold nothing more."""
        place = self._folder / path
        place.unlink()
        for above in place.parents:
            if above == self._folder or any(above.iterdir()):
                return
            above.rmdir()

    def _there_id(self, version: int) -> str:
        try:
            entry = self._client.drive_entry(self._path, version=version)
        except NotFound:
            return ""
        if entry.kind != "dir":
            raise NoFolderThere(way_out="`tesra drive get` and `put` carry single files.")
        return entry.content or ""

    def _listing(self, version: int) -> dict[str, str]:
        return {
            "/".join(parts): content_id(entry).hex()
            for parts, entry in planned_entries(self._door, self._plan(version))
            if not isinstance(entry, Folder)
        }

    def _plan(self, version: int) -> ReadPlan:
        query = {"path": self._path, "version": version}
        return self._client.connection.get("/drive/plan", ReadPlan, query)

    @cached_property
    def _keys(self) -> EpochKeys:
        grant = self._door.grant()
        return EpochKeys(grant.epoch, bytes.fromhex(grant.id_key), bytes.fromhex(grant.data_key))


def watch(
    sync: FolderSync, told: Callable[[Synced], None], wait: Callable[[], None], report: Report
) -> None:
    """Sync again and again; ``told`` hears of those that did something."""
    while True:
        done = sync.run(report)
        if not done.plan.empty:
            told(done)
        wait()
