"""The life of one attempt on one node: project, environment, gang, logs, output.

It goes on whatever happens to the controller, because nothing here waits for it; only a lease
that runs out or a fence that is gone ends it. What it reports is state, not events. The order at
the end is fixed: gang gone, output stored, logs delivered, and only then ``ENDED``.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tesra.kit.errors import TesraError
from tesra.kit.saying import Said, said, words_of
from tesra.node import workspace
from tesra.node.attempt_checkpoints import AttemptCheckpoints
from tesra.node.attempt_record import AttemptRecord, folders_of, save_record
from tesra.node.courier import Courier, Growing
from tesra.node.data import DataCache, DataTooLarge
from tesra.node.devices import FoundDevice
from tesra.node.entry import EntryMissing
from tesra.node.environments import EnvironmentBuilder, EnvironmentRefused
from tesra.node.metrics.attempt_metrics import AttemptMetrics, used_devices
from tesra.node.orders import AttemptStatus, GangOrder, Stage, StopReason, Verdict
from tesra.node.output import KEEP_S, leave_output, store_output
from tesra.node.processes import kill_tree
from tesra.node.progress import RankWatch
from tesra.node.projects import ProjectCache
from tesra.node.ranks import Gang, RankExit
from tesra.node.sandbox import Sandbox
from tesra.node.site_client import SiteClient, StaleFence, meaning
from tesra.node.smoke import judged, passed, wait_within
from tesra.node.tuning.desk import TuningDesk
from tesra.node.tuning.model import Order
from tesra.node.verdicts import failed_before, judge, span_ms, until
from tesra.node.workspace import TESRA_RANK
from tesra.wire.site import MAX_LOCK_CHARS

FAILED_GRACE_S = 2.5  # for the surviving ranks when one has failed
SETTLED_S = 0.3  # a phase that is over by then need not be known
_FOR_LATER = {"phase", "lock", "ran_ms"}  # what an agent that takes over can do without

_log = logging.getLogger(__name__)


class _Stopped(Exception):
    """The attempt was told to stop."""


class _Gone(Exception):
    """The attempt is no longer this site's: nothing about it may be sent."""


@dataclass(frozen=True, slots=True)
class NodeTools:
    """What all attempts of a node share."""

    attempts: Path
    client: SiteClient
    courier: Courier
    environments: EnvironmentBuilder
    projects: ProjectCache
    data: DataCache
    sandbox: Sandbox
    devices: dict[int, FoundDevice]
    runtime: Path
    name: str


