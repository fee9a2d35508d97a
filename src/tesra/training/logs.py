"""Logs: segments of whole lines, numbered by byte offset per rank, stored once, in order.

A run's row in ``run_logs`` is locked while a segment is added, so that the sequence number has
no gaps and grows in the order of commits: a viewer that has seen number n has seen all before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    select,
    text,
)

from tesra.db.engine import Tx, metadata
from tesra.db.notify import CHANNEL
from tesra.kit.ids import AttemptId, SiteId

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
    """What a node sends: ``data`` stands at byte ``offset`` of the log of ``rank``.

    The node says that it holds the attempt under this fence.
    """

    attempt: AttemptId
    fence: int
    rank: int
    offset: int
    data: bytes


# All of it for pieces that stand just where their ranks' logs end, and whose attempts are the site's:
# heads are moved first, so of two that bring the same piece only one goes on. Rows are locked in
# one order, as nodes of one gang deliver at the same time.
_APPEND = text(
    """
    WITH piece AS (
        SELECT * FROM unnest(
            CAST(:attempts AS text[]), CAST(:fences AS bigint[]), CAST(:ranks AS integer[]),
            CAST(:begins AS bigint[]), CAST(:sizes AS integer[]), CAST(:data AS bytea[])
        ) AS piece(attempt_id, fence, rank, begin, size, data)
    ), held AS (
        SELECT piece.*, run_id, number FROM piece JOIN attempts ON attempts.id = attempt_id
        WHERE site_id = :site AND attempts.fence = piece.fence AND ended_at IS NULL
    ), moved AS (
        INSERT INTO log_heads AS head (attempt_id, rank, "offset")
        SELECT attempt_id, rank, begin + size FROM held
        WHERE begin = 0 OR EXISTS (
            SELECT FROM log_heads AS known WHERE known.attempt_id = held.attempt_id
            AND known.rank = held.rank AND known."offset" = held.begin
        )
        ORDER BY attempt_id, rank
        ON CONFLICT (attempt_id, rank) DO UPDATE SET "offset" = excluded."offset"
        WHERE head."offset" = (
            SELECT begin FROM held
            WHERE held.attempt_id = excluded.attempt_id AND held.rank = excluded.rank
        )
        RETURNING attempt_id, rank
    ), drawn AS (
        INSERT INTO run_logs AS log (run_id, seq)
        SELECT run_id, count(*) FROM held JOIN moved USING (attempt_id, rank)
        GROUP BY run_id ORDER BY run_id
        ON CONFLICT (run_id) DO UPDATE SET seq = log.seq + excluded.seq
        RETURNING run_id, seq
    ), stored AS (
        INSERT INTO log_segments (run_id, seq, attempt, rank, "offset", size_bytes, data)
        SELECT run_id, seq + 1 - row_number() OVER (PARTITION BY run_id ORDER BY rank DESC),
            number, rank, begin, size, data
        FROM held JOIN moved USING (attempt_id, rank) JOIN drawn USING (run_id)
    )
    SELECT attempt_id, rank, pg_notify(
        :channel, CAST(json_build_object('topic', 'run:' || run_id, 'log', 1) AS text)
    ) FROM held JOIN moved USING (attempt_id, rank)
    """
).bindparams(bindparam("site", type_=Text), bindparam("channel", CHANNEL, type_=Text))


class LogStore:
    """Append segments; ``log_reading`` has the other side."""

    async def append_next(
        self, tx: Tx, site: SiteId, pieces: Sequence[LogPiece]
    ) -> set[tuple[AttemptId, int]]:
        """Store those pieces that are just the next of their logs, and whose attempts are held.

        In one statement, their wake-ups too, since nearly every piece is such. Answers the
        attempts and ranks of what is stored; with the others nothing was done: look closer. No
        two pieces may be of one log.
        """
        values = {
            "site": site,
            "attempts": [piece.attempt for piece in pieces],
            "fences": [piece.fence for piece in pieces],
            "ranks": [piece.rank for piece in pieces],
            "begins": [piece.offset for piece in pieces],
            "sizes": [len(piece.data) for piece in pieces],
            "data": [_packed(piece.data) for piece in pieces],
        }
        stored = await tx.execute(_APPEND, values)
        return {(AttemptId(row.attempt_id), row.rank) for row in stored}

    async def append(self, tx: Tx, site: SiteId, piece: LogPiece) -> int:
        """Store what is new of the piece; answers how far the rank's log is held.

        A repeated part is skipped, a gap is refused by answering the smaller offset held.
        """
        held = await self._held(tx, piece)
        fresh = piece.data[held - piece.offset :] if piece.offset <= held else b""
        if not fresh:
            return held
        rest = replace(piece, offset=held, data=fresh)
        stored = await self.append_next(tx, site, [rest])
        return held + len(fresh) if stored else await self._held(tx, piece)

    async def _held(self, tx: Tx, piece: LogPiece) -> int:
        """How far the rank's log reaches."""
        statement = select(log_heads.c.offset).where(
            log_heads.c.attempt_id == piece.attempt, log_heads.c.rank == piece.rank
        )
        return (await tx.execute(statement)).scalar_one_or_none() or 0


def _packed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)
