"""A drive beside a plain table that says what it has to hold.

Whoever dies meanwhile: each change is done once. What became of one whose connection broke, the
drive's version tells, and all of the tree is then just what it was, or just what it had to become.
"""

import tarfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import httpx

from factories.drive_table import Draft, Table, at_and_below, subtree
from factories.mortal_server import MortalServer
from tesra.sdk.transfer import HttpDoor, upload_tree

PREFIX = "/api/v1/drive"
FOLDERS = ("", "/a", "/a/b", "/数据")
SIZES = (0, 3, 900, 17_000, 40_000, 300_000)
CHANGES = ("move", "copy", "remove", "restore", "mkdir")
MOST_ENTRIES = 40
MOST_LEVELS = 6
PATIENCE_S = 90.0

Send = Callable[[], httpx.Response]


@dataclass
class ModelDrive:
    """One user's drive; every call compares what comes back with the table, and is for one thread.

    ``done``: operations, each change of a request and each thing that was read is one.
    ``broken``: connections that broke under a change.
    """

    server: MortalServer
    client: httpx.Client
    table: Table = field(default_factory=dict)
    versions: dict[int, Table] = field(default_factory=lambda: {1: {}})
    trash: Counter[tuple[str, int]] = field(default_factory=Counter)
    version: int = 1
    done: int = 0
    broken: int = 0
    _known: dict[str, bytes] = field(default_factory=dict)  # what was read of this content id
    _keys: int = 0

    def put(self, chance: Random) -> None:
        """One file, new or in the place of another."""
        path = f"{chance.choice(FOLDERS)}/{chance.choice('xyzäü')}.bin"
        content = chance.randbytes(chance.choice(SIZES))
        draft = Draft(self.table)
        draft.put(path, {"": content})
        self._write(
            draft, lambda: self._send("PUT", "/content", params={"path": path}, content=content)
        )
        self.done += 1

    def upload(self, chance: Random, count: int, scratch: Path) -> None:
        """A folder of small files as a client sends it: in packs, encrypted by the client."""
        path, held = f"/up{chance.randrange(10_000)}", dict[str, bytes | None]({"": None})
        scratch.mkdir()
        for number in range(count):
            content = held[f"/{number}.bin"] = chance.randbytes(chance.choice(SIZES[:3]))
            (scratch / f"{number}.bin").write_bytes(content or b"")
        draft = Draft(self.table)
        if path in draft.table:
            draft.remove(path)
            draft.thrown.clear()  # a put in the place of something is no removal
        draft.put(path, held)
        tree = upload_tree(HttpDoor(self.client), scratch)
        change = {"op": "put", "path": path, "tree": tree.model_dump()}
        self._change(draft, [change])
        self.done += count

    def change(self, chance: Random, count: int) -> None:
        """So many changes in one request, each of which makes sense by then."""
        draft, wanted = Draft(self.table), list[dict[str, Any]]()
        while len(wanted) < count:
            what = chance.choice(CHANGES if len(draft.table) < MOST_ENTRIES else ("remove",))
            one = self._choose(draft, what, chance)
            wanted += [one] if one is not None else []
        self._change(draft, wanted)
        self.done += len(wanted)

    def refuse(self, chance: Random, count: int) -> None:
        """A request of which the last change is not possible changes nothing."""
        draft, wanted = Draft(self.table), list[dict[str, Any]]()
        for _ in range(count):
            one = self._choose(draft, "mkdir", chance)
            wanted += [one] if one is not None else []
        wanted.append({"op": "remove", "path": "/nothing/here"})
        body = {"changes": wanted}
        answer = self._until_answered(lambda: self._send("POST", "/changes", json=body), fails=True)
        assert (answer.status_code, answer.json()["code"]) == (404, "nothing_there"), answer.text
        assert self._head() == self.version
        self.done += 1

    def untrash(self, chance: Random) -> None:
        """Something that was thrown away stands where it was, if its place is free."""
        free = [one for one in sorted(self.trash) if not at_and_below(self.table, one[0])]
        if not free:
            return
        path, version = chance.choice(free)
        listed = self._pages("/trash")
        item = next(one for one in listed if (one["path"], one["version"]) == (path, version))
        draft = Draft(self.table)
        draft.put(path, subtree(self.versions[version], path))
        key = self._key()
        self._write(
            draft, lambda: self._send("POST", f"/trash/{item['id']}/restore", headers=key), key=key
        )
        self.trash -= Counter([(path, version)])
        self.done += 1

    def read(self, chance: Random, count: int) -> None:
        """Files, and parts of them, of now and of earlier versions."""
        for _ in range(count):
            version = self.version
            if chance.random() < 0.2:
                version = chance.choice(sorted(self.versions))
            files = [path for path, held in self.versions[version].items() if held is not None]
            if files:
                self._read(chance.choice(sorted(files)), version, chance)
                self.done += 1

    def look(self, _: Random | None = None) -> None:
        """All of it is as it has to be, and the trash too."""
        assert self._head() == self.version
        self.done += self._compare(self.version, self.table)
        found = Counter((one["path"], one["version"]) for one in self._pages("/trash"))
        assert found == self.trash
        self.done += 1

    def check(self) -> None:
        """Every version that was acknowledged, to the last byte."""
        for version, table in self.versions.items():
            answer = self._get("/archive", kind="tar", version=version)
            found = dict[str, bytes | None]()
            with tarfile.open(fileobj=BytesIO(answer.content)) as packed:
                for one in packed:
                    file = packed.extractfile(one)
                    found[f"/{one.name}"] = file.read() if file is not None else None
            assert found == table, (version, sorted(found.keys() ^ table.keys()))
        self._known.clear()
        self.look()

    def _choose(self, draft: Draft, what: str, chance: Random) -> dict[str, Any] | None:
        """The change, made in the draft already; ``None`` when chance hit on nothing possible."""
        table = draft.table
        if what == "restore":
            version = chance.choice(sorted(self.versions)[-8:])
            gone = sorted(self.versions[version].keys() - table.keys())
            if not gone:
                return None
            path = chance.choice(gone)
            draft.put(path, subtree(self.versions[version], path))
            return {"op": "restore", "path": path, "version": version}
        if what == "mkdir":
            path = _beside(table, chance, "")
            draft.put(path, {"": None})
            return {"op": "mkdir", "path": path}
        if not table:
            return None
        path = chance.choice(sorted(table))
        if what == "remove":
            draft.remove(path)
            return {"op": "remove", "path": path}
        return _carry(draft, what, path, chance)

    def _change(self, draft: Draft, wanted: list[dict[str, Any]]) -> None:
        """As our client does: with a key, under which it is asked again."""
        body, key = {"changes": wanted}, self._key()
        self._write(draft, lambda: self._send("POST", "/changes", json=body, headers=key), key=key)

    def _key(self) -> dict[str, str]:
        self._keys += 1
        return {"Idempotency-Key": f"{self._keys}"}

    def _write(self, draft: Draft, send: Send, *, key: Mapping[str, str] | None = None) -> None:
        """Do it once. With a key it is asked again until it is answered, whatever became of it."""
        before, table = self.version, draft.table
        after = before + (table != self.table)
        landed = False
        while True:
            try:
                answer = self._until_answered(send)
            except httpx.TransportError:
                self.broken += 1
                landed = self._head() == after != before
                if not landed:
                    assert self._head() == before
                self._compare(after if landed else before, table if landed else self.table)
                if landed and key is None:
                    break
            else:
                assert answer.json()["head"]["version"] == after
                break
        if after > before:
            self.trash += Counter((path, before) for path in draft.thrown)
        self.table, self.version = table, after
        self.versions[after] = table

    def _head(self) -> int:
        return int(self._get("/head").json()["version"])

    def _compare(self, version: int, table: Table) -> int:
        """The drive holds just this in that version; how many things were looked at."""
        found, folders, looked = set[str](), [""], 0
        while folders:
            folder = folders.pop()
            for entry in self._pages("/tree", path=folder or "/", version=version):
                path = entry["path"]
                found.add(path)
                looked += 1
                assert path in table, (version, path, "is too much")
                assert (entry["kind"] == "dir") == (table[path] is None), (version, path)
                if entry["kind"] == "dir":
                    folders.append(path)
                else:
                    self._same(version, path, entry["content"], table[path])
        assert found == table.keys(), (version, table.keys() - found, "is missing")
        return looked

    def _same(self, version: int, path: str, content_id: str, content: bytes | None) -> None:
        if content_id not in self._known:
            query = {"path": path, "version": version}
            self._known[content_id] = self._get("/content", **query).content
        assert self._known[content_id] == content, (version, path)

    def _read(self, path: str, version: int, chance: Random) -> None:
        content = self.versions[version][path] or b""
        headers, expected = dict[str, str](), content
        if content and chance.random() < 0.2:
            start = chance.randrange(len(content))
            headers, expected = {"Range": f"bytes={start}-"}, content[start:]
        query = {"path": path, "version": version}
        answer = self._until_answered(
            lambda: self._send("GET", "/content", params=query, headers=headers), again=True
        )
        assert answer.content == expected, (path, version)

    def _pages(self, where: str, /, **query: Any) -> list[dict[str, Any]]:
        items, cursor = list[dict[str, Any]](), None
        while True:
            sent = {**query, "limit": 200, **({"cursor": cursor} if cursor else {})}
            page = self._get(where, **sent).json()
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items

    def _get(self, where: str, /, **query: Any) -> httpx.Response:
        return self._until_answered(lambda: self._send("GET", where, params=query), again=True)

    def _send(self, method: str, path: str, **sent: Any) -> httpx.Response:
        return self.client.request(method, PREFIX + path, **sent)

    def _until_answered(
        self, send: Send, *, again: bool = False, fails: bool = False
    ) -> httpx.Response:
        """A good answer (or a refusal, if it ``fails``). 503 says that nothing was done: try again.

        ``again``: also after a broken connection.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = send()
            except httpx.TransportError:
                if (not again and not fails) or time.monotonic() > deadline:
                    raise
            else:
                if answer.status_code != 503 or time.monotonic() > deadline:
                    assert fails or answer.is_success, (str(answer.request.url), answer.text)
                    return answer
            self.server.wait_answers()


def _beside(table: Table, chance: Random, suffix: str) -> str:
    """A free path in one of the folders."""
    folders = ["", *sorted(path for path, held in table.items() if held is None)]
    while True:
        folder = chance.choice([one for one in folders if one.count("/") < MOST_LEVELS - 1])
        path = f"{folder}/n{chance.randrange(100_000)}{suffix}"
        if path not in table:
            return path


def _carry(draft: Draft, what: str, path: str, chance: Random) -> dict[str, Any] | None:
    """A move or a copy, at times over another file."""
    table = draft.table
    is_file = table[path] is not None
    others = [one for one, held in table.items() if held is not None and one != path]
    replace = is_file and bool(others) and chance.random() < 0.15
    to = chance.choice(sorted(others)) if replace else _beside(table, chance, ".bin" * is_file)
    held = subtree(table, path)
    deep = max(rest.count("/") for rest in held) + to.count("/") > MOST_LEVELS
    if to.startswith(f"{path}/") or deep or (what == "copy" and len(held) > 10):
        return None
    (draft.move if what == "move" else draft.copy)(path, to)
    return {"op": what, "path": path, "to": to, "replace": replace}


def model_drive(server: MortalServer, name: str) -> ModelDrive:
    """An empty one, of a new user."""
    drive = ModelDrive(server, server.network.register(name))
    drive.look()
    return drive