class Attempt:
    """One attempt; ``changed`` is called whenever its status has, in what somebody waits for."""

    def __init__(
        self, record: AttemptRecord, tools: NodeTools, changed: Callable[[], None]
    ) -> None:
        self._record = record
        self._kept: AttemptRecord | None = None  # what is on disk, once something is
        self._tools = tools
        self._changed = changed
        self._settling: asyncio.TimerHandle | None = None  # while the phase is younger than that
        self._stopping = asyncio.Event()
        self._gone = asyncio.Event()
        self._why: StopReason = "stopped"
        self._grace_s = 0.0
        self._running_since: float | None = None
        self._gang: Gang | None = None
        self._desk: TuningDesk | None = None
        self._watch: RankWatch | None = None
        self._task: asyncio.Task[None] | None = None
        self._parcels = tools.courier.parcels(
            record.status.attempt, record.status.fence, on_stale=lambda: self.stop("gone", 0.0)
        )
        self._metrics = AttemptMetrics(self._parcels, say=self._say)
        self._checkpoints = AttemptCheckpoints(
            tools.client,
            lambda: self._record,
            ran_ms=lambda: self._ran_ms() if self._running_since is not None else None,
            note=self._note,
            say=self._say,
        )

    @property
    def record(self) -> AttemptRecord:
        return self._record

    @property
    def stage(self) -> Stage:
        return self._record.status.stage

    @property
    def status(self) -> AttemptStatus:
        """Now, with the running time up to this moment."""
        tuning = self._desk.report if self._desk is not None else None
        progress = self._watch.report if self._watch is not None else ()
        return replace(
            self._record.status,
            ran_ms=self._ran_ms(),
            tuning=tuning,
            progress=progress,
            settled=self._settling is None,
        )

    def begin(self, order: GangOrder) -> None:
        """Start living."""
        self._task = asyncio.create_task(self._guarded(self._live(order)))

    def resume(self) -> None:
        """Take over what an agent that died left: clean up, deliver the logs, report."""
        self._task = asyncio.create_task(self._guarded(self._take_over()))

    def stop(self, why: StopReason, grace_s: float) -> None:
        """End it; a later call may only be harder than an earlier one."""
        if self._stopping.is_set() and why in ("stopped", "capped"):
            return
        hurried = self._stopping.is_set()
        self._why, self._grace_s = why, grace_s
        self._stopping.set()
        if why == "gone":
            self._gone.set()
        if hurried and self._gang is not None:
            kill_tree(self._gang.pid, self._gang.started)

    def tune(self, orders: tuple[Order, ...]) -> None:
        """Tell its ranks of changes of parameters."""
        if self._desk is not None:
            self._desk.order(orders)

    def say(self, line: str) -> None:
        """Write to the run's log while it runs."""
        if self._record.status.stage is Stage.RUNNING:
            self._say(line)

    async def ended(self) -> None:
        """Returns when there is nothing left to do."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _guarded(self, life: Coroutine[Any, Any, Verdict]) -> None:
        """The outer loop: whatever happens, the attempt ends with a verdict."""
        try:
            verdict = await life
            await until(self._gone, self._settle(verdict), _Gone)
        except (_Gone, StaleFence):
            await self._vanish()
        except Exception as error:  # noqa: BLE001 - a worker's outer loop: logged and marked
            _log.exception("attempt %s", self._record.status.attempt)
            await self._metrics.close()
            self._parcels.cancel()
            self._end(Verdict("lost", reason=said(f"The node failed: {error!r}")))

    async def _live(self, order: GangOrder) -> Verdict:
        try:
            gang = await until(self._stopping, self._prepare(order), _Stopped)
            return await self._train(gang, order.assignment.spec.smoke_s)
        except _Stopped:
            return self._stop_verdict()
        except (EnvironmentRefused, EntryMissing, DataTooLarge, workspace.OutputOutside) as error:
            return Verdict("refused", reason=words_of(error))
        except (TesraError, OSError) as error:
            if isinstance(error, TesraError) and isinstance(meaning(error), StaleFence):
                raise _Gone from error
            _log.exception("attempt %s", self._record.status.attempt)
            words = words_of(error) if isinstance(error, TesraError) else Said(str(error))
            return Verdict("lost", reason=said(f"The node could not run it: {words}"))

    async def _prepare(self, order: GangOrder) -> Gang:
        assignment, tools = order.assignment, self._tools
        spec = assignment.spec
        folders = workspace.prepare(tools.attempts, assignment.attempt, spec.output)
        self._follow_own_log()
        if order.place.node_rank == 0:
            for note in spec.notes:
                self._say(note)
        self._note(phase=said("fetching the project"))
        door = tools.client.drive(assignment.attempt, assignment.fence)
        await tools.projects.bring(door, spec.snapshot, spec.snapshot_root, folders.work, self._say)
        if spec.data:
            self._note(phase=said("fetching the data"))
            await tools.data.bring(door, assignment.attempt, spec.data, folders, self._say)
        spec = await self._checkpoints.bring(assignment, folders)
        self._note(phase=said("preparing the environment"))
        environment = await tools.environments.ensure(
            spec.engine, spec.packages, folders.work, self._say, lock=spec.environment_lock
        )
        if len(environment.lock) <= MAX_LOCK_CHARS:
            self._note(lock=environment.lock)
        await asyncio.to_thread(workspace.hand_over, folders)
        if order.place.node_rank == 0:
            self._record = replace(self._record, checkpoints=True)
            await self._checkpoints.prepare(folders, spec.checkpoint_every_s)
        self._note(phase=said("starting"))
        await self._metrics.open(folders)
        gang = Gang(
            assignment.run,
            spec,
            place=order.place,
            devices=[tools.devices[index] for index in order.indices],
            environment=environment,
            folders=folders,
            sandbox=tools.sandbox,
            runtime=tools.runtime,
            variables=self._metrics.variables,
        )
        await self._metrics.begin(folders, order, gang, tools.devices)
        if order.place.world_size > 1:
            used = used_devices(order, gang.ranks, tools.devices)
            self._watch = RankWatch(gang, folders, tools.name, devices=used)
        return gang

    async def _train(self, gang: Gang, smoke_s: float | None) -> Verdict:
        try:
            if self._stopping.is_set():
                raise _Stopped
            await gang.start()
            self._mark_running(gang, keep=smoke_s is None)
            if smoke_s is None:
                self._checkpoints.begin()
            exits = await until(self._stopping, wait_within(gang, smoke_s), _Stopped)
        except _Stopped:
            told_at = time.time()
            after = await gang.stop(self._grace_s)
            self._freeze(after)
            failed = failed_before(told_at, after, self._folders, self._tools.name)
            if failed is not None and self._why == "stopped":
                return failed
            raise
        finally:
            told_at = time.time()
            after = await gang.stop(FAILED_GRACE_S)
            self._checkpoints.ended(after, len(gang.ranks))
            if self._desk is not None:
                self._desk.close()
            if self._watch is not None:
                self._watch.close()
        if smoke_s is not None and exits is None:
            return passed(self._folders, smoke_s)
        self._freeze(exits or [])
        if gang.broken:
            return Verdict("lost", reason=said("The run's sandbox was killed from outside."))
        verdict = judge(exits or [], self._folders, self._tools.name, after=after, told_at=told_at)
        return verdict if smoke_s is None else judged(verdict)

    def _stop_verdict(self) -> Verdict:
        if self._why == "gone":
            raise _Gone
        if self._why == "lost":
            return Verdict("lost", reason=said("The site was shut down."))
        at_cap = self._why == "capped"
        return Verdict(
            "stopped", reason=said("Stopped at its cap." if at_cap else "Stopped on request.")
        )

    async def _settle(self, verdict: Verdict) -> None:
        """Store what there is to store, deliver every log, and end."""
        self._note(stage=Stage.STORING, phase=said("storing the output"), verdict=verdict)
        await self._metrics.sweep()
        if verdict.outcome == "refused" and self._folders.logs.exists():
            self._say(verdict.reason or "This run cannot be prepared.")
        kept = verdict.outcome in ("succeeded", "failed", "stopped") and self._why != "lost"
        if self._record.ran and kept and self._record.node_rank > 0:
            self._note(warnings=await leave_output(self._folders, self._tools.name))
        elif self._record.ran and kept:
            stored = await store_output(
                self._tools.client,
                self._folders,
                self._record.status.attempt,
                self._record.status.fence,
                missing_matters=verdict.outcome == "succeeded",
            )
            for warning in stored.warnings:
                self._say(warning)
            if stored.kept:
                self._record = replace(self._record, kept_until=time.time() + KEEP_S)
            self._note(warnings=stored.warnings, output=stored.commit)
        await self._checkpoints.finish(succeeded=verdict.outcome == "succeeded")
        await self._parcels.finish()
        self._end(verdict)

    async def _take_over(self) -> Verdict:
        record = self._record
        if record.pid is not None:
            await asyncio.to_thread(kill_tree, record.pid, record.pid_started)
        if self._folders.root.exists():
            self._follow_own_log()
            self._follow_logs(record.ranks)
            await self._metrics.resume(self._folders)
            await self._checkpoints.take_over(self._folders)
        return record.status.verdict or Verdict("lost", reason=said("The node's agent died."))

    async def _vanish(self) -> None:
        self._parcels.cancel()
        await self._metrics.close()
        await self._checkpoints.cancel()
        self._end(Verdict("lost", reason=said("The attempt is no longer this site's.")))

    def _end(self, verdict: Verdict) -> None:
        self._checkpoints.close()
        self._tools.data.release(self._record.status.attempt)
        self._note(stage=Stage.ENDED, phase=Said("ended"), verdict=verdict)

    @property
    def _folders(self) -> workspace.AttemptFolders:
        return folders_of(self._tools.attempts, self._record)

    def _follow_own_log(self) -> None:
        """Tesra's own voice in a run's log is that of node 0."""
        if self._record.node_rank == 0:
            self._follow_logs([TESRA_RANK])

    def _follow_logs(self, ranks: Iterable[int]) -> None:
        for rank in ranks:
            self._parcels.follow(Growing("log", rank, self._folders.log_of(rank)))

    def _mark_running(self, gang: Gang, *, keep: bool) -> None:
        self._gang, self._running_since = gang, time.monotonic()
        self._record = replace(
            self._record, ran=keep, ranks=tuple(gang.ranks), pid=gang.pid, pid_started=gang.started
        )
        self._note(stage=Stage.RUNNING, phase=Said("running"), started_at=datetime.now(UTC))
        self._follow_logs(gang.ranks)
        if self._watch is not None:
            self._watch.begin()
        self._desk = TuningDesk(
            self._folders,
            gang.ranks,
            gone=lambda: {ended.rank for ended in gang.exits},
            changed=self._changed,
        )

    def _freeze(self, exits: list[RankExit]) -> None:
        """Stop the clock at the first rank's end, well or badly."""
        if self._running_since is not None and exits:
            ran_ms = span_ms(self._running_since, exits)
            self._running_since = None
            self._note(ran_ms=ran_ms)

    def _ran_ms(self) -> int:
        if self._running_since is None or self._gang is None:
            return self._record.status.ran_ms
        return span_ms(self._running_since, self._gang.exits)

    def _note(self, **changes: Any) -> None:
        """On disk, unless it is nothing that an agent that takes over would go by."""
        record = self._record.with_status(**changes)
        if record == self._kept and record == self._record:
            return
        self._record = record
        if self._kept is None or not changes.keys() <= _FOR_LATER:
            save_record(self._folders.root, record)
            self._kept = record
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        if self._has_time(changes):
            self._settling = asyncio.get_running_loop().call_later(SETTLED_S, self._settle_phase)
        else:
            self._changed()

    def _settle_phase(self) -> None:
        self._settling = None
        self._changed()

    def _has_time(self, changes: Mapping[str, Any]) -> bool:
        """Whether nobody waits for this: a phase, or a good end whose output is being stored."""
        verdict = self._record.status.verdict
        stage = changes.get("stage")
        return stage is None or (
            stage is Stage.STORING and verdict is not None and verdict.outcome == "succeeded"
        )

    def _say(self, line: str) -> None:
        with self._folders.log_of(TESRA_RANK).open("a", encoding="utf-8") as file:
            file.write(line.rstrip("\n").replace("\0", "") + "\n")
