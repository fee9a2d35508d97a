"""Folders, chunks and packs for tests; a pack sink and source that live in memory."""

import io
import random
from dataclasses import dataclass
from pathlib import Path

from tesra.storage.format import EpochKeys, open_chunk, seal_chunk
from tesra.storage.packing import Pack, PackBuilder, PackEntry, read_index
from tesra.wire.drive import ChunkAt, ReadPlan

KEYS = EpochKeys("epo_test", b"i" * 32, b"d" * 32)


def random_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True)
class WholePack:
    """A pack in one piece."""

    id: str
    data: bytes
    entries: tuple[PackEntry, ...]


def pack_of(*contents: bytes, keys: EpochKeys = KEYS) -> WholePack:
    builder = PackBuilder()
    for plain in contents:
        chunk_id = keys.chunk_id(plain)
        builder.add(seal_chunk(keys.chunk_key(chunk_id), chunk_id, plain))
    pack = builder.finish()
    return WholePack(pack.id, b"".join(pack.pieces), pack.entries)


def sample_folder(root: Path) -> Path:
    """Small and large files, a script, an empty folder, a link inside."""
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "train.py").write_text("print('hello')\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "big.bin").write_bytes(random_bytes(5_000_000))
    (root / "sub" / "数据.txt").write_text("数据" * 10_000)
    (root / "sub" / "deep" / "zero").write_bytes(b"")
    (root / "sub" / "link").symlink_to("../train.py")
    return root


def contents(root: Path) -> dict[str, bytes | str | None]:
    """What a folder holds: bytes of files, targets of links, ``None`` for folders."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = None if path.is_dir() else path.read_bytes()
    return found


class MemoryPacks:
    """The other side of an upload and of a fetch."""

    def __init__(self, keys: EpochKeys = KEYS) -> None:
        self.keys = keys
        self.packs: dict[str, bytes] = {}
        self.chunks: dict[bytes, tuple[str, PackEntry]] = {}
        self.asked: list[int] = []

    def missing(self, ids: list[bytes]) -> set[bytes]:
        self.asked.append(len(ids))
        return {chunk for chunk in ids if chunk not in self.chunks}

    def put_pack(self, pack: Pack) -> None:
        self.keep(pack.id, b"".join(pack.pieces))

    def keep(self, pack_id: str, data: bytes) -> None:
        self.packs[pack_id] = data
        for entry in read_index(io.BytesIO(data), len(data)):
            self.chunks[entry.chunk_id] = (pack_id, entry)

    def read_pack(self, pack_id: str, start: int, end: int) -> bytes:
        return self.packs[pack_id][start:end]

    read_again = read_pack

    def open(self, chunk_id: bytes) -> bytes:
        pack_id, at = self.chunks[chunk_id]
        sealed = self.packs[pack_id][at.offset : at.offset + at.length]
        return open_chunk(self.keys.chunk_key(chunk_id), chunk_id, sealed)

    def plan(self, root: bytes, *, with_id_key: bool = True) -> ReadPlan:
        return ReadPlan(
            snapshot="snp_test",
            root=root.hex(),
            id_key=self.keys.id_key.hex() if with_id_key else None,
            chunks={
                chunk.hex(): ChunkAt(
                    pack=pack,
                    offset=at.offset,
                    length=at.length,
                    size=at.plain_size,
                    key=self.keys.chunk_key(chunk).hex(),
                )
                for chunk, (pack, at) in self.chunks.items()
            },
        )
