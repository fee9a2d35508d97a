"""The site controller: makes the site run what the server lists, and reports what happens.

It dials out only and owns no run: gangs live with their agents, facts in the journal. Killed at
any point, a new one reads the journal, asks the agents, and goes on; nothing is lost or doubled.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import Any

from tesra.kit.errors import TesraError
from tesra.node.facts import combine, ended, to_tell
from tesra.node.orders import (
    Agent,
    AgentLost,
    AgentReport,
    AttemptStatus,
    Cluster,
    DevicesTaken,
    Stage,
    Verdict,
)
from tesra.node.placing import device_counts, nodes_of, orders_of, port_counts
from tesra.node.reconcile import Begin, Forget, Kill, Lose, NeverRan, Stop, decide
from tesra.node.server_link import ServerLink
from tesra.node.spool import Body, Note, Spool, told
from tesra.node.tuning.conduct import to_tell_ranks
from tesra.wire.site import Assignment, Assignments, EnrolNode, Preparing, WarmEngine

RECONCILE_EVERY_S = 5.0
STATUS_WAIT_S = 2.0
REVIVE_WITHIN_S = 25.0  # a node that is gone longer loses its attempts
SHUTDOWN_GRACE_S = 5.0
FAILED_GRACE_S = 2.5  # for the other nodes when a rank of one has failed
_SHUTDOWN_S = 12.0
_FLUSH_S = 3.0
_REVIVE_PAUSE_S = 1.0

_log = logging.getLogger(__name__)


class Controller:
    """One per site. ``run`` returns after ``shut_down`` was called and the gangs are gone."""

    def __init__(self, cluster: Cluster, spool: Spool, link: ServerLink) -> None:
        self._cluster = cluster
        self._spool = spool
        self._link = link
        self._agents: dict[str, Agent] = {}
        self._reports: dict[str, dict[str, AttemptStatus]] = {}
        self._engines: dict[str, tuple[WarmEngine, ...]] = {}
        self._listed: dict[str, Assignment] | None = None
        self._listed_at = 0.0
        self._wanted = asyncio.Event()
        self._ending = asyncio.Event()
        self._fact = asyncio.Event()
        self._chores: set[asyncio.Task[None]] = set()

    def shut_down(self) -> None:
        """Ask for a clean end: gangs are stopped and reported as lost, so that they run elsewhere."""
        self._ending.set()

    async def run(self) -> None:
        nodes = await self._meet_agents()
        _log.info("site of %d nodes is up", len(nodes))
        facing = [
            asyncio.create_task(self._link.follow(nodes, on_list=self._take, on_gone=self._drop)),
            asyncio.create_task(self._link.renew_leases(self._spread)),
        ]
        feeding = [asyncio.create_task(self._watch(node)) for node in self._agents]
        reconciling = asyncio.create_task(self._reconcile())
        ending = asyncio.create_task(self._ending.wait())
        loops = [*facing, *feeding, reconciling]
        try:
            await asyncio.wait({ending, *loops}, return_when=asyncio.FIRST_COMPLETED)
            for loop in loops:
                if loop.done():
                    loop.result()  # a loop never ends but by a bug: fail loudly
            reconciling.cancel()
            await self._end_gangs()
        finally:
            for task in (ending, *loops, *self._chores):
                task.cancel()
            await asyncio.gather(ending, *loops, *self._chores, return_exceptions=True)

    async def _meet_agents(self) -> list[EnrolNode]:
        self._agents = await self._cluster.agents()
        nodes = []
        for node, agent in self._agents.items():
            nodes.append(await agent.describe())
            self._engines[node] = tuple(nodes[-1].engines)
            self._note_report(node, await agent.status(-1, 0.0))
        for attempt in await self._cluster.reserved():
            if attempt not in self._spool.notes:
                await self._cluster.release(attempt)
        return nodes

    def _take(self, answer: Assignments, sent_at: float) -> None:
        """A new list; leases of what is new on it count from when it was asked for."""
        self._listed = {assignment.attempt: assignment for assignment in answer.assignments}
        self._listed_at = sent_at
        self._wanted.set()

    def _drop(self, attempts: list[str]) -> None:
        """The server says that these are no longer ours."""
        notes = self._spool.notes
        for attempt in attempts:
            if attempt in notes and not notes[attempt].ended:
                if self._listed is not None:
                    self._listed.pop(attempt, None)
                self._chore(self._kill(attempt))

    async def _reconcile(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), RECONCILE_EVERY_S)
            self._wanted.clear()
            if self._listed is None:
                continue
            for action in decide(self._listed.values(), self._spool.notes, self._held()):
                try:
                    await self._act(action)
                except TesraError as error:
                    _log.warning("%s: %s", type(action).__name__, error.detail)
                except Exception:  # noqa: BLE001 - an outer loop; the next round tries again
                    _log.exception("%s failed", type(action).__name__)
            self._tune()

    async def _act(self, action: Begin | Stop | NeverRan | Lose | Kill | Forget) -> None:
        match action:
            case Begin(assignment):
                await self._begin(assignment)
            case Stop(assignment):
                for node in self._spool.notes[assignment.attempt].nodes:
                    await self._agents[node].stop(assignment.attempt, "stopped", assignment.grace_s)
            case NeverRan(assignment):
                note = Note(fence=assignment.fence)
                note = self._spool.notes.get(assignment.attempt, note)
                verdict = Verdict("stopped", reason="Stopped before it began.")
                self._tell(assignment.attempt, note, [ended(verdict)])
            case Lose(attempt):
                self._lose(attempt, "The node lost its state.")
            case Kill(attempt):
                await self._kill(attempt)
            case Forget(attempt):
                if not self._spool.waits(attempt):
                    self._spool.forget(attempt)
                    await self._kill(attempt)

    async def _begin(self, assignment: Assignment) -> None:
        attempt = assignment.attempt
        nodes = nodes_of(assignment)
        note = self._spool.notes.get(attempt)
        if note is None:
            note = Note(fence=assignment.fence, nodes=nodes)
            note = self._tell(attempt, note, [Preparing(phase="preparing")])
            self._link.hold(attempt, self._listed_at)
        missing = [node for node in nodes if node not in self._agents]
        if missing:
            self._lose(attempt, f"This site has no node {missing[0]}.")
            return
        self._chore(self._reserve(assignment))
        await self._start(assignment)

    async def _reserve(self, assignment: Assignment) -> None:
        """Beside the start: the devices are the server's choice, so waiting would gain nothing."""
        try:
            await self._cluster.reserve(assignment.attempt, device_counts(assignment))
        except DevicesTaken as error:
            for node in nodes_of(assignment):
                await self._agents[node].stop(assignment.attempt, "gone", 0.0)
            self._lose(assignment.attempt, error.detail)

    async def _start(self, assignment: Assignment) -> None:
        ports = {
            node: await self._agents[node].free_ports(count)
            for node, count in port_counts(assignment).items()
        }
        left_s = self._link.left_s(assignment.attempt)
        for node, order in orders_of(assignment, self._link.addresses, ports).items():
            await self._agents[node].start(order, left_s)

    async def _kill(self, attempt: str) -> None:
        """End every trace of an attempt, without a word to the server."""
        self._link.let_go(attempt)
        for node, held in list(self._reports.items()):
            status = held.get(attempt)
            if status is not None and status.stage is Stage.ENDED:
                await self._agents[node].forget(attempt)
                held.pop(attempt, None)
            elif status is not None:
                await self._agents[node].stop(attempt, "gone", 0.0)
        self._spool.forget(attempt)
        await self._cluster.release(attempt)

    async def _watch(self, node: str) -> None:
        """Follow one node; bring its agent back when it is lost."""
        after = -1
        while True:
            try:
                report = await self._agents[node].status(after, STATUS_WAIT_S)
            except AgentLost as error:
                _log.warning("node %s: %s", node, error.detail)
                await self._revive(node)
                after = -1
                continue
            after = report.version
            self._note_report(node, report)

    async def _revive(self, node: str) -> None:
        """The new agent finds the old one's gangs on disk, ends them, and reports them lost."""
        since = time.monotonic()
        while True:
            try:
                self._agents[node] = await self._cluster.revive(node)
            except TesraError as error:
                _log.warning("node %s: %s", node, error.detail)
            except Exception:  # noqa: BLE001 - an outer loop; tried again in a second
                _log.exception("node %s could not be revived", node)
            else:
                _log.info("node %s has an agent again", node)
                return
            if time.monotonic() - since > REVIVE_WITHIN_S:
                for attempt, note in self._spool.notes.items():
                    if node in note.nodes and not note.ended:
                        self._lose(attempt, "The node does not answer any more.")
            await asyncio.sleep(_REVIVE_PAUSE_S)

    def _note_report(self, node: str, report: AgentReport) -> None:
        before = self._reports.get(node, {})
        self._reports[node] = {status.attempt: status for status in report.attempts}
        if before.keys() != self._reports[node].keys():
            self._wanted.set()
        if report.engines != self._engines.get(node, ()):
            self._engines[node] = report.engines
            self._chore(self._link.tell_engines(node, report.engines))
        for attempt, note in self._spool.notes.items():
            if node in note.nodes and not note.ended:
                self._observe(attempt, note)

        self._tune()

    def _tune(self) -> None:
        """Have ranks told of changes of their parameters, where they are not told yet."""
        for node, attempt, orders in to_tell_ranks(
            self._listed or {}, self._spool.notes, self._reports
        ):
            self._chore(self._agents[node].tune(attempt, orders))

    def _observe(self, attempt: str, note: Note) -> None:
        parts = [self._reports.get(node, {}).get(attempt) for node in note.nodes]
        present = [part for part in parts if part is not None and part.fence == note.fence]
        if not present or len(present) < len(parts):
            return
        gang = combine(present)
        if gang.broken:
            self._chore(self._stop_rest(attempt, note))
        note = self._tell(attempt, note, to_tell(note, gang))
        if note.ended:
            self._chore(self._cluster.release(attempt))

    async def _stop_rest(self, attempt: str, note: Note) -> None:
        """One node's part has ended badly: the others have nothing to wait for."""
        for node in note.nodes:
            await self._agents[node].stop(attempt, "stopped", FAILED_GRACE_S)

    def _tell(self, attempt: str, note: Note, facts: list[Body]) -> Note:
        if facts:
            note = told(note, facts)
            self._spool.append(attempt, note, facts)
            self._link.wake()
            self._fact.set()
        return note

    def _lose(self, attempt: str, reason: str) -> None:
        note = self._spool.notes.get(attempt)
        if note is None or note.ended:
            return
        self._tell(attempt, note, [ended(Verdict("lost", reason=reason))])
        self._chore(self._cluster.release(attempt))

    async def _spread(self, leases: dict[str, float]) -> None:
        """Tell the agents how long each attempt may still run."""
        notes = self._spool.notes
        for node, agent in self._agents.items():
            own = {a: s for a, s in leases.items() if a in notes and node in notes[a].nodes}
            if own:
                with contextlib.suppress(AgentLost):  # its watcher deals with that
                    await agent.renew(own)

    async def _end_gangs(self) -> None:
        """The clean end: what ran is lost here, and said so if the server listens."""
        await self._link.leave()
        notes = self._spool.notes
        live = [attempt for attempt, note in notes.items() if not note.ended]
        for attempt in live:
            for node in notes[attempt].nodes:
                with contextlib.suppress(AgentLost, KeyError):
                    await self._agents[node].stop(attempt, "lost", SHUTDOWN_GRACE_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_ended(), _SHUTDOWN_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._link.flushed(), _FLUSH_S)

    async def _all_ended(self) -> None:
        while not all(note.ended for note in self._spool.notes.values()):
            self._fact.clear()
            await self._fact.wait()

    def _held(self) -> dict[str, frozenset[str]]:
        attempts = {attempt for report in self._reports.values() for attempt in report}
        return {
            attempt: frozenset(node for node, held in self._reports.items() if attempt in held)
            for attempt in attempts
        }

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the loops; a failure is logged, and made good by the next reconciliation."""
        task = asyncio.create_task(_logged(work))
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except TesraError as error:
        _log.warning("%s", error.detail)
    except Exception:  # noqa: BLE001 - an outer loop; reconciliation makes it good
        _log.exception("a chore failed")
