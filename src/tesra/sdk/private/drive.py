"""The verbs of a private drive: the tree is read and changed here, the server only keeps it.

A change is made on the head that was seen and moved by compare and swap. Who comes too late merges:
what both sides changed is kept under both names.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from tesra.kit.errors import Conflict, Invalid, NotFound
from tesra.sdk.drive import NothingToPut
from tesra.sdk.private.chunks import (
    NodeCache,
    SealedReader,
    Workshop,
    all_chunks,
    fetch_tree,
    file_ids,
    walk,
)
from tesra.sdk.private.health import judge, needs, order
from tesra.sdk.private.keyring import Keyring, State
from tesra.sdk.private.places import show_place
from tesra.storage.editing import NothingThere, Parts, TreeEditor, parse_path, show_path
from tesra.storage.format import ChunkBroken
from tesra.storage.listing import Warn, unheard
from tesra.storage.pointers import FIRST, Pointer, prune_message, sign_pointer
from tesra.storage.progress import Report, silent
from tesra.storage.tree import Entry, File, Folder, Link, content_id
from tesra.storage.uploading import upload_folder
from tesra.storage.wellness import GOOD, Wellness, say, worst
from tesra.wire.files import Committed, DriveEntry, DriveHead, DriveUse, DriveVersion, Renamed
from tesra.wire.private import Prune
from tesra.wire.storage import DriveHealth, FileHealth

Edit = Callable[[Workshop, bytes], bytes]
_TRIES = 12
_COLLISIONS = frozenset({"head_moved", "keys_moved", "packs_missing"})


class VersionUnknown(NotFound):
    """The drive has no such version, or not any more."""


class SomethingThere(Conflict):
    """There is something at this path already."""


class NameMissing(Invalid):
    """A file needs a name: this is the root."""


class TooBusy(Conflict):
    """Others changed the drive again and again at the same moment."""


@dataclass(frozen=True, slots=True)
class _View:
    """One version's tree, readable."""

    version: int
    root: bytes
    reader: SealedReader
    editor: TreeEditor
    state: State


