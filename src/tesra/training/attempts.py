"""The site's side of runs: what should live there, its leases, and the facts it reports.

Every fact is applied in one transaction with the boot's high-water mark, so that a repeated
message changes nothing. A fact under a fence that is gone is answered as stale: the site kills
that gang.
"""

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress

from tesra.compute.sites import UnknownBoot
from tesra.db.engine import Tx
from tesra.db.notify import notify
from tesra.kit.errors import Conflict, Invalid, TesraError
from tesra.kit.ids import AttemptId, RunId, SiteId
from tesra.kit.saying import said
from tesra.training.assigning import assignment_of
from tesra.training.domains import Domains
from tesra.training.facts import Fact, Facts
from tesra.training.logs import LogPiece, LogStore
from tesra.training.metering import Meter
from tesra.training.model import AttemptEnded, Outcome
from tesra.training.repository import RunRepository, RunRow
from tesra.training.tuning.facts import TuningFacts
from tesra.wire.site import (
    MAX_PIECE_BYTES,
    MAX_RANK,
    Assignments,
    Ended,
    Message,
    Phase,
    Preparing,
    Started,
)

log = logging.getLogger(__name__)

BATCH = 64  # facts in one transaction

_BY_NAME_ALONE = Preparing | Started | Phase | Ended  # facts that ask nothing of what was used

LEASE_S = 600.0


class StaleFence(Conflict):
    """This attempt is not yours any more: stop its gang."""


class LogPieceInvalid(Invalid):
    """A piece of a log is at most 1 MiB and names a rank of its gang."""


