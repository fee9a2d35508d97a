"""Metrics: what nodes deliver, and what is asked of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from tesra.db.engine import Tx
from tesra.kit import saying
from tesra.kit.errors import Invalid, NotFound, TesraError
from tesra.kit.ids import AttemptId, RunId, SiteId
from tesra.kit.saying import Said
from tesra.training.attempts import AttemptService, StaleFence
from tesra.training.metrics import reading
from tesra.training.metrics.drawing import Axis
from tesra.training.metrics.model import Best, Head, Latest, Line, Series, lines_of, moment
from tesra.training.metrics.points import Spot
from tesra.training.metrics.store import MAX_NAMES, MAX_POINTS, Delivery, MetricStore
from tesra.training.repository import RunRepository, RunRow
from tesra.wire.metric_names import said
from tesra.wire.metrics import MetricName, Metrics
from tesra.wire.site import MAX_PIECE_BYTES

_NAMES_TOLD = 8

NAMES_FULL = saying.said(
    f"More than {MAX_NAMES:,} different metric names: further ones are left out. "
    "Log numbers under a few names; what counts up belongs into the step."
)
POINTS_FULL = saying.said(
    f"More than {MAX_POINTS:,} metric points: from here on only the newest of each delivery is kept."
)
_LIMITS = {"names_full": NAMES_FULL, "points_full": POINTS_FULL}


@dataclass(frozen=True, slots=True)
class MetricPiece:
    """What a node sends: ``data`` stands at byte ``offset`` of its spool; ``source``: its rank in the gang.

    It says that it holds the attempt under this fence.
    """

    attempt: AttemptId
    fence: int
    source: int
    offset: int
    data: bytes


class DeliveryInvalid(Invalid):
    """A delivery of metrics is at most 1 MiB and names one of the attempt's nodes."""


class MetricUnknown(NotFound):
    """This run has no such metric."""