class PrivateTree:
    """Paths of one private drive; each change keeps the version before it."""

    def __init__(self, ring: Keyring, cache: NodeCache) -> None:
        self._ring = ring
        self._cache = cache

    def listing(self, path: str, *, version: int | None = None) -> Iterator[DriveEntry]:
        """What a folder holds, sorted by the bytes of the names; a file is its own listing."""
        parts, view = parse_path(path), self._view(version)
        entry = view.editor.require(view.root, parts)
        if not isinstance(entry, Folder):
            yield self._shown(parts, entry)
            return
        for below in view.editor.listing(entry.tree):
            yield self._shown((*parts, below.name), below)

    def entry(self, path: str, *, version: int | None = None) -> DriveEntry:
        """What stands at a path."""
        parts, view = parse_path(path), self._view(version)
        return self._shown(parts, view.editor.require(view.root, parts))

    def use(self, path: str, *, version: int | None = None) -> DriveUse:
        """How many files and bytes stand below a path."""
        parts, view = parse_path(path), self._view(version)
        entry = view.editor.require(view.root, parts)
        below = [entry]
        if isinstance(entry, Folder):
            below = [one for _, one in walk(view.reader, entry.tree)]
        files = sum(not isinstance(one, Folder) for one in below)
        size = sum(one.size for one in below if isinstance(one, File))
        return DriveUse(path=self._name(parts), files=files, size_bytes=size)

    def health(self, path: str, *, after: str | None, limit: int) -> DriveHealth:
        """How well the files at and below a path are kept; up to ``limit`` of them are named."""
        parts, view = parse_path(path), self._view(None)
        entry, only = view.editor.require(view.root, parts), None
        folder = parts
        if not isinstance(entry, Folder):
            folder, only = parts[:-1], parts[-1]
            entry = view.editor.require(view.root, folder)
        assert isinstance(entry, Folder)  # what holds something is one
        kept = needs(view.reader, folder, entry.tree, only=only)
        places = view.reader.places({chunk for one in kept for chunk in one.chunks})
        wanted, known = self._ring.door.health({at.pack for at in places.values()})
        judged = [(one, judge({places[i].pack for i in one.chunks}, known)) for one in kept]
        whole = worst(found for _, found in judged if found)
        first = order(parse_path(after)) if after else ()
        behind = [(one, found) for one, found in judged if found and order(one.path) > first]
        files = [
            FileHealth(path=self._name(one.path), size_bytes=one.size_bytes, **asdict(found))
            for one, found in behind[:limit]
        ]
        return DriveHealth(
            path=self._name(parts),
            wanted=wanted,
            total=len(judged),
            words=say(whole),
            files=files,
            next=files[-1].path if len(behind) > limit else None,
            **asdict(whole or Wellness(0, 0, None, GOOD)),
        )

    def below(self, path: str) -> Iterator[DriveEntry]:
        """Everything below a folder, each folder before what it holds."""
        parts, view = parse_path(path), self._view(None)
        entry = view.editor.require(view.root, parts)
        if isinstance(entry, Folder):
            for at, one in walk(view.reader, entry.tree):
                yield self._shown((*parts, *at), one)

    def read(
        self, path: str, *, version: int | None = None, start: int = 0, end: int | None = None
    ) -> Iterator[bytes]:
        """A file's bytes from ``start`` up to (not with) ``end``, chunk by chunk."""
        parts, view = parse_path(path), self._view(version)
        entry = view.editor.require(view.root, parts)
        if not isinstance(entry, File):
            raise NothingThere(f"'{show_path(parts)}' is a folder or a link, not a file.")
        last = entry.size if end is None else min(end, entry.size)
        if entry.inline is not None:
            yield entry.inline[start:last]
            return
        ids, position = file_ids(view.reader, entry), 0
        places = view.reader.places(ids)
        for chunk_id in ids:
            size = places[chunk_id].size
            if position < last and position + size > start:
                plain = view.reader.one(chunk_id)
                if len(plain) != size:
                    raise ChunkBroken(f"chunk {chunk_id.hex()} has another size than was said")
                yield plain[max(0, start - position) : last - position]
            position += size
        if position != entry.size:
            raise ChunkBroken(f"'{show_path(parts)}' has chunks of another size than its own")

    def get(
        self,
        path: str,
        dest: Path,
        *,
        version: int | None = None,
        report: Report = silent,
        name: str | None = None,
    ) -> None:
        """A folder's content into ``dest``, a file or link into it, under another ``name`` if wanted."""
        parts, view = parse_path(path), self._view(version)
        entry = view.editor.require(view.root, parts)
        if name is not None and not isinstance(entry, Folder):
            entry = replace(entry, name=name)
        fetch_tree(self._ring.door, view.state.chain, entry, dest, report)

    def put(
        self,
        source: Path,
        path: str,
        *,
        merge: bool = False,
        report: Report = silent,
        warn: Warn = unheard,
    ) -> Committed:
        """A file, or a folder with all it holds; only what the newest epoch lacks is sent.

        Of a link what it leads to is taken; ``warn`` hears of what is left out of a folder.
        """
        parts, single = parse_path(path), not source.is_dir()
        if single and not source.is_file():
            raise NothingToPut(
                f"'{source}' is neither a file nor a folder.", way_out="Write it to a file first."
            )
        source = source.resolve()
        root, files = (source.parent, [source]) if single else (source, None)
        if single and not parts:
            raise NameMissing

        def edit(work: Workshop, now: bytes) -> bytes:
            tree = upload_folder(work, work.keys, root, files=files, report=report, warn=warn)
            return _placed(work.editor, now, parts, tree.root, single=single, merge=merge)

        return self._land(edit, f"put {show_path(parts)}")

    def make_folder(self, path: str) -> Committed:
        parts = parse_path(path)
        return self._land(
            lambda work, now: work.editor.make_folder(now, parts), f"made {show_path(parts)}"
        )

    def remove(self, path: str) -> Committed:
        """The versions before keep it."""
        parts = parse_path(path)
        return self._land(
            lambda work, now: work.editor.remove(now, parts), f"removed {show_path(parts)}"
        )

    def move(self, path: str, to: str, *, keep: bool = False, force: bool = False) -> Committed:
        """Move, or copy with ``keep``; no content moves."""
        source, target = parse_path(path), parse_path(to)

        def edit(work: Workshop, now: bytes) -> bytes:
            if source != target and work.editor.lookup(now, target) is not None and not force:
                raise SomethingThere(
                    f"There is something at '{show_path(target)}' already.",
                    way_out="Choose another name, or replace it (`--force`).",
                )
            act = work.editor.copy if keep else work.editor.move
            return act(now, source, target)

        said = f"{'copied' if keep else 'moved'} {show_path(source)} to {show_path(target)}"
        return self._land(edit, said)

    def restore(self, path: str, version: int, to: str | None = None) -> Committed:
        """A path as it was in a version, beside what stands there now."""
        parts, view = parse_path(path), self._view(version)
        entry, target = view.editor.require(view.root, parts), parse_path(to) if to else parts
        place = target

        def edit(work: Workshop, now: bytes) -> bytes:
            nonlocal place
            root, place = work.editor.graft(now, target, entry)
            return root

        landed = self._land(edit, f"restored {show_path(parts)} of version {version}")
        if place == target:
            return landed
        beside = Renamed(path=self._name(target), to=self._name(place))
        return landed.model_copy(update={"renamed": [*landed.renamed, beside]})

    def versions(self, limit: int | None = None) -> Iterator[DriveVersion]:
        """The history, the newest first; each is checked to name the one before it."""
        state = self._ring.state()
        named = state.signed.link if state.signed else FIRST
        for signed in self._ring.door.heads(limit):
            pointer = self._ring.open_head(signed, state.chain)
            if signed.version <= state.version and signed.link != named:
                raise Conflict("The drive's history was changed: a version names another before.")
            named = pointer.before
            yield DriveVersion(
                version=pointer.version,
                root=pointer.root.hex(),
                words=f"{pointer.words} ({state.chain.labels.get(pointer.device, 'a device')})",
                made_at=pointer.made_at,
            )

    def prune(self, keep: int) -> int:
        """Forget all but the last ``keep`` versions; how many that were."""
        state = self._ring.state()
        if state.signed is None or state.version <= keep:
            return 0
        kept = list(self._ring.door.heads(keep))
        roots = [self._ring.open_head(one, state.chain).root for one in kept]
        reader = SealedReader(self._ring.door, state.chain, self._cache)
        packs = {at.pack for at in reader.places(all_chunks(reader, roots)).values()}
        versions = (kept[-1].version, state.version)
        message = prune_message(state.chain.drive, versions, packs)
        wanted = Prune(
            at_version=versions[1],
            keep_from=versions[0],
            packs=sorted(packs),
            signature=state.chain.signer.sign(message).hex(),
        )
        return self._ring.door.prune(wanted).versions

    def is_folder(self, path: str) -> bool:
        try:
            return self.entry(path).kind == "dir"
        except NotFound:
            return False

    def into(self, name: str, to: str) -> str:
        """Where something of that name goes: into the folder ``to``, or to the path itself."""
        if to.endswith("/") or self.is_folder(to):
            return f"{to.rstrip('/')}/{PurePosixPath(name).name}"
        return to

    def _land(self, edit: Edit, words: str) -> Committed:
        """Make the change on the present head until it stands."""
        for _ in range(_TRIES):
            try:
                return self._try(edit, words)
            except Conflict as error:
                if _code(error) not in _COLLISIONS:
                    raise
        raise TooBusy(way_out="Try again.")

    def _try(self, edit: Edit, words: str) -> Committed:
        """On one head, under one epoch; merges with who was faster, as long as the epoch stays."""
        began = now = self._ring.state()
        work = Workshop(self._ring.door, began.chain, self._cache)
        base = began.head.root if began.head else work.editor.empty()
        root = edit(work, base)
        renamed: tuple[tuple[Parts, Parts], ...] = ()
        while root != base:
            packs = work.store()
            try:
                return self._committed(self._push(now, root, words, packs), renamed)
            except Conflict as error:
                now = self._ring.state()
                if _code(error) != "head_moved" or now.chain.newest != began.chain.newest:
                    raise
            theirs = now.head.root if now.head else base
            merged = work.editor.merge(base, theirs, root)
            base, root, renamed = theirs, merged.root, (*renamed, *merged.renamed)
        return self._committed(now, renamed)

    def _push(self, now: State, root: bytes, words: str, packs: set[str]) -> State:
        epoch = now.chain.newest
        pointer = Pointer(
            now.chain.drive,
            now.version + 1,
            epoch.keys.id,
            root,
            words[:200],
            self._ring.key.device,
            datetime.now(UTC),
            before=now.signed.link if now.signed else FIRST,
        )
        signed = sign_pointer(pointer, epoch.keys, now.chain.signer)
        self._ring.door.move_head(signed, packs)
        self._ring.pin(signed)
        return replace(now, head=pointer, signed=signed)

    def _view(self, version: int | None) -> _View:
        state = self._ring.state()
        reader = SealedReader(self._ring.door, state.chain, self._cache)
        fresh: dict[bytes, bytes] = {}
        keys = state.chain.newest.keys

        def keep(plain: bytes) -> bytes:
            fresh[keys.chunk_id(plain)] = plain
            return keys.chunk_id(plain)

        editor = TreeEditor(lambda node: fresh.get(node) or reader.node(node), keep)
        if version is None or version == state.version:
            root = state.head.root if state.head else editor.empty()
            return _View(state.version, root, reader, editor, state)
        try:
            signed = self._ring.door.head(version)
        except NotFound as error:
            lists = f"`tesra drive log xingpan:{state.chain.name}:` lists them."
            raise VersionUnknown(way_out=lists) from error
        return _View(version, self._ring.open_head(signed, state.chain).root, reader, editor, state)

    def _committed(self, state: State, renamed: tuple[tuple[Parts, Parts], ...]) -> Committed:
        head = DriveHead(
            drive=state.chain.drive,
            version=state.version,
            epoch=state.chain.newest.keys.id,
            root=(state.head.root if state.head else FIRST).hex(),
        )
        both = [Renamed(path=self._name(path), to=self._name(to)) for path, to in renamed]
        return Committed(head=head, renamed=both)

    def _shown(self, parts: Parts, entry: Entry) -> DriveEntry:
        kinds: dict[type[Any], Any] = {File: "file", Folder: "dir", Link: "link"}
        return DriveEntry(
            path=self._name(parts),
            name=parts[-1] if parts else "",
            kind=kinds[type(entry)],
            size_bytes=entry.size if isinstance(entry, File) else 0,
            executable=isinstance(entry, File) and entry.executable,
            content=content_id(entry).hex(),
        )

    def _name(self, parts: Parts) -> str:
        return show_place(self._ring.key.name, show_path(parts))


def _code(error: Conflict) -> str:
    return str(error.fields.get("code", error.code))


def _placed(
    editor: TreeEditor, root: bytes, path: Parts, tree: bytes, *, single: bool, merge: bool
) -> bytes:
    """The root with an uploaded tree at the path, or with the one file that it holds."""
    if single:
        (entry,) = islice(editor.listing(tree), 2)
        return editor.edit(root, {path: replace(entry, name=path[-1])})
    if merge and isinstance(editor.lookup(root, path), Folder):
        return editor.overlay(root, path, tree)
    return tree if not path else editor.edit(root, {path: Folder(path[-1], tree)})
