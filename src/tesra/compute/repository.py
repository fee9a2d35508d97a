"""Tables of sites, their boots, nodes and devices."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.compute.model import Device
from tesra.db.engine import Tx, metadata
from tesra.kit.ids import AttemptId, DeviceId, NodeId, SiteId

sites = Table(
    "sites",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("assignments_version", BigInteger, nullable=False, server_default="1"),
    Column("last_seen", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

site_boots = Table(
    "site_boots",
    metadata,
    Column("site_id", Text, ForeignKey("sites.id"), primary_key=True),
    Column("boot_id", Text, primary_key=True),
    Column("high_water", BigInteger, nullable=False, server_default="0"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("site_id", Text, ForeignKey("sites.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("cores", Integer, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("online", Boolean, nullable=False),
    Column("engines", JSONB, nullable=False, server_default=text("'[]'::jsonb")),  # WarmEngine
)

devices = Table(
    "devices",
    metadata,
    Column("id", Text, primary_key=True),
    Column("site_id", Text, ForeignKey("sites.id"), nullable=False),
    Column("node_id", Text, ForeignKey("nodes.id"), nullable=False),
    Column("index", Integer, nullable=False),
    Column("device_class", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("measured_micro_t", BigInteger, nullable=False),
    Column("rating_micro_t", BigInteger, nullable=False),
    Column("online", Boolean, nullable=False),
    Column("attempt_id", Text),
    Index("ix_devices_attempt_id", "attempt_id"),
)


REACHABLE_S = 45.0  # a site polls every 25 s at least
SEEN_TO_S = 1.0  # so exactly it is kept when a site was last heard of
reachable = sites.c.last_seen > func.clock_timestamp() - timedelta(seconds=REACHABLE_S)
_online = (
    select(
        devices,
        devices.c.index.label("device_index"),
        nodes.c.name.label("node_name"),
        reachable.label("reachable"),
    )
    .join(sites, sites.c.id == devices.c.site_id)
    .join(nodes, nodes.c.id == devices.c.node_id)
    .where(devices.c.online)
    .order_by(devices.c.id)
)
_FREE = _online.where(devices.c.attempt_id.is_(None), reachable).with_for_update(of=devices)
_RESERVE = text(
    """
    UPDATE devices SET attempt_id = holder
    FROM unnest(CAST(:ids AS text[]), CAST(:holders AS text[])) AS held(device, holder)
    WHERE devices.id = device
    """
)
_RELEASE = (
    update(devices).where(devices.c.attempt_id == bindparam("holder")).values(attempt_id=None)
)
_own_boot = (site_boots.c.site_id == bindparam("site")) & (
    site_boots.c.boot_id == bindparam("boot")
)
_HIGH_WATER = select(site_boots.c.high_water).where(_own_boot).with_for_update()
_SET_HIGH_WATER = update(site_boots).where(_own_boot).values(high_water=bindparam("seq"))
_own_site = sites.c.id == bindparam("site")
_BUMP = (
    update(sites)
    .where(_own_site)
    .values(assignments_version=sites.c.assignments_version + 1)
    .returning(sites.c.assignments_version)
)
_VERSION = select(sites.c.assignments_version).where(_own_site)
_silent = sites.c.last_seen < func.clock_timestamp() - timedelta(seconds=SEEN_TO_S)
_TOUCH = (
    update(sites)
    .where(
        sites.c.id.in_(
            select(sites.c.id)
            .where(_own_site, _silent)
            .with_for_update(key_share=True, skip_locked=True)
        )
    )
    .values(last_seen=func.clock_timestamp())
)


class ComputeRepository:
    """Rows of the compute domain; used by its own service alone."""

    async def upsert_site(self, tx: Tx, site: SiteId) -> None:
        statement = upsert(sites).values(id=site, name=site)
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=["id"], set_={"last_seen": func.clock_timestamp()}
            )
        )

    async def upsert_boot(self, tx: Tx, site: SiteId, boot: str) -> int:
        """The boot's high-water mark; 0 for a new boot."""
        await tx.execute(
            upsert(site_boots).values(site_id=site, boot_id=boot).on_conflict_do_nothing()
        )
        return await self.high_water(tx, site, boot) or 0

    async def high_water(self, tx: Tx, site: SiteId, boot: str) -> int | None:
        """How far the boot's messages are applied, locked till the commit; None if it is unknown."""
        found = await tx.execute(_HIGH_WATER, {"site": site, "boot": boot})
        return found.scalar_one_or_none()

    async def set_high_water(self, tx: Tx, site: SiteId, boot: str, seq: int) -> None:
        await tx.execute(_SET_HIGH_WATER, {"site": site, "boot": boot, "seq": seq})

    async def replace_machines(
        self,
        tx: Tx,
        site: SiteId,
        machines: Sequence[dict[str, object]],
        cards: Sequence[dict[str, object]],
    ) -> None:
        """The site's nodes and devices as enrolled now; those not named go offline, with their history."""
        await tx.execute(update(nodes).where(nodes.c.site_id == site).values(online=False))
        await tx.execute(update(devices).where(devices.c.site_id == site).values(online=False))
        for table, rows in ((nodes, machines), (devices, cards)):
            for row in rows:
                statement = upsert(table).values(**row)
                changes = {key: statement.excluded[key] for key in row if key != "id"}
                await tx.execute(
                    statement.on_conflict_do_update(index_elements=["id"], set_=changes)
                )

    async def set_engines(
        self, tx: Tx, site: SiteId, node: NodeId, engines: Sequence[dict[str, object]]
    ) -> None:
        statement = update(nodes).where(nodes.c.site_id == site, nodes.c.id == node)
        await tx.execute(statement.values(engines=list(engines)))

    async def engines_of_nodes(self, tx: Tx) -> list[tuple[str, list[dict[str, Any]]]]:
        """Name and warm engines of each node that is online."""
        statement = select(nodes.c.name, nodes.c.engines).where(nodes.c.online)
        rows = await tx.execute(statement.order_by(nodes.c.name, nodes.c.id))
        return [(row.name, row.engines) for row in rows]

    async def node_names(self, tx: Tx) -> dict[str, str]:
        rows = await tx.execute(select(nodes.c.id, nodes.c.name))
        return {row.id: row.name for row in rows}

    async def devices(self, tx: Tx) -> list[Device]:
        """All that are online, busy ones included."""
        return await self._devices(tx, _online)

    async def lock_free_devices(self, tx: Tx) -> list[Device]:
        """Those that a gang can be placed on; other placers are kept out until the transaction ends."""
        return await self._devices(tx, _FREE)

    async def _devices(self, tx: Tx, statement: Select[Any]) -> list[Device]:
        return [
            Device(
                id=DeviceId(row.id),
                node=NodeId(row.node_id),
                site=SiteId(row.site_id),
                index=row.device_index,
                device_class=row.device_class,
                rating_micro_t=row.rating_micro_t,
                attempt=AttemptId(row.attempt_id) if row.attempt_id else None,
                reachable=row.reachable,
                node_name=row.node_name,
            )
            for row in await tx.execute(statement)
        ]

    async def reserve(self, tx: Tx, holders: Mapping[DeviceId, AttemptId]) -> None:
        """Each device is held by its attempt."""
        asked = {"ids": list(holders), "holders": list(holders.values())}
        await tx.execute(_RESERVE, asked)

    async def release(self, tx: Tx, attempt: AttemptId) -> None:
        await tx.execute(_RELEASE, {"holder": attempt})

    async def bump_assignments(self, tx: Tx, site: SiteId) -> int:
        version: int = (await tx.execute(_BUMP, {"site": site})).scalar_one()
        return version

    async def assignments_version(self, tx: Tx, site: SiteId) -> int | None:
        return (await tx.execute(_VERSION, {"site": site})).scalar_one_or_none()

    async def touch_site(self, tx: Tx, site: SiteId) -> None:
        """Note that the site speaks, to the second; who holds its row now is not waited for."""
        await tx.execute(_TOUCH, {"site": site})
