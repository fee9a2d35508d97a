"""Which nodes have which data: where a run was placed with it, and did start.

A hint for placing, never a truth: what a node has evicted since, it fetches again.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    Index,
    Table,
    Text,
    delete,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.kit.ids import NodeId, RunId
from tesra.training.repository import RunRow

KEPT = timedelta(days=14)  # a node that has not used it for so long is likely to have let it go

node_data = Table(
    "node_data",
    metadata,
    Column("node_id", Text, ForeignKey("nodes.id"), primary_key=True),
    Column("snapshot_id", Text, primary_key=True),
    Column("used_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("ix_node_data_snapshot_id", "snapshot_id"),
)


class Holdings:
    """Every statement about what lies where."""

    async def note(self, tx: Tx, attempt: RunRow) -> None:
        """An attempt with data runs: all its nodes have it now."""
        if not attempt.data:
            return
        nodes = sorted({str(device["node"]) for device in attempt.devices})
        snapshots = sorted({str(one["snapshot"]) for one in attempt.data})
        rows = [{"node_id": node, "snapshot_id": one} for node in nodes for one in snapshots]
        statement = upsert(node_data).values(rows)
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=["node_id", "snapshot_id"], set_={"used_at": func.now()}
            )
        )
        old = node_data.c.used_at < func.now() - KEPT
        await tx.execute(delete(node_data).where(node_data.c.node_id.in_(nodes), old))

    async def near(self, tx: Tx, queue: Sequence[RunRow]) -> dict[RunId, frozenset[NodeId]]:
        """For each queued run with data, the nodes that have all of it."""
        wanted = {
            RunId(row.id): {str(one["snapshot"]) for one in row.data} for row in queue if row.data
        }
        if not wanted:
            return {}
        every = sorted(set[str]().union(*wanted.values()))
        statement = select(node_data.c.node_id, node_data.c.snapshot_id)
        held: dict[NodeId, set[str]] = defaultdict(set)
        for row in await tx.execute(statement.where(node_data.c.snapshot_id.in_(every))):
            held[NodeId(row.node_id)].add(row.snapshot_id)
        return {
            run: frozenset(node for node, has in held.items() if snapshots <= has)
            for run, snapshots in wanted.items()
        }
