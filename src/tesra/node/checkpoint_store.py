"""One round of storing checkpoints: look, wait until nobody writes, read what changed, send it.

What goes into the drive of a file is its content at a time when it was whole: unchanged for
``QUIET_S``, unchanged again after it was read, and passed by its format's own signs. A file that
is replaced all the time is held open meanwhile: the version that was there at the look is read.
One that is torn keeps its last good version in the snapshot, together with the files it belongs
to. Blocking; for a thread.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tesra.kit.errors import QuotaExceeded
from tesra.node.checkpoint_files import Seen, look, look_at, open_plain, seen_of
from tesra.node.checkpoint_formats import Wholeness, wholeness
from tesra.node.checkpoint_kinds import is_checkpoint, newest, step_of, units, why_incomplete
from tesra.node.workspace import AttemptFolders
from tesra.sdk.transfer import HttpDoor, open_epoch
from tesra.storage.assembling import build_tree, cut_file, inline_file
from tesra.storage.sending import ChunkSender
from tesra.storage.tree import File
from tesra.wire.drive import SnapshotCommit

QUIET_S = 2.0
MANIFEST = "checkpoint.json"
OWN, OUTPUT = "checkpoints", "output"  # the folders of a stored checkpoint
_HELD_OPEN = 256  # files at once
_NS = 1_000_000_000

_log = logging.getLogger(__name__)


class Abandoned(Exception):
    """Nobody waits for this round any more."""


@dataclass(frozen=True, slots=True)
class Stored:
    """``finished_ns``: when its newest file was finished, by the node's clock."""

    commit: SnapshotCommit
    finished_ns: int
    files: int
    size_bytes: int
    newest: str | None
    step: int | None


@dataclass(frozen=True, slots=True)
class _Known:
    """A file as it was stored; ``entry`` is None for one that was brought here and not read yet."""

    seen: Seen
    entry: File | None


@dataclass(slots=True)
class _Round:
    """``ended_ns``: when the gang's last write can have been; None while it runs.

    ``orderly``: all ranks have ended by themselves, so that every file was closed.
    """

    ended_ns: int | None
    orderly: bool
    seen: dict[str, Seen]
    groups: dict[str, list[str]]
    pins: dict[str, int] = field(default_factory=dict)
    pinned_at: float = field(default_factory=time.monotonic)
    kept: dict[str, _Known] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)


