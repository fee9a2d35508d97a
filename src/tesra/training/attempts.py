"""The site's side of runs: what should live there, its leases, and the facts it reports.

Every fact is applied in one transaction with the boot's high-water mark, so that a repeated
message changes nothing. A fact under a fence that is gone is answered as stale: the site kills
that gang.
"""

import json
import logging
from collections.abc import Sequence

from tesra.billing.model import RatedDevice, UsageRecord
from tesra.compute.sites import UnknownBoot
from tesra.db.engine import Tx
from tesra.db.notify import notify
from tesra.kit.errors import Conflict, Invalid, TesraError
from tesra.kit.ids import AttemptId, RunId, SiteId, SnapshotId, UserId
from tesra.training.domains import Domains
from tesra.training.logs import MAX_SEGMENT_BYTES, LogPiece, LogStore
from tesra.training.model import (
    AttemptEnded,
    Outcome,
    PhaseSeen,
    PreparingSeen,
    RanksStarted,
    RunEvent,
)
from tesra.training.repository import RunRepository, RunRow
from tesra.training.transitions import Result
from tesra.wire.drive import SnapshotCommit
from tesra.wire.parameters import DEFAULT_FORMAT
from tesra.wire.site import (
    AssignedDevice,
    Assignment,
    Assignments,
    Ended,
    EngineSpec,
    Message,
    Phase,
    Preparing,
    RunSpec,
    Started,
    Usage,
)

log = logging.getLogger(__name__)

BATCH = 64  # facts in one transaction
CheckedOutput = tuple[SnapshotCommit | None, list[str]]  # what is stored, and the warnings
Fact = tuple[Message, CheckedOutput]

LEASE_S = 600.0
MAX_RANK = 4096


def output_purpose(run: RunId) -> str:
    """What the drive calls the epoch that a run's output is written under."""
    return f"run:{run}"


class StaleFence(Conflict):
    """This attempt is not yours any more: stop its gang."""


class LogPieceInvalid(Invalid):
    """A piece of a log is at most 1 MiB and names a rank of its gang."""


