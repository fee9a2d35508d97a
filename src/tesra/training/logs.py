"""Logs: segments of whole lines, numbered by byte offset per rank, stored once, in order.

A run's row in ``run_logs`` is locked while a segment is added, so that the sequence number has
no gaps and grows in the order of commits: a viewer that has seen number n has seen all before it.
"""

from dataclasses import dataclass

import zstandard
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
    bindparam,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.db.notify import CHANNEL, notify
from tesra.kit.ids import AttemptId, RunId, SiteId

MAX_SEGMENT_BYTES = 2**20

run_logs = Table(
    "run_logs",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("seq", BigInteger, nullable=False, server_default="0"),
)

log_heads = Table(
    "log_heads",
    metadata,
    Column("attempt_id", Text, ForeignKey("attempts.id"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("offset", BigInteger, nullable=False, server_default="0"),
)

log_segments = Table(
    "log_segments",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Segment:
    """``data``: whole lines of one rank, from byte ``offset`` of its log on."""

    seq: int
    attempt: int
    rank: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LogPiece:
    """What a node sends: ``data`` stands at byte ``offset`` of the log of ``rank``."""

    attempt: AttemptId
    number: int
    rank: int
    offset: int
    data: bytes


_new_head = upsert(log_heads)
_BEGIN = _new_head.on_conflict_do_update(
    index_elements=[log_heads.c.attempt_id, log_heads.c.rank],
    set_={"offset": _new_head.excluded.offset},
    where=log_heads.c.offset == 0,
).returning(log_heads.c.rank)
_DRAW = (
    upsert(run_logs)
    .on_conflict_do_update(index_elements=[run_logs.c.run_id], set_={"seq": run_logs.c.seq + 1})
    .returning(run_logs.c.seq)
)
_STORE = insert(log_segments)
# All of it for a piece that stands just where its rank's log ends, and whose attempt is the site's:
# the head is moved first, so of two that bring the same piece only one goes on.
_APPEND = text(
    """
    WITH held AS (
        SELECT run_id, number FROM attempts
        WHERE id = :attempt AND site_id = :site AND fence = :fence AND ended_at IS NULL
    ), moved AS (
        INSERT INTO log_heads AS head (attempt_id, rank, "offset")
        SELECT :attempt, CAST(:rank AS integer), CAST(:begin AS bigint) + :size FROM held
        WHERE :begin = 0 OR EXISTS (
            SELECT FROM log_heads
            WHERE attempt_id = :attempt AND rank = :rank AND "offset" = :begin
        )
        ON CONFLICT (attempt_id, rank) DO UPDATE SET "offset" = excluded."offset"
        WHERE head."offset" = :begin
        RETURNING rank
    ), drawn AS (
        INSERT INTO run_logs AS log (run_id, seq) SELECT held.run_id, 1 FROM held, moved
        ON CONFLICT (run_id) DO UPDATE SET seq = log.seq + 1
        RETURNING run_id, seq
    ), stored AS (
        INSERT INTO log_segments (run_id, seq, attempt, rank, "offset", size_bytes, data)
        SELECT drawn.run_id, drawn.seq, held.number, :rank, :begin, :size, :data FROM held, drawn
        RETURNING run_id
    )
    SELECT run_id, pg_notify(
        :channel, CAST(json_build_object('topic', 'run:' || run_id, 'log', 1) AS text)
    ) FROM stored
    """
).bindparams(
    bindparam("attempt", type_=Text),
    bindparam("site", type_=Text),
    bindparam("fence", type_=BigInteger),
    bindparam("rank", type_=Integer),
    bindparam("begin", type_=BigInteger),
    bindparam("size", type_=Integer),
    bindparam("data", type_=LargeBinary),
    bindparam("channel", CHANNEL, type_=Text),
)


class LogStore:
    """Append segments; ``log_reading`` has the other side."""

    async def append_next(
        self, tx: Tx, site: SiteId, held: tuple[AttemptId, int], part: tuple[int, int, bytes]
    ) -> bool:
        """Store a piece (rank, offset, bytes) that is just the next one of an attempt that is held.

        In one statement, its wake-up too, since nearly every piece is such. False: nothing was
        done, look closer.
        """
        (attempt, fence), (rank, offset, data) = held, part
        values = {"attempt": attempt, "site": site, "fence": fence, "rank": rank, "begin": offset}
        values |= {"size": len(data), "data": _packed(data)}
        return (await tx.execute(_APPEND, values)).one_or_none() is not None

    async def append(self, tx: Tx, run: RunId, piece: LogPiece) -> int:
        """Store what is new of the piece; answers how far the rank's log is held.

        A repeated part is skipped, a gap is refused by answering the smaller offset held.
        """
        if piece.data and await self._advance(
            tx, piece, piece.offset, piece.offset + len(piece.data)
        ):
            await self._store(tx, run, piece, piece.data, piece.offset)
            return piece.offset + len(piece.data)
        held = await self._held(tx, piece)
        fresh = piece.data[held - piece.offset :] if piece.offset <= held else b""
        if not fresh or not await self._advance(tx, piece, held, held + len(fresh)):
            return held
        await self._store(tx, run, piece, fresh, held)
        return held + len(fresh)

    async def _store(self, tx: Tx, run: RunId, piece: LogPiece, fresh: bytes, offset: int) -> None:
        """The number of a segment is drawn under the lock of the run's log, so that readers miss none."""
        seq = (await tx.execute(_DRAW, {"run_id": run, "seq": 1})).scalar_one()
        await tx.execute(
            _STORE,
            {
                "run_id": run,
                "seq": seq,
                "attempt": piece.number,
                "rank": piece.rank,
                "offset": offset,
                "size_bytes": len(fresh),
                "data": _packed(fresh),
            },
        )
        await notify(tx, f"run:{run}", log=1)

    async def _advance(self, tx: Tx, piece: LogPiece, held: int, end: int) -> bool:
        """The rank's log reaches ``end`` now, and is locked; False if it did not reach just ``held``."""
        own = (log_heads.c.attempt_id == piece.attempt) & (log_heads.c.rank == piece.rank)
        if held == 0:
            first = {"attempt_id": piece.attempt, "rank": piece.rank, "offset": end}
            return (await tx.execute(_BEGIN, first)).one_or_none() is not None
        moved = update(log_heads).where(own, log_heads.c.offset == held).values(offset=end)
        return bool((await tx.execute(moved)).rowcount)

    async def _held(self, tx: Tx, piece: LogPiece) -> int:
        """How far the rank's log reaches, locked."""
        statement = select(log_heads.c.offset).where(
            log_heads.c.attempt_id == piece.attempt, log_heads.c.rank == piece.rank
        )
        held: int | None = (await tx.execute(statement.with_for_update())).scalar_one_or_none()
        return held or 0


def _packed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)
