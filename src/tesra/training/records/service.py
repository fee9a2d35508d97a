"""Training records: all that is known of a run in one file, signed by the server.

What changes a run's story later (its bill is paid) changes the record; otherwise the same run
always gives the same bytes.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from tesra.crypto.signing import ALGORITHM, Signer
from tesra.db.engine import Tx
from tesra.kit.canonical import canonical_json
from tesra.kit.ids import BillId, RunId, SnapshotId, UserId
from tesra.training.domains import Domains
from tesra.training.records import sections
from tesra.training.repository import RunRepository, RunRow
from tesra.training.service import RunNotFound
from tesra.wire.record import SCHEMA, PublicKey, PublicKeys, Signature, SignedRecord

SectionOf = Callable[[Tx, RunRow], Awaitable[Any]]
_MAX_EVENTS = 10_000


class RecordService:
    """Makes records; ``more`` are sections of the other parts of training, by name."""

    def __init__(
        self, domains: Domains, signer: Signer, *, more: dict[str, SectionOf] | None = None
    ) -> None:
        self._domains = domains
        self._signer = signer
        self._more = more or {}
        self._repository = RunRepository()

    def keys(self) -> PublicKeys:
        """What the signatures are checked with."""
        own = PublicKey(
            id=self._signer.key_id, algorithm=ALGORITHM, public=self._signer.public.hex()
        )
        return PublicKeys(keys=[own])

    async def record(self, owner: UserId, run: RunId) -> SignedRecord:
        """One of the owner's runs as a signed record. Reads the project: outside a transaction."""
        async with self._domains.database.begin() as tx:
            row = await self._repository.run(tx, run, owner=owner)
            if row is None:
                raise RunNotFound(way_out="List yours with `tesra runs`.")
            told = await self._told(tx, owner, row)
        told["code"] = await self._code(row)
        told["output"] = await self._output(row)
        return self.sign(told)

    def sign(self, record: dict[str, Any]) -> SignedRecord:
        """The record with its hash and this server's signature."""
        text = canonical_json(record)
        return SignedRecord(
            record=record,
            sha256=hashlib.sha256(text).hexdigest(),
            signature=Signature(
                algorithm=ALGORITHM,
                key=self._signer.key_id,
                value=self._signer.sign(text).hex(),
            ),
        )

    async def _told(self, tx: Tx, owner: UserId, row: RunRow) -> dict[str, Any]:
        run, billing = RunId(row.id), self._domains.billing
        nodes = await self._domains.compute.node_names(tx)
        bill = await billing.bill(tx, owner, BillId(row.bill_id)) if row.bill_id else None
        events = await self._repository.events(tx, run, after=0, limit=_MAX_EVENTS)
        return {
            "schema": SCHEMA,
            **sections.identity(row),
            "engine": row.engine_spec,
            "environment_lock": await self._repository.environment_lock(tx, run),
            "start": sections.start(row),
            "attempts": await sections.tries(tx, run, nodes),
            "usage": sections.usage(await billing.usage_of_run(tx, run)),
            "bill": sections.bill(bill),
            "events": sections.timeline(events),
            "data": [],
            **{name: await section(tx, row) for name, section in self._more.items()},
        }

    async def _code(self, row: RunRow) -> dict[str, Any]:
        snapshot_id = SnapshotId(row.snapshot_id)
        snapshot = await self._domains.drive.snapshot(snapshot_id)
        return sections.code(row, snapshot, await self._domains.drive.list_files(snapshot_id))

    async def _output(self, row: RunRow) -> dict[str, Any] | None:
        if row.output_id is None:
            return None
        return sections.output(await self._domains.drive.snapshot(SnapshotId(row.output_id)))