class MetricService:
    """Takes deliveries in and answers what is asked; whose run it is, the caller has checked."""

    def __init__(self, attempts: AttemptService, *, store: MetricStore | None = None) -> None:
        self._attempts = attempts
        self._store = store or MetricStore()
        self._repository = RunRepository()

    async def take(
        self, tx: Tx, site: SiteId, pieces: Sequence[MetricPiece]
    ) -> list[int | TesraError]:
        """Keep spool lines of attempts' nodes, each byte once; how far each spool is held.

        Or why it is refused: ``StaleFence`` when the attempt is not the site's. What is not
        understood in a line is skipped.
        """
        wanted = {(piece.attempt, piece.fence) for piece in pieces}
        rows = await self._attempts.held_of(tx, site, wanted)
        answers: dict[MetricPiece, int | TesraError] = {}
        for piece in sorted(pieces, key=lambda one: (one.attempt, one.source)):  # rows are locked
            row = rows.get((piece.attempt, piece.fence))
            if len(piece.data) > MAX_PIECE_BYTES or piece.source < 0 or piece.offset < 0:
                answers[piece] = DeliveryInvalid()
            elif row is None:
                answers[piece] = StaleFence(attempt=piece.attempt)
            else:
                answers[piece] = await self._add(tx, row, piece)
        return [answers[piece] for piece in pieces]

    async def _add(self, tx: Tx, row: RunRow, piece: MetricPiece) -> int:
        run = RunId(row.run_id)
        delivery = Delivery(
            run=run,
            attempt=piece.attempt,
            number=row.number,
            ranks=len(row.devices),
            devices=frozenset(device["device"] for device in row.devices),
            source=piece.source,
            offset=piece.offset,
            data=piece.data,
        )
        added = await self._store.add(tx, delivery)
        if added.full:
            await self._repository.lock_run(tx, run)
            for limit in added.full:
                await self._repository.add_event(tx, run, "warning", _LIMITS[limit])
        return added.offset

    async def latest(self, tx: Tx, run: RunId, *, after: int = 0) -> list[Latest]:
        """The newest value of each name and rank, of those that grew behind delivery ``after``."""
        lines = lines_of(await reading.heads_of(tx, run))
        return [_latest(line) for line in lines if line.parts[-1].head.seq > after]

    async def history(
        self,
        tx: Tx,
        run: RunId,
        name: str,
        *,
        rank: int | None = None,
        points: int = 500,
        axis: Axis = "step",
    ) -> Series:
        """One metric for a chart; of the lowest rank that has it, unless one is named.

        ``MetricUnknown`` when there is no such name, or not on that rank.
        """
        (found,) = await self.histories(tx, run, [name], rank=rank, points=points, axis=axis)
        return found

    async def histories(
        self,
        tx: Tx,
        run: RunId,
        names: Sequence[str],
        *,
        rank: int | None = None,
        points: int = 500,
        axis: Axis = "step",
    ) -> list[Series]:
        """Several at once, in the order in which they were asked for."""
        lines = lines_of(await reading.heads_of(tx, run, names=names, tails=True))
        found = [await self._choose(tx, run, lines, name, rank) for name in dict.fromkeys(names)]
        return [await reading.draw(tx, line, axis, points) for line in found]

    async def standing(
        self, tx: Tx, run: RunId, name: str, mode: Literal["min", "max"]
    ) -> tuple[list[Latest], Best | None]:
        """``latest`` and ``best`` of one metric, from one look."""
        lines = await self._lines(tx, run)
        line = next((line for line in lines if line.name == name), None)
        best = await _best(tx, line, mode) if line is not None else None
        return [_latest(line) for line in lines], best

    async def best(
        self, tx: Tx, run: RunId, name: str, mode: Literal["min", "max"], *, rank: int | None = None
    ) -> Best | None:
        """Where a metric was lowest or highest; None when it has no finite value (yet)."""
        lines = lines_of(await reading.heads_of(tx, run, names=[name], tails=True))
        line = next((line for line in lines if rank is None or line.rank == rank), None)
        return await _best(tx, line, mode) if line is not None else None

    async def devices(self, tx: Tx, run: RunId, *, points: int = 500) -> list[Series]:
        """Use, memory and power of the run's devices over time."""
        lines = lines_of(await reading.heads_of(tx, run, devices=True, tails=True))
        return [await reading.draw(tx, line, "time", points) for line in lines]

    async def device_lines(self, tx: Tx, run: RunId, *, after: int = 0) -> list[Line]:
        """What is known of the use of its devices, of what grew behind delivery ``after``."""
        return lines_of(await reading.heads_of(tx, run, devices=True, after=after))

    async def device_places(self, tx: Tx, run: RunId) -> dict[str, tuple[str, int]]:
        """The devices of a run: the node of each, and its number there."""
        return await reading.device_places(tx, run)

    async def overview(self, tx: Tx, run: RunId, *, rank: int | None = None) -> Metrics:
        """All names of a run, or of one rank of it."""
        counted = await reading.run_row(tx, run)
        if counted is None:
            return Metrics(run=run, names=[])
        lines = await self._lines(tx, run)
        by_name: dict[str, list[Line]] = {}
        for line in lines:
            if rank is not None and line.rank != rank:
                continue
            by_name.setdefault(line.name, []).append(line)
        return Metrics(
            run=run,
            names=[await self._name(tx, some) for some in by_name.values()],
            params=await reading.logged_params(tx, run),
            notes=[text for limit, text in _LIMITS.items() if getattr(counted, limit)],
            points=counted.points,
            skipped=counted.skipped,
            cursor=counted.seq,
        )

    async def cursor(self, tx: Tx, run: RunId) -> int:
        """The number of the newest delivery."""
        counted = await reading.run_row(tx, run)
        return 0 if counted is None else int(counted.seq)

    async def check_names(self, tx: Tx, run: RunId, names: Sequence[str]) -> None:
        """Refuse a name that the run does not have, and tell those that it has."""
        lines = lines_of(await reading.heads_of(tx, run, names=names))
        for name in names:
            await self._choose(tx, run, lines, name, None)

    async def heads(
        self, tx: Tx, run: RunId, *, names: Sequence[str] | None = None, after: int = 0
    ) -> list[Head]:
        """What is stored and has grown behind delivery ``after``, by name, rank and attempt."""
        heads = await reading.heads_of(tx, run, names=names, after=after)
        return sorted(heads, key=lambda head: (head.name, head.rank, head.attempt))

    async def _lines(self, tx: Tx, run: RunId) -> list[Line]:
        lines = lines_of(await reading.heads_of(tx, run))
        if all(line.whole for line in lines):
            return lines
        return lines_of(await reading.heads_of(tx, run, tails=True))

    async def _name(self, tx: Tx, lines: Sequence[Line]) -> MetricName:
        first = lines[0]
        summaries = [await reading.summary_of_line(tx, line) for line in lines]
        lows = [summary.low for summary in summaries if summary.low is not None]
        highs = [summary.high for summary in summaries if summary.high is not None]
        low: Spot | None = min(lows, key=lambda spot: spot.value, default=None)
        high: Spot | None = max(highs, key=lambda spot: spot.value, default=None)
        return MetricName(
            name=first.name,
            origin=first.origin,
            ranks=[line.rank for line in lines],
            points=sum(summary.count for summary in summaries),
            nonfinite=sum(summary.nonfinite for summary in summaries),
            last=said(first.last.value),
            last_step=first.last.step,
            last_at=moment(first.last.time),
            low=low.value if low else None,
            low_step=low.step if low else None,
            high=high.value if high else None,
            high_step=high.step if high else None,
        )

    async def _choose(
        self, tx: Tx, run: RunId, lines: Sequence[Line], name: str, rank: int | None
    ) -> Line:
        ranks = [line for line in lines if line.name == name]
        for line in ranks:
            if rank is None or line.rank == rank:
                return line
        if ranks:
            has = ", ".join(str(line.rank) for line in ranks)
            raise MetricUnknown(
                f"'{name}' has no values of rank {rank}.", way_out=f"Ranks that have it: {has}."
            )
        names = sorted({line.name for line in lines_of(await reading.heads_of(tx, run))})
        raise MetricUnknown(_unknown(name, names), way_out=_names_told(names))


async def _best(tx: Tx, line: Line, mode: Literal["min", "max"]) -> Best | None:
    summary = await reading.summary_of_line(tx, line)
    spot = summary.low if mode == "min" else summary.high
    return None if spot is None else Best(spot.step, spot.value)


def _latest(line: Line) -> Latest:
    last = line.last
    return Latest(line.name, line.rank, last.step, last.value, moment(last.time))


def _unknown(name: str, names: Sequence[str]) -> Said:
    if not names:
        return saying.said("This run has no metrics yet.")
    close = get_close_matches(name, names, n=3)
    words = saying.said(f"This run has no metric '{name[:100]}'.")
    if not close:
        return words
    meant = ", ".join(repr(one) for one in close)
    return Said(f"{words} {saying.said(f'Did you mean {meant}?')}")


def _names_told(names: Sequence[str]) -> Said:
    if not names:
        return saying.said("`tesra metrics RUN` says what is captured and how to log.")
    told, more = ", ".join(names[:_NAMES_TOLD]), len(names) - _NAMES_TOLD
    return saying.said(f"It has: {told} and {more:d} more." if more > 0 else f"It has: {told}.")
