"""What an operator sees of everybody's runs: who waits and why, and what each node did lately.

A project's name, its files and its log are its user's own and are not told here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, or_, select, text

from tesra.compute.service import ComputeService
from tesra.db.engine import Tx
from tesra.kit.clock import Clock
from tesra.kit.ids import NodeId, UserId, earliest_id
from tesra.training.queueing import Queue, QueueService, place_of
from tesra.training.repository import RunRow
from tesra.training.tables import attempts, runs
from tesra.wire.training import QueuePlace

DAY_MS = 86_400_000
_STATES = text("state IN ('placing', 'preparing', 'running')")  # as the index has it


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A queued run; ``place`` is null where it is not looked at for placing yet."""

    run: str
    owner: UserId
    devices: int
    device_class: str | None
    priority: int
    waited_s: float
    place: QueuePlace | None


@dataclass(frozen=True, slots=True)
class Turn:
    """What decides a user's turn: recent use, decayed, and what their live runs hold."""

    owner: UserId
    waiting: int
    used_micro_th: float
    held_micro_t: int


@dataclass(frozen=True, slots=True)
class Board:
    """The queue in the order of turns, those that wait for money last; ``total`` may be more."""

    total: int
    live: int
    runs: tuple[WaitingRun, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class NodeUse:
    """Device time, and what it came to, of attempts that began within a day or still run."""

    device_ms: int
    micro_th: int
    attempts: int


class BoardService:
    """Reads over all users' runs, for operators."""

    def __init__(self, compute: ComputeService, clock: Clock) -> None:
        self._queue = QueueService(compute)
        self._clock = clock

    async def queue(self, tx: Tx, *, limit: int = 200) -> Board:
        """Who waits, in which order, and for what; at most ``limit`` runs are shown."""
        queue = await self._queue.look(tx)
        waiting = await tx.scalar(
            select(func.count()).select_from(runs).where(text("state = 'queued'"))
        )
        live = await tx.scalar(select(func.count()).select_from(runs).where(_STATES))
        return Board(
            total=int(waiting or 0),
            live=int(live or 0),
            runs=tuple(_shown(row, queue) for row in _in_order(queue)[:limit]),
            turns=_turns(queue)[:limit],
        )

    async def use_of_nodes(self, tx: Tx) -> dict[NodeId, NodeUse]:
        """By node: use of the last day, at most a day for each device of an attempt.

        An attempt counts when it began within the day or has not ended: ids sort by time, so the
        ones before are not read.
        """
        since = self._clock.now() - timedelta(days=1)
        statement = select(attempts.c.devices, attempts.c.usage_ms).where(
            or_(attempts.c.id >= earliest_id("att", since), attempts.c.ended_at.is_(None))
        )
        found: dict[NodeId, NodeUse] = {}
        for row in await tx.execute(statement):
            _add(found, row.devices, min(row.usage_ms, DAY_MS))
        return found


def _add(found: dict[NodeId, NodeUse], cards: Sequence[dict[str, Any]], used_ms: int) -> None:
    for node in {NodeId(card["node"]) for card in cards}:
        own = [card for card in cards if card["node"] == node]
        before = found.get(node, NodeUse(0, 0, 0))
        rating = sum(card["rating_micro_t"] for card in own)
        found[node] = NodeUse(
            device_ms=before.device_ms + used_ms * len(own),
            micro_th=before.micro_th + used_ms * rating // 3_600_000,
            attempts=before.attempts + 1,
        )


def _in_order(queue: Queue) -> list[RunRow]:
    place = {run: number for number, run in enumerate(queue.order)}
    return sorted(queue.rows, key=lambda row: (place.get(row.id, len(place)), row.id))


def _shown(row: RunRow, queue: Queue) -> WaitingRun:
    return WaitingRun(
        run=row.id,
        owner=UserId(row.owner),
        devices=row.devices,
        device_class=row.device_class,
        priority=row.priority,
        waited_s=float(row.waited_s),
        place=place_of(row, queue),
    )


def _turns(queue: Queue) -> tuple[Turn, ...]:
    """Who has used least first."""
    waiting = [run.owner for run in queue.waiting]
    turns = [
        Turn(owner, waiting.count(owner), standing.used_micro_th, standing.held_micro_t)
        for owner, standing in queue.standings.items()
    ]
    return tuple(
        sorted(turns, key=lambda turn: (turn.used_micro_th + turn.held_micro_t, turn.owner))
    )
