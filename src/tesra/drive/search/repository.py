"""The names of a drive's tree in rows that can be searched; used by the search service alone.

A row's terms are 64 bits of each pair of characters, mixed with the drive, so that one index
serves all drives and a look-up touches no other drive's rows. What the terms find is compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from blake3 import blake3
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    any_,
    bindparam,
    delete,
    func,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.kit.ids import DriveId
from tesra.storage.names import normal, pairs

_SORTED_CHARACTERS = 600  # of a path: what an index row can hold

drive_names = Table(
    "drive_names",
    metadata,
    Column("drive_id", Text, ForeignKey("drives.id"), primary_key=True),
    Column("path_hash", LargeBinary, primary_key=True),
    Column("sort_key", Text(collation="C"), nullable=False),  # the beginning of the path
    Column("path", Text, nullable=False),
    Column("normal", Text, nullable=False),  # the name, as it is compared
    Column("kind", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("terms", ARRAY(BigInteger), nullable=False),
    Index("ix_drive_names_order", "drive_id", "sort_key", "path_hash"),
    Index("ix_drive_names_terms", "terms", postgresql_using="gin"),
)

drive_name_heads = Table(
    "drive_name_heads",
    metadata,
    Column("drive_id", Text, ForeignKey("drives.id"), primary_key=True),
    Column("version", BigInteger, nullable=False),  # of the drive, that the names are of
    Column("root", LargeBinary, nullable=False),
)

_PUT = text(
    """
    INSERT INTO drive_names
        (drive_id, path_hash, sort_key, path, normal, kind, size_bytes, terms)
    SELECT :drive, h, s, p, n, k, z, t::bigint[]
    FROM unnest(
        CAST(:hashes AS bytea[]), CAST(:keys AS text[]), CAST(:paths AS text[]),
        CAST(:normals AS text[]), CAST(:kinds AS text[]), CAST(:sizes AS bigint[]),
        CAST(:terms AS text[])
    ) AS rows(h, s, p, n, k, z, t)
    ON CONFLICT (drive_id, path_hash) DO UPDATE
    SET kind = excluded.kind, size_bytes = excluded.size_bytes
    """
)


@dataclass(frozen=True, slots=True)
class Named:
    """Something that stands at a path."""

    path: str
    name: str
    kind: Literal["file", "dir", "link"]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Indexed:
    """The state of the drive that the rows are of."""

    version: int
    root: bytes


class NameRepository:
    """Every statement about names."""

    async def head(self, tx: Tx, drive: DriveId) -> Indexed | None:
        statement = select(drive_name_heads).where(drive_name_heads.c.drive_id == drive)
        row = (await tx.execute(statement)).one_or_none()
        return Indexed(row.version, bytes(row.root)) if row else None

    async def claim(self, tx: Tx, drive: DriveId, empty: bytes) -> Indexed | None:
        """The head, locked until the transaction ends; None while another holds it."""
        fresh = upsert(drive_name_heads).values(drive_id=drive, version=0, root=empty)
        await tx.execute(fresh.on_conflict_do_nothing())
        statement = select(drive_name_heads).where(drive_name_heads.c.drive_id == drive)
        row = (await tx.execute(statement.with_for_update(skip_locked=True))).one_or_none()
        return Indexed(row.version, bytes(row.root)) if row else None

    async def set_head(self, tx: Tx, drive: DriveId, indexed: Indexed) -> None:
        values = {"version": indexed.version, "root": indexed.root}
        statement = upsert(drive_name_heads).values(drive_id=drive, **values)
        await tx.execute(statement.on_conflict_do_update(index_elements=["drive_id"], set_=values))

    async def put(self, tx: Tx, drive: DriveId, found: Sequence[Named]) -> None:
        """These stand there; again is harmless."""
        normals = [normal(one.name) for one in found]
        await tx.execute(
            _PUT,
            {
                "drive": drive,
                "hashes": [path_hash(one.path) for one in found],
                "keys": [one.path[:_SORTED_CHARACTERS] for one in found],
                "paths": [one.path for one in found],
                "normals": normals,
                "kinds": [one.kind for one in found],
                "sizes": [one.size_bytes for one in found],
                "terms": [_array(_terms(drive, name)) for name in normals],
            },
        )

    async def remove(self, tx: Tx, drive: DriveId, paths: Sequence[str]) -> None:
        hashes = bindparam("hashes", [path_hash(path) for path in paths], ARRAY(LargeBinary))
        await tx.execute(
            delete(drive_names).where(
                drive_names.c.drive_id == drive, drive_names.c.path_hash == any_(hashes)
            )
        )

    async def remove_below(self, tx: Tx, drive: DriveId, folder: str) -> None:
        """All that stood in a folder, not itself."""
        await tx.execute(delete(drive_names).where(*_below(drive, folder)))

    async def search(
        self,
        tx: Tx,
        drive: DriveId,
        words: Sequence[str],
        *,
        below: str,
        after: bytes | None,
        limit: int,
    ) -> list[Named]:
        """Names that hold all words, sorted by path."""
        statement = select(drive_names).where(*_below(drive, below))
        terms = sorted({term for word in words for term in _terms(drive, word)})
        if terms:
            wanted = bindparam("terms", terms, ARRAY(BigInteger))
            statement = statement.where(drive_names.c.terms.contains(wanted))
        for word in words:
            statement = statement.where(func.strpos(drive_names.c.normal, word) > 0)
        order = tuple_(drive_names.c.sort_key, drive_names.c.path_hash)
        if after is not None:
            last = select(drive_names.c.sort_key, drive_names.c.path_hash).where(
                drive_names.c.drive_id == drive, drive_names.c.path_hash == after
            )
            statement = statement.where(order > last.scalar_subquery())
        statement = statement.order_by(drive_names.c.sort_key, drive_names.c.path_hash)
        return [
            Named(row.path, row.path.rsplit("/", 1)[-1], row.kind, row.size_bytes)
            for row in await tx.execute(statement.limit(limit))
        ]

    async def behind(self, tx: Tx) -> list[str]:
        """Owners of drives whose names are not those of the head."""
        found = await tx.execute(_BEHIND)
        return [row.owner for row in found]


_BEHIND = text(
    """
    SELECT drives.owner FROM drive_heads
    JOIN drives ON drives.id = drive_heads.drive_id
    LEFT JOIN drive_name_heads ON drive_name_heads.drive_id = drive_heads.drive_id
    WHERE drive_name_heads.version IS DISTINCT FROM drive_heads.version
    ORDER BY drives.owner
    """
)


def path_hash(path: str) -> bytes:
    return blake3(path.encode()).digest(16)


def _below(drive: DriveId, folder: str) -> Iterator[Any]:
    yield drive_names.c.drive_id == drive
    if folder != "/":
        prefix = f"{folder}/"
        cut = prefix[:_SORTED_CHARACTERS]
        yield drive_names.c.sort_key >= cut
        yield drive_names.c.sort_key < _behind(cut)
        yield func.starts_with(drive_names.c.path, prefix)


def _behind(prefix: str) -> str:
    """Sorts (by bytes) behind everything that begins so."""
    return prefix + "\U0010ffff"


def _terms(drive: DriveId, name: str) -> list[int]:
    key = blake3(drive.encode()).digest()
    return [
        int.from_bytes(blake3(pair.encode(), key=key).digest(8), signed=True)
        for pair in pairs(name)
    ]


def _array(numbers: list[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"
