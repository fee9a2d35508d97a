"""What a user does with runs: submit, stop, look at, read the log of."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tesra.db.engine import Tx
from tesra.db.notify import notify, notify_all, topic_with
from tesra.kit.errors import Conflict, NotFound
from tesra.kit.ids import CheckpointId, RunId, SnapshotId, UserId, new_id
from tesra.kit.money import parse_cny
from tesra.kit.saying import said
from tesra.training.checkpoints.accounts import Accounts
from tesra.training.device_choice import Wanted, check_offer
from tesra.training.domains import Domains
from tesra.training.engines.catalog import EngineCatalog
from tesra.training.entries import check_entry, check_output_path
from tesra.training.labels import tags_of, write_labels
from tesra.training.log_reading import READ_BYTES, Span, read_log
from tesra.training.logs import Segment
from tesra.training.metrics.main import main_metric_of, main_values
from tesra.training.model import RunFilter, RunState, StopCause, StopRequested
from tesra.training.project_doctor import ProjectDoctor
from tesra.training.proposals import Prepared, as_it_is, complete, needs_doctor, started_file
from tesra.training.queueing import Queue, QueueService, place_of
from tesra.training.repository import RunRepository, RunRow, life_of
from tesra.training.smoke import as_smoke, check_room, check_slots
from tesra.training.tuning.model import check_ranges
from tesra.training.views import show_event, show_run
from tesra.wire.drive import Project
from tesra.wire.training import Run, RunEvent, RunLabels, RunRequest, WholeRequest

ANY_RUN = RunFilter()


class RunNotFound(NotFound):
    """There is no such run among yours."""


class RankNotFound(NotFound):
    """The run has no such rank."""


class NotQueued(Conflict):
    """This run does not wait any more."""


@dataclass(frozen=True, slots=True)
class TrialOf:
    """The sweep that a run is a trial of, its number there, and whose bill its use goes on."""

    sweep: str
    number: int
    bill_subject: str


class TrainingService:
    """Runs, from the user's side."""

    def __init__(self, domains: Domains, *, engines: EngineCatalog) -> None:
        self._database = domains.database
        self._drive = domains.drive
        self._compute = domains.compute
        self._billing = domains.billing
        self._sealer = domains.sealer
        self._data = domains.data
        self._transitions = domains.transitions
        self.engines = engines
        self.doctor = ProjectDoctor(domains.database, domains.drive)
        self._repository = RunRepository()
        self._accounts = Accounts()
        self._queue = QueueService(domains.compute)

    async def check(self, owner: UserId, request: RunRequest) -> Prepared:
        """The request as it will run, its gaps filled from the code; refuses what cannot work.

        Reads the project, so outside a transaction.
        """
        request = as_smoke(request) if request.smoke else request
        check_ranges(request.params, request.ranges)
        if request.engine is not None:
            self.engines.resolve(request.engine, request.backend)
        async with self._database.begin() as tx:
            project = await self._drive.project(tx, owner, request.project)
        snapshot = SnapshotId(request.snapshot or project.snapshot)
        data = await self._data.freeze(owner, request.data)
        request = request.model_copy(update={"snapshot": snapshot, "data": data})
        entries = await self._drive.list_files(snapshot, owner=owner)
        if request.entry is not None:
            check_entry(request.entry, {entry.path for entry in entries if entry.kind != "dir"})
        prepared = await self._complete(owner, request, snapshot, project.name)
        check_output_path(prepared.request.output)
        self.engines.resolve(prepared.request.engine, prepared.request.backend)
        return prepared

    async def submit(
        self,
        tx: Tx,
        owner: UserId,
        prepared: Prepared,
        *,
        trial: TrialOf | None = None,
        origin: CheckpointId | None = None,
    ) -> Run:
        """Queue a run that ``check`` has prepared; refused with ``PaymentDue`` while a bill is unpaid.

        ``origin``: the checkpoint, one of the owner's, that it begins with.
        """
        project = await self.admit(tx, owner, prepared)
        run = await self.enqueue(tx, owner, prepared, project, trial=trial, origin=origin)
        await notify_all(tx, ["dispatch", topic_with(f"user:{owner}", run=run)])
        return await self._show(tx, await self._row(tx, owner, run))

    async def admit(self, tx: Tx, owner: UserId, prepared: Prepared) -> Project:
        """Refuse a run that may not be queued now; its project, for ``enqueue``."""
        request = prepared.request
        await self._billing.require_settled(tx, owner)
        project = await self._drive.project(tx, owner, request.project, hold="to use")
        if request.smoke:
            check_slots(await self._compute.online_devices(tx))
            await check_room(tx, owner)
        await self.check_devices(tx, request)
        return project

    async def enqueue(
        self,
        tx: Tx,
        owner: UserId,
        prepared: Prepared,
        project: Project,
        *,
        trial: TrialOf | None = None,
        origin: CheckpointId | None = None,
    ) -> RunId:
        """Queue a run that is admitted; the caller wakes the dispatcher, once for all it queues."""
        request = prepared.request
        engine = self.engines.resolve(request.engine, request.backend)
        run = RunId(new_id("run"))
        public = request.model_dump(mode="json") | {"secrets": sorted(request.secrets)}
        public["notes"] = prepared.notes
        secrets = json.dumps(request.secrets).encode()
        await self._repository.insert_run(
            tx,
            {
                "id": run,
                "owner": owner,
                "project_id": project.id,
                "project_name": project.name,
                "snapshot_id": request.snapshot or project.snapshot,
                "spec": public,
                "engine_spec": engine.model_dump(mode="json"),
                "secrets": self._sealer.seal(secrets, run.encode()) if request.secrets else None,
                "devices": request.devices,
                "device_class": request.device_class,
                "launch": request.launch,
                "launch_reason": prepared.launch_reason,
                "warnings": list(prepared.warnings),
                "state": RunState.QUEUED.value,
                "smoke": request.smoke,
                "priority": request.priority,
                "sweep_id": trial.sweep if trial else None,
                "trial": trial.number if trial else None,
                "bill_subject": trial.bill_subject if trial else None,
                "max_cost_micros": _micros(request.max_cost_cny),
                "max_time_ms": request.max_time_s * 1000 if request.max_time_s else None,
                "max_restarts": request.max_restarts,
                "origin_checkpoint": origin,
                "resume_checkpoint": origin,
            },
        )
        return run

    async def prioritise(self, tx: Tx, owner: UserId, run: RunId, *, priority: int) -> Run:
        """Where a queued run stands among the owner's own; refused when it waits no more."""
        await self._row(tx, owner, run)
        locked = await self._repository.lock_run(tx, run)
        if locked is None or locked.state != RunState.QUEUED:
            raise NotQueued(
                f"{run} does not wait any more: its priority decides nothing.",
                way_out="Give the next run its priority: `tesra run … --priority high`.",
            )
        await self._repository.update_run(tx, run, {"priority": priority})
        await self._repository.add_event(tx, run, "priority", said(f"Priority {priority}."))
        await notify(tx, "dispatch")
        return await self.run(tx, owner, run)

    async def label(self, tx: Tx, owner: UserId, run: RunId, labels: RunLabels) -> Run:
        """Tags and note of one of the owner's runs; what is not given stays."""
        await self._row(tx, owner, run)
        await write_labels(tx, run, labels)
        return await self.run(tx, owner, run)

    async def tags(self, tx: Tx, owner: UserId) -> Sequence[str]:
        """The tags that the owner's runs have, by name."""
        return await tags_of(tx, owner)

    async def stop(self, tx: Tx, owner: UserId, run: RunId) -> Run:
        """Ask for the end: at once when it waits, else SIGTERM, grace, SIGKILL. Harmless when it has ended."""
        await self._row(tx, owner, run)
        topics = await self._transitions.apply(tx, run, StopRequested(StopCause.USER))
        await self._transitions.tell(tx, topics)
        return await self.run(tx, owner, run)

    async def run(self, tx: Tx, owner: UserId, run: RunId) -> Run:
        """One of the owner's runs, with the lock of its environment and its place in the queue."""
        row = await self._row(tx, owner, run)
        shown = await self._show(tx, row, await self._queue_for(tx, [row]))
        lock = await self._repository.environment_lock(tx, run)
        metrics = await main_values(tx, run)
        return shown.model_copy(update={"environment_lock": lock, "metrics": metrics})

    async def runs(
        self,
        tx: Tx,
        owner: UserId,
        kind: RunFilter = ANY_RUN,
        *,
        cursor: str | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """The owner's runs, the newest first; ``cursor`` is the last id of the page before."""
        rows = await self._repository.runs_of(tx, owner, kind, before=cursor, limit=limit)
        queue = await self._queue_for(tx, rows)
        return [await self._show(tx, row, queue) for row in rows]

    async def with_main_metric(self, tx: Tx, runs: Sequence[Run]) -> list[Run]:
        """The same runs, each with its most telling metric, if it has any."""
        found = await main_metric_of(tx, [run.id for run in runs])
        return [run.model_copy(update={"metrics": found.get(run.id, {})}) for run in runs]

    async def events(
        self, tx: Tx, owner: UserId, run: RunId, *, after: int = 0, limit: int = 200
    ) -> list[RunEvent]:
        """The timeline of one of the owner's runs."""
        await self._row(tx, owner, run)
        return [
            show_event(row)
            for row in await self._repository.events(tx, run, after=after, limit=limit)
        ]

    async def log(
        self, tx: Tx, run: RunId, *, after: int, rank: int | None, limit_bytes: int = READ_BYTES
    ) -> list[Segment]:
        """The next part of a log; the caller has checked whose run it is."""
        return await read_log(tx, run, Span(after, rank=rank), limit_bytes=limit_bytes)

    async def own(self, tx: Tx, owner: UserId, run: RunId) -> None:
        """Refuse a run that is not the owner's."""
        await self._row(tx, owner, run)

    async def check_rank(self, tx: Tx, owner: UserId, run: RunId, rank: int | None) -> None:
        """Refuse a run that is not the owner's, and a rank that it does not have."""
        row = await self._row(tx, owner, run)
        last = 0 if row.launch == "single" else row.devices - 1
        if rank is not None and rank > last:
            has = said("rank 0 alone" if last == 0 else f"the ranks 0 to {last:d}")
            raise RankNotFound(f"There is no rank {rank}: this run has {has}.")

    async def _complete(
        self, owner: UserId, request: RunRequest, snapshot: SnapshotId, project: str
    ) -> Prepared:
        if not needs_doctor(request):
            return as_it_is(request)
        entry = started_file(request.entry)
        report = await self.doctor.report(snapshot, owner=owner, entry=entry)
        backends = self.engines.backends_of(report.engine.name)
        return complete(request, report, project=project, backends=backends)

    async def _row(self, tx: Tx, owner: UserId, run: RunId) -> RunRow:
        row = await self._repository.run(tx, run, owner=owner)
        if row is None:
            raise RunNotFound(way_out="List yours with `tesra runs`.")
        return row

    async def _queue_for(self, tx: Tx, rows: Sequence[RunRow]) -> Queue | None:
        """The queue, if any of these wait in it."""
        waits = any(row.state == RunState.QUEUED for row in rows)
        return await self._queue.look(tx) if waits else None

    async def _show(self, tx: Tx, row: RunRow, queue: Queue | None = None) -> Run:
        so_far = 0
        if row.billed_micros is None and row.started_at is not None:
            so_far = await self._accounts.micro_th_so_far(tx, life_of(row), RunId(row.id))
        waits = queue is not None and row.state == RunState.QUEUED
        return show_run(
            row, micro_th_so_far=so_far, queue=place_of(row, queue) if waits and queue else None
        )

    async def check_devices(self, tx: Tx, request: WholeRequest) -> None:
        """Refuse so many devices of a class as no site has."""
        wanted = Wanted(request.devices, request.device_class, request.launch == "single")
        check_offer(await self._compute.online_devices(tx), wanted)


def _micros(amount_cny: str | None) -> int | None:
    return None if amount_cny is None else parse_cny(amount_cny)