class AttemptService:
    """Assignments, leases, facts, logs: all that a site controller speaks of."""

    def __init__(self, domains: Domains) -> None:
        self._database = domains.database
        self._drive = domains.drive
        self._compute = domains.compute
        self._billing = domains.billing
        self._sealer = domains.sealer
        self._transitions = domains.transitions
        self._repository = RunRepository()
        self._logs = LogStore()

    async def assignments(self, tx: Tx, site: SiteId) -> Assignments:
        """The whole truth for the site: what is not listed must not run there."""
        await self._compute.sites.seen(tx, site)
        version = await self._compute.sites.assignments_version(tx, site)
        rows = await self._repository.live_attempts(tx, site)
        return Assignments(version=version, assignments=[self._assignment(row) for row in rows])

    async def renew(self, tx: Tx, site: SiteId, held: list[tuple[AttemptId, int]]) -> set[str]:
        """Extends leases by ``LEASE_S`` from now; the attempts not answered are gone."""
        await self._compute.sites.seen(tx, site)
        return await self._repository.renew(tx, site, held, lease_s=LEASE_S)

    async def held(self, tx: Tx, site: SiteId, attempt: AttemptId, fence: int) -> RunRow:
        """The live attempt with its owner; raises ``StaleFence`` when the site does not hold it."""
        row = await self._repository.attempt(tx, attempt)
        if row is None or row.site_id != site or row.fence != fence or row.ended_at is not None:
            raise StaleFence(attempt=attempt)
        return row

    async def take(self, site: SiteId, boot: str, messages: Sequence[Message]) -> list[str]:
        """Apply facts, each exactly once and in order; the attempts whose fence is gone.

        Many are applied in one transaction. One that can't be applied is logged and counts as
        applied, so that those behind it are not held up for ever; its lease takes care of the rest.
        """
        stale: list[str] = []
        for start in range(0, len(messages), BATCH):
            facts = [(m, await self._checked_output(m)) for m in messages[start : start + BATCH]]
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
        async with self._database.begin() as tx:
            seqs = [message.seq for message, _ in facts]
            applied = await self._compute.sites.take(tx, site, boot, seqs)
            for message, output in facts:
                if message.seq <= applied:
                    continue
                applied = message.seq
                try:
                    row = await self.held(tx, site, AttemptId(message.attempt), message.fence)
                except StaleFence:
                    stale.append(message.attempt)
                else:
                    topics += await self._apply(tx, row, message, output)
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

    async def append_log(
        self,
        tx: Tx,
        site: SiteId,
        piece: tuple[AttemptId, int],
        *,
        rank: int,
        offset: int,
        data: bytes,
    ) -> int:
        """Keep a piece of a rank's log; answers how far it is held now."""
        attempt, fence = piece
        if len(data) > MAX_SEGMENT_BYTES or not -1 <= rank < MAX_RANK or offset < 0:
            raise LogPieceInvalid
        row = await self.held(tx, site, attempt, fence)
        return await self._logs.append(
            tx,
            RunId(row.run_id),
            LogPiece(attempt=attempt, number=row.number, rank=rank, offset=offset, data=data),
        )

    async def wake_dispatcher(self, tx: Tx) -> None:
        """There may be devices that were not there before."""
        await notify(tx, "dispatch")

    async def expire(self) -> int:
        """Requeue the attempts whose lease ran out; how many there were."""
        async with self._database.begin() as tx:
            rows = await self._repository.expired(tx)
        for row in rows:
            reason = f"its site has not been heard of for {LEASE_S / 60:.0f} minutes."
            event = AttemptEnded(AttemptId(row.id), Outcome.LOST, reason=reason)
            async with self._database.begin() as tx:
                topics = await self._transitions.apply(tx, RunId(row.run_id), event)
                await self._transitions.tell(tx, topics)
        return len(rows)

    async def _apply(
        self, tx: Tx, row: RunRow, message: Message, output: CheckedOutput
    ) -> list[str]:
        run, attempt = RunId(row.run_id), AttemptId(row.id)
        event: RunEvent
        result = None
        match message.body:
            case Usage() as usage:
                await self._record_usage(tx, row, usage)
                return [f"run:{run}"]
            case Preparing(phase=phase):
                event = PreparingSeen(attempt, phase)
            case Phase(phase=phase):
                event = PhaseSeen(attempt, phase)
            case Started(environment_lock=lock):
                if lock is not None:
                    values = {"environment_lock": lock}
                    await self._repository.update_attempt(tx, attempt, values)
                event = RanksStarted(attempt)
            case Ended() as ended:
                result = await self._store_result(tx, row, ended, output)
                event = AttemptEnded(
                    attempt, Outcome(ended.outcome), exit_code=ended.exit_code, reason=ended.reason
                )
        return await self._transitions.apply(tx, run, event, result=result)

    async def _record_usage(self, tx: Tx, row: RunRow, usage: Usage) -> None:
        """Billed time is never more than the wall time since the attempt was placed."""
        most = max(0, int(row.age_ms) - row.usage_ms)
        duration_ms = min(usage.duration_ms, most)
        record = UsageRecord(
            attempt_id=AttemptId(row.id),
            seq=usage.number,
            run_id=RunId(row.run_id),
            started_at=usage.started_at,
            duration_ms=duration_ms,
            devices=[
                RatedDevice(device["device_class"], device["rating_micro_t"])
                for device in row.devices
            ],
        )
        await self._billing.record_usage(tx, record)
        await self._repository.update_attempt(
            tx, AttemptId(row.id), {"usage_ms": row.usage_ms + duration_ms}
        )

    async def _checked_output(self, message: Message) -> CheckedOutput:
        """An ended attempt's output, verified to be complete; a warning instead when it is not."""
        if not isinstance(message.body, Ended):
            return None, []
        commit, warnings = message.body.output, list(message.body.warnings)
        if commit is None:
            return None, warnings
        async with self._database.begin() as tx:
            row = await self._repository.attempt(tx, AttemptId(message.attempt))
        if row is None:
            return None, warnings
        try:
            await self._drive.check_complete(
                UserId(row.owner), commit, purpose=output_purpose(RunId(row.run_id))
            )
        except TesraError as error:
            log.warning("output of %s is not complete: %s", message.attempt, error.detail)
            return None, [*warnings, f"The output could not be stored: {error.detail}"]
        return commit, warnings

    async def _store_result(
        self, tx: Tx, row: RunRow, ended: Ended, output: CheckedOutput
    ) -> Result:
        commit, warnings = output
        if ended.outcome == "lost":
            return Result(warnings=warnings)
        if commit is None:
            purpose = output_purpose(RunId(row.run_id))
            await self._drive.forget_upload(tx, UserId(row.owner), purpose=purpose)
            return Result(warnings=warnings)
        snapshot = await self._drive.commit_snapshot(tx, UserId(row.owner), commit, kind="output")
        return Result(
            output=SnapshotId(snapshot.id), output_size_bytes=snapshot.size_bytes, warnings=warnings
        )

    def _assignment(self, row: RunRow) -> Assignment:
        spec = row.spec
        secrets = self._sealer.open(row.secrets, row.run_id.encode()) if row.secrets else b"{}"
        return Assignment(
            run=row.run_id,
            attempt=row.id,
            number=row.number,
            fence=row.fence,
            devices=[AssignedDevice.model_validate(device) for device in row.devices],
            stop=row.stop,
            spec=RunSpec(
                owner=row.owner,
                project=row.project_name,
                snapshot=row.snapshot_id,
                engine=EngineSpec.model_validate(row.engine_spec),
                packages=spec["packages"],
                entry=spec["entry"],
                args=spec["args"],
                output=spec["output"],
                launch=row.launch,
                params=spec["params"],
                param_format=spec.get("param_format", DEFAULT_FORMAT),
                env=spec["env"],
                secrets=json.loads(secrets),
            ),
        )
