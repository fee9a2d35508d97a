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
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.db.notify import notify
from tesra.kit.ids import AttemptId, RunId

MAX_SEGMENT_BYTES = 2**20
_SEGMENTS_A_READ = 64

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


class LogStore:
    """Append and read segments."""

    async def append(self, tx: Tx, run: RunId, piece: LogPiece) -> int:
        """Store what is new of the piece; answers how far the rank's log is held.

        A repeated part is skipped, a gap is refused by answering the smaller offset held.
        """
        held = await self._lock_head(tx, run, piece)
        fresh = piece.data[held - piece.offset :] if piece.offset <= held else b""
        if not fresh:
            return held
        seq = (
            await tx.execute(
                update(run_logs)
                .where(run_logs.c.run_id == run)
                .values(seq=run_logs.c.seq + 1)
                .returning(run_logs.c.seq)
            )
        ).scalar_one()
        packed = zstandard.ZstdCompressor(level=1).compress(fresh)
        await tx.execute(
            insert(log_segments).values(
                run_id=run,
                seq=seq,
                attempt=piece.number,
                rank=piece.rank,
                offset=held,
                size_bytes=len(fresh),
                data=packed,
            )
        )
        await tx.execute(
            update(log_heads)
            .where(log_heads.c.attempt_id == piece.attempt, log_heads.c.rank == piece.rank)
            .values(offset=held + len(fresh))
        )
        await notify(tx, f"run:{run}")
        return held + len(fresh)

    async def read(
        self, tx: Tx, run: RunId, *, after: int, rank: int | None, limit_bytes: int
    ) -> list[Segment]:
        """Segments behind sequence number ``after``, in order, about ``limit_bytes`` of them."""
        statement = (
            select(log_segments)
            .where(log_segments.c.run_id == run, log_segments.c.seq > after)
            .order_by(log_segments.c.seq)
        )
        if rank is not None:
            statement = statement.where(log_segments.c.rank.in_([rank, -1]))
        some = statement.limit(_SEGMENTS_A_READ).subquery()
        before = func.sum(some.c.size_bytes).over(order_by=some.c.seq) - some.c.size_bytes
        sized = select(some, before.label("before")).subquery()
        rows = await tx.execute(
            select(sized).where(sized.c.before < limit_bytes).order_by(sized.c.seq)
        )
        unpack = zstandard.ZstdDecompressor().decompress
        return [
            Segment(
                seq=row.seq,
                attempt=row.attempt,
                rank=row.rank,
                offset=row.offset,
                data=unpack(row.data, max_output_size=row.size_bytes),
            )
            for row in rows
        ]

    async def _lock_head(self, tx: Tx, run: RunId, piece: LogPiece) -> int:
        """Locks the run's log; the rank's offset held."""
        await tx.execute(upsert(run_logs).values(run_id=run).on_conflict_do_nothing())
        await tx.execute(
            upsert(log_heads)
            .values(attempt_id=piece.attempt, rank=piece.rank)
            .on_conflict_do_nothing()
        )
        await tx.execute(select(run_logs.c.seq).where(run_logs.c.run_id == run).with_for_update())
        statement = select(log_heads.c.offset).where(
            log_heads.c.attempt_id == piece.attempt, log_heads.c.rank == piece.rank
        )
        held: int = (await tx.execute(statement)).scalar_one()
        return held