class CheckpointStore:
    """What an attempt has written so far, and what of it the drive holds."""

    def __init__(
        self,
        folders: AttemptFolders,
        door: HttpDoor,
        say: Callable[[str], None],
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._folders = folders
        self._quiet_s = quiet_s
        self._door = door
        self._say = say
        self._known: dict[str, _Known] = {}
        self._complained: dict[str, tuple[int, int, int]] = {}
        self._abandoned = threading.Event()

    def baseline(self) -> None:
        """What lies there now was brought here: only what changes is worth storing."""
        self._known = {place: _Known(seen, None) for place, seen in self._look().items()}

    def abandon(self) -> None:
        """Let a round that is under way end early, without a result."""
        self._abandoned.set()

    def store(self, *, ended_ns: int | None = None, orderly: bool = False) -> Stored | None:
        """Store what is new; None when nothing is. Raises what the drive refuses with."""
        seen = self._look()
        changed = {place for place in seen if self._is_new(place, seen[place])}
        if not changed:
            return None
        round_ = _Round(ended_ns, orderly, seen, _grouped(seen))
        with self._held(round_, changed):
            if ended_ns is None:
                self._wait_until_quiet(round_)
            grant, keys, sink = open_epoch(self._door)
            self._check_room(round_, changed, grant.quota_left_bytes)
            with ChunkSender(sink, keys) as sender:
                for path, places in round_.groups.items():
                    self._take(round_, sender, path, places)
                if not round_.new:
                    return None
                stored, manifest = self._describe(round_)
                entries = {place: known.entry for place, known in round_.kept.items()}
                files = {place: entry for place, entry in entries.items() if entry is not None}
                root = build_tree(sender, files | {MANIFEST: inline_file(MANIFEST, manifest)})
                sender.finish()
        self._known = round_.kept
        commit = SnapshotCommit(
            epoch=grant.epoch,
            root=root.hex(),
            file_count=stored.files + 1,
            size_bytes=stored.size_bytes + len(manifest),
        )
        return Stored(
            commit, stored.finished_ns, stored.files, stored.size_bytes, stored.newest, stored.step
        )

    # -- looking ---------------------------------------------------------------------------------

    def _look(self) -> dict[str, Seen]:
        root = self._folders.root
        found = {f"{OWN}/{name}": seen for name, seen in look(root, OWN).items()}
        output = f"work/{self._folders.output}"
        single = look_at(root, output)
        if single is not None:
            name = output.rpartition("/")[2]
            return found | ({f"{OUTPUT}/{name}": single} if is_checkpoint(name) else {})
        inside = look(root, output)
        recognised = {name for names in units(inside, everything=False).values() for name in names}
        return found | {f"{OUTPUT}/{name}": inside[name] for name in recognised}

    def _path(self, place: str) -> str:
        kind, _, name = place.partition("/")
        if kind == OWN:
            return place
        output = f"work/{self._folders.output}"
        if self._output_is_file:
            return f"{output.rpartition('/')[0]}/{name}"
        return f"{output}/{name}"

    @property
    def _output_is_file(self) -> bool:
        return look_at(self._folders.root, f"work/{self._folders.output}") is not None

    def _is_new(self, place: str, seen: Seen) -> bool:
        known = self._known.get(place)
        return known is None or known.seen.key != seen.key

    # -- waiting ---------------------------------------------------------------------------------

    @contextmanager
    def _held(self, round_: _Round, changed: set[str]) -> Iterator[None]:
        """Hold on to the files that were written to a moment ago, whatever becomes of their names."""
        try:
            now_ns = time.time_ns()
            hot = [p for p in sorted(changed) if not self._quiet(round_.seen[p], now_ns)]
            for place in hot[:_HELD_OPEN]:
                descriptor = open_plain(self._folders.root, self._path(place))
                if descriptor is not None:
                    round_.pins[place] = descriptor
                    round_.seen[place] = seen_of(os.fstat(descriptor))
            round_.pinned_at = time.monotonic()
            yield
        finally:
            for descriptor in round_.pins.values():
                os.close(descriptor)

    def _wait_until_quiet(self, round_: _Round) -> None:
        if round_.pins and self._abandoned.wait(self._quiet_s):
            raise Abandoned

    # -- taking ----------------------------------------------------------------------------------

    def _take(self, round_: _Round, sender: ChunkSender, path: str, places: list[str]) -> None:
        """One checkpoint whole as it is now, or as it was stored last, or not at all."""
        taken: dict[str, _Known] = {}
        why = why_incomplete(places)
        for place in places:
            known = self._known.get(place)
            seen = round_.seen[place]
            if why is not None:
                break
            if known is not None and known.entry is not None and known.seen.key == seen.key:
                taken[place] = known
                continue
            entry, why = self._read(round_, sender, place)
            if entry is not None:
                taken[place] = _Known(seen, entry)
        if why is None:
            round_.kept |= taken
            round_.new |= {p for p in places if self._is_new(p, round_.seen[p])}
            return
        self._complain(path, places, round_, why)
        before = {
            place: known
            for place, known in self._known.items()
            if known.entry is not None and _belongs(place, path, places)
        }
        round_.kept |= before

    def _read(
        self, round_: _Round, sender: ChunkSender, place: str
    ) -> tuple[File | None, str | None]:
        """The file's entry, or why there is none."""
        if self._abandoned.is_set():
            raise Abandoned
        seen = round_.seen[place]
        pinned = round_.pins.get(place)
        descriptor = pinned
        if descriptor is None:
            descriptor = open_plain(self._folders.root, self._path(place))
        if descriptor is None:
            return None, "it is gone"
        with os.fdopen(descriptor, "rb", buffering=0, closefd=pinned is None) as file:
            known = os.fstat(descriptor)
            if seen_of(known).key != seen.key:
                return None, "it is still being written"
            name = place.rpartition("/")[2]
            whole = wholeness(descriptor, name, seen.size)
            if whole is Wholeness.TORN:
                return None, "it is not whole"
            if whole is not Wholeness.PROVEN and not self._settled(round_, seen):
                return None, "it was written to a moment ago"
            entry = cut_file(sender, file, name=name, executable=bool(known.st_mode & 0o100))
            if seen_of(os.fstat(descriptor)).key != seen.key or entry.size != seen.size:
                return None, "it changed while it was being read"
            return entry, None

    def _settled(self, round_: _Round, seen: Seen) -> bool:
        """Whether nobody has written to it for long enough.

        Once the gang has ended that counts from its last moment: a rank that was killed may have
        been in the middle. A rename after the last write says that it was finished.
        """
        if round_.ended_ns is None:
            waited_s = time.monotonic() - round_.pinned_at
            return waited_s >= self._quiet_s or self._quiet(seen, time.time_ns())
        return round_.orderly or seen.ctime_ns > seen.mtime_ns or self._quiet(seen, round_.ended_ns)

    def _quiet(self, seen: Seen, at_ns: int) -> bool:
        return at_ns - seen.mtime_ns >= self._quiet_s * _NS

    def _complain(self, path: str, places: list[str], round_: _Round, why: str) -> None:
        """Once for each state of a file, so that a log does not fill with it; not of a passing draft."""
        if not all(self._is_still(round_.seen[place], place) for place in places):
            return
        state = max(round_.seen[place].key for place in places)
        if self._complained.get(path) == state:
            return
        self._complained[path] = state
        held = any(self._known.get(p) and self._known[p].entry for p in places)
        last = "its last good version is kept" if held else "it waits for the next one"
        self._say(f"'{path}' is left out of this checkpoint: {why}; {last}.")

    def _is_still(self, seen: Seen, place: str) -> bool:
        now = look_at(self._folders.root, self._path(place))
        return now is not None and now.inode == seen.inode

    def _check_room(self, round_: _Round, changed: set[str], left_bytes: int) -> None:
        """As much again has to stay free, so that the run's output still finds room."""
        needed = sum(round_.seen[place].size for place in changed)
        if 2 * needed > left_bytes:
            raise QuotaExceeded(
                f"The checkpoint of {needed / 2**20:,.1f} MiB does not fit into your storage with "
                f"room left for the output: {left_bytes / 2**20:,.1f} MiB are free.",
                way_out="Save less often or less, or ask the operator for a larger quota.",
            )

    # -- describing ------------------------------------------------------------------------------

    def _describe(self, round_: _Round) -> tuple["_Summary", bytes]:
        kept = round_.kept
        groups = {
            path: [place for place in places if place in kept]
            for path, places in round_.groups.items()
        }
        written = {
            path: max(kept[place].seen.mtime_ns for place in places)
            for path, places in groups.items()
            if places
        }
        best = _best(written, groups)
        summary = _Summary(
            finished_ns=max(kept[place].seen.ctime_ns for place in round_.new),
            files=len(kept),
            size_bytes=sum(known.seen.size for known in kept.values()),
            newest=best,
            step=step_of(best) if best else None,
        )
        manifest = {
            "newest": best,
            "step": summary.step,
            "output_is_file": self._output_is_file,
            "written_ns": {place: known.seen.mtime_ns for place, known in sorted(kept.items())},
        }
        return summary, json.dumps(manifest, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class _Summary:
    finished_ns: int
    files: int
    size_bytes: int
    newest: str | None
    step: int | None


def _grouped(places: dict[str, Seen]) -> dict[str, list[str]]:
    """The checkpoints of both folders by their places."""
    groups: dict[str, list[str]] = {}
    for kind in (OWN, OUTPUT):
        names = {p.removeprefix(f"{kind}/") for p in places if p.startswith(f"{kind}/")}
        for path, files in units(names, everything=kind == OWN).items():
            groups[f"{kind}/{path}"] = [f"{kind}/{name}" for name in files]
    return groups


def _best(written: dict[str, int], groups: dict[str, list[str]]) -> str | None:
    """The newest; what lies in the checkpoint folder goes before what lies in the output."""
    for kind in (OWN, OUTPUT):
        own = {path: at for path, at in written.items() if path.startswith(f"{kind}/")}
        if own:
            return newest(own, groups)
    return None


def _belongs(place: str, path: str, places: list[str]) -> bool:
    return place in places or place.startswith((f"{path}/", f"{path}."))