class AttemptService:
    """Assignments, leases, facts, logs: all that a site controller speaks of."""

    def __init__(self, domains: Domains) -> None:
        self._database = domains.database
        self._compute = domains.compute
        self._sealer = domains.sealer
        self._billing = domains.billing
        self._transitions = domains.transitions
        self._repository = RunRepository()
        self._facts = Facts(domains)
        self._logs = LogStore()
        self._tuning = TuningFacts(domains)

    async def assignments(self, tx: Tx, site: SiteId) -> Assignments:
        """The whole truth for the site: what is not listed must not run there."""
        version = await self._compute.sites.assignments_version(tx, site)
        rows = await self._repository.live_attempts(tx, site)
        tuned = [RunId(row.run_id) for row in rows if row.tuned]
        changes = await self._tuning.changes_of(tx, tuned) if tuned else {}
        capped = any(row.max_cost_micros is not None for row in rows)
        price = await self._billing.current_price_micros(tx) if capped else 0
        listed = [
            assignment_of(row, self._sealer, changes.get(RunId(row.run_id), ()), price_micros=price)
            for row in rows
        ]
        await self._compute.sites.seen(tx, site)  # last, since sites' rows are hot
        return Assignments(version=version, assignments=listed)

    async def renew(self, tx: Tx, site: SiteId, held: list[tuple[AttemptId, int]]) -> set[str]:
        """Extends leases by ``LEASE_S`` from now; the attempts not answered are gone."""
        renewed = await self._repository.renew(tx, site, held, lease_s=LEASE_S)
        await self._compute.sites.seen(tx, site)  # last, since sites' rows are hot
        return renewed

    async def held(self, tx: Tx, site: SiteId, attempt: AttemptId, fence: int) -> RunRow:
        """The live attempt with its owner; raises ``StaleFence`` when the site does not hold it."""
        return _held(await self._repository.attempt(tx, attempt), site, attempt, fence)

    async def held_of(
        self, tx: Tx, site: SiteId, wanted: Collection[tuple[AttemptId, int]]
    ) -> dict[tuple[AttemptId, int], RunRow]:
        """Those of some attempts, each with its fence, that the site holds."""
        rows = await self._repository.attempts(tx, {attempt for attempt, _ in wanted})
        found = {}
        for attempt, fence in wanted:
            with suppress(StaleFence):
                found[attempt, fence] = _held(rows.get(attempt), site, attempt, fence)
        return found

    async def take(self, site: SiteId, boot: str, messages: Sequence[Message]) -> list[str]:
        """Apply facts, each exactly once and in order; the attempts whose fence is gone.

        Many are applied in one transaction. One that can't be applied is logged and counts as
        applied, so that those behind it are not held up for ever; its lease takes care of the rest.
        """
        stale: list[str] = []
        for start in range(0, len(messages), BATCH):
            facts = [
                (m, await self._facts.checked_output(m)) for m in messages[start : start + BATCH]
            ]
            try:
                stale += await self._take_together(site, boot, facts)
            except UnknownBoot:
                raise
            except (Conflict, Invalid):
                for fact in facts:
                    stale += await self._take_alone(site, boot, fact)
        return stale

    async def _take_together(self, site: SiteId, boot: str, facts: Sequence[Fact]) -> list[str]:
        stale: list[str] = []
        topics: list[str] = []
        changed: set[AttemptId] = set()
        meter = Meter()
        async with self._database.begin() as tx:
            seqs = [message.seq for message, _ in facts]
            applied = await self._compute.sites.take(tx, site, boot, seqs)
            named = {AttemptId(message.attempt) for message, _ in facts}
            rows = await self._repository.attempts(tx, named)
            fresh = [message for message, _ in facts if message.seq > applied]
            locked = await self._repository.lock_runs(tx, _moved(fresh, rows, site))
            for message, output in facts:
                if message.seq <= applied:
                    continue
                applied = message.seq
                attempt = AttemptId(message.attempt)
                if attempt in changed and not isinstance(message.body, _BY_NAME_ALONE):
                    rows |= await self._repository.attempts(tx, {attempt})
                    changed.discard(attempt)
                try:
                    row = _held(rows.get(attempt), site, attempt, message.fence)
                except StaleFence:
                    stale.append(message.attempt)
                    continue
                run = locked.pop(RunId(row.run_id), None)  # as it is before its first fact alone
                topics += await self._facts.apply(tx, row, message, output, meter, run)
                if isinstance(message.body, Ended):
                    del rows[attempt]  # whatever comes after it is stale
                elif not isinstance(message.body, _BY_NAME_ALONE):
                    changed.add(attempt)
            topics += await self._facts.settle(tx, meter)
            await self._transitions.tell(tx, topics)
        return stale

    async def _take_alone(self, site: SiteId, boot: str, fact: Fact) -> list[str]:
        try:
            return await self._take_together(site, boot, [fact])
        except UnknownBoot:
            raise
        except (Conflict, Invalid) as error:
            log.error("message %s of %s is refused: %s", fact[0].seq, site, error.detail)
            async with self._database.begin() as tx:
                await self._compute.sites.take(tx, site, boot, [fact[0].seq])
            return []

    async def append_log(self, site: SiteId, piece: LogPiece) -> int:
        """Keep a piece of a rank's log; answers how far it is held now, which is committed."""
        if len(piece.data) > MAX_PIECE_BYTES or not -1 <= piece.rank < MAX_RANK or piece.offset < 0:
            raise LogPieceInvalid
        async with self._database.begin() as tx:
            await self.held(tx, site, piece.attempt, piece.fence)
            return await self._logs.append(tx, site, piece)

    async def append_logs(self, site: SiteId, pieces: Sequence[LogPiece]) -> list[int | TesraError]:
        """``append_log`` for many logs at once; how far each is held, or why it is refused."""
        async with self._database.alone() as tx:
            stored = await self._logs.append_next(tx, site, pieces)
        return [
            piece.offset + len(piece.data)
            if (piece.attempt, piece.rank) in stored
            else await self._append_apart(site, piece)
            for piece in pieces
        ]

    async def _append_apart(self, site: SiteId, piece: LogPiece) -> int | TesraError:
        try:
            return await self.append_log(site, piece)
        except (StaleFence, LogPieceInvalid) as refusal:
            return refusal

    async def wake_dispatcher(self, tx: Tx) -> None:
        """There may be devices that were not there before."""
        await notify(tx, "dispatch")

    async def expire(self) -> int:
        """Requeue the attempts whose lease ran out; how many there were."""
        async with self._database.begin() as tx:
            rows = await self._repository.expired(tx)
        for row in rows:
            minutes = f"{LEASE_S / 60:.0f}"
            reason = said(f"its site has not been heard of for {minutes} minutes.")
            event = AttemptEnded(AttemptId(row.id), Outcome.LOST, reason=reason)
            async with self._database.begin() as tx:
                topics = await self._transitions.apply(tx, RunId(row.run_id), event)
                await self._transitions.tell(tx, topics)
        return len(rows)


def _moved(messages: Sequence[Message], rows: dict[AttemptId, RunRow], site: SiteId) -> set[RunId]:
    """The runs whose first fact here moves them, and asks nothing else of their rows."""
    first: dict[AttemptId, Message] = {}
    for message in messages:
        first.setdefault(AttemptId(message.attempt), message)
    moved = set()
    for attempt, message in first.items():
        with suppress(StaleFence):
            row = _held(rows.get(attempt), site, attempt, message.fence)
            if isinstance(message.body, _BY_NAME_ALONE):
                moved.add(RunId(row.run_id))
    return moved


def _held(row: RunRow | None, site: SiteId, attempt: AttemptId, fence: int) -> RunRow:
    if row is None or row.site_id != site or row.fence != fence or row.ended_at is not None:
        raise StaleFence(attempt=attempt)
    return row
