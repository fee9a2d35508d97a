"""The site controller: makes the site run what the server lists, and reports what happens.

It dials out only and owns no run: gangs live with their agents, facts in the journal. Killed at
any point, a new one reads the journal, asks the agents, and goes on; nothing is lost or doubled.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from tesra.kit.errors import TesraError
from tesra.kit.saying import Said, said
from tesra.node.facts import combine, ended, to_tell
from tesra.node.members import Members
from tesra.node.orders import AgentLost, Cluster, DevicesTaken, StopReason, Verdict
from tesra.node.placing import device_counts, limits_of, nodes_of, orders_of, port_counts
from tesra.node.ports import PortStock
from tesra.node.reconcile import Action, Begin, Forget, Kill, Lose, NeverRan, Stop, decide
from tesra.node.server_link import ServerLink
from tesra.node.spool import Body, Note, Spool, told
from tesra.node.stalls import AFTER_S, judge
from tesra.node.tuning.conduct import to_tell_ranks
from tesra.wire.site import Assignment, Assignments, Preparing, WarmEngine
from tesra.wire.stalls import Stalled, sentence, told_words

RECONCILE_EVERY_S = 5.0
SHUTDOWN_GRACE_S = 5.0
FAILED_GRACE_S = 2.5  # for the other nodes when a rank of one has failed
SETTLE_S = 15.0  # for the other nodes' last words when one is lost: its runs wait for no more
_SHUTDOWN_S = 12.0
_FLUSH_S = 3.0

_log = logging.getLogger(__name__)


class Controller:
    """One per site. ``run`` returns after ``shut_down`` was called and the gangs are gone."""

    def __init__(
        self, cluster: Cluster, spool: Spool, link: ServerLink, *, stall_after_s: float = AFTER_S
    ) -> None:
        """``stall_after_s``: so long may all ranks of a gang do nothing before it is said."""
        self._cluster = cluster
        self._spool = spool
        self._link = link
        self._stall_after_s = stall_after_s
        self._members = Members(cluster, self, link.offer)
        self._listed: dict[str, Assignment] | None = None
        self._listed_at = 0.0
        self._wanted = asyncio.Event()
        self._ending = asyncio.Event()
        self._fact = asyncio.Event()
        self._ports = PortStock()
        self._torn: set[tuple[str, StopReason]] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._acting: dict[str, tuple[Action, asyncio.Task[None]]] = {}
        self._waiting: set[str] = set()  # those that have more to be done when that is

    def shut_down(self) -> None:
        """Ask for a clean end: gangs are stopped and reported as lost, so that they run elsewhere."""
        self._ending.set()

    async def run(self) -> None:
        await self._members.meet()
        for attempt in await self._cluster.reserved():
            if attempt not in self._spool.notes:
                await self._cluster.release(attempt)
        nodes = self._members.nodes
        _log.info("site of %d nodes is up", len(nodes))
        facing = [
            asyncio.create_task(self._link.follow(nodes, on_list=self._take, on_gone=self._drop)),
            asyncio.create_task(self._link.renew_leases(self._spread)),
        ]
        feeding = [asyncio.create_task(self._members.watch(node.id)) for node in nodes]
        reconciling = asyncio.create_task(self._reconcile())
        ending = asyncio.create_task(self._ending.wait())
        loops = [*facing, *feeding, reconciling]
        try:
            await asyncio.wait({ending, *loops}, return_when=asyncio.FIRST_COMPLETED)
            for loop in loops:
                if loop.done():
                    loop.result()  # a loop never ends but by a bug: fail loudly
            reconciling.cancel()
            self._drop_actions()
            await self._end_gangs()
        finally:
            self._drop_actions()
            for task in (ending, *loops, *self._chores):
                task.cancel()
            await asyncio.gather(ending, *loops, *self._chores, return_exceptions=True)

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
            for action in decide(self._listed.values(), self._spool.notes, self._members.held()):
                attempt = action.attempt
                if attempt not in self._acting:
                    task = asyncio.create_task(self._attend(attempt, action))
                    self._acting[attempt] = (action, task)
                elif type(self._acting[attempt][0]) is not type(action):
                    self._waiting.add(attempt)
            self._tune()

    async def _attend(self, attempt: str, action: Action) -> None:
        """Attempts do not wait for each other; of one, the next action waits for the last."""
        try:
            await _logged(self._act(action))
        finally:
            del self._acting[attempt]
            if attempt in self._waiting:
                self._waiting.discard(attempt)
                self._wanted.set()

    def _drop_actions(self) -> None:
        for _, acting in self._acting.values():
            acting.cancel()

    async def _act(self, action: Action) -> None:
        match action:
            case Begin(assignment):
                await self._begin(assignment)
            case Stop(assignment):
                nodes = self._spool.notes[assignment.attempt].nodes
                grace_s = assignment.grace_s
                await self._members.stop(assignment.attempt, nodes, "stopped", grace_s=grace_s)
            case NeverRan(assignment):
                note = Note(fence=assignment.fence)
                note = self._spool.notes.get(assignment.attempt, note)
                verdict = Verdict("stopped", reason=said("Stopped before it began."))
                self._tell(assignment.attempt, note, [ended(verdict)])
            case Lose(attempt):
                self._lose(attempt, said("The node lost its state."))
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
            note = self._tell(attempt, note, [Preparing(phase=said("preparing"))])
            self._link.hold(attempt, self._listed_at)
        lost = [reason for node in nodes if (reason := self._members.lost(node))]
        if lost:
            self._lose(attempt, lost[0])
            return
        self._chore(self._reserve(assignment))
        await self._start(assignment)

    async def _reserve(self, assignment: Assignment) -> None:
        """Beside the start: the devices are the server's choice, so waiting would gain nothing."""
        try:
            await self._cluster.reserve(assignment.attempt, device_counts(assignment))
        except DevicesTaken as error:
            nodes = nodes_of(assignment)
            await self._members.stop(assignment.attempt, nodes, "gone", grace_s=0.0)
            self._lose(assignment.attempt, Said(error.detail))

    async def _start(self, assignment: Assignment) -> None:
        agents = self._members.agents
        ports = {
            node: await self._ports.take(node, count, agents[node].free_ports)
            for node, count in port_counts(assignment).items()
        }
        left_s = self._link.left_s(assignment.attempt)
        for node, order in orders_of(assignment, self._link.addresses, ports).items():
            await agents[node].start(order, left_s)

    async def _kill(self, attempt: str) -> None:
        """End every trace of an attempt, without a word to the server."""
        self._link.let_go(attempt)
        await self._members.end(attempt)
        self._spool.forget(attempt)
        self._torn -= {(attempt, "lost"), (attempt, "stopped")}
        await self._cluster.release(attempt)

    def on_report(self, node: str) -> None:
        with self._spool.together():  # no await in here: it is on disk before anybody sends it
            for attempt, note in self._spool.notes.items():
                if node in note.nodes and not note.ended:
                    self._observe(attempt, note)
        self._tune()

    def on_attempts(self) -> None:
        self._wanted.set()

    def on_engines(self, node: str, engines: tuple[WarmEngine, ...]) -> None:
        self._chore(self._link.tell_engines(node, engines))

    def begun_on(self, node: str) -> dict[str, int]:
        notes = self._spool.notes.items()
        return {a: note.fence for a, note in notes if node in note.nodes and not note.ended}

    def _tune(self) -> None:
        """Have ranks told of changes of their parameters, where they are not told yet."""
        for node, attempt, orders in to_tell_ranks(
            self._listed or {}, self._spool.notes, self._members.reports
        ):
            self._chore(self._members.agents[node].tune(attempt, orders))

    def _observe(self, attempt: str, note: Note) -> None:
        parts = self._members.parts(attempt, note.nodes, note.fence)
        if not parts:
            return
        stall = judge([part.progress for part in parts], after_s=self._stall_after_s)
        gang = combine(parts, stall=stall)
        if gang.broken and gang.verdict is not None:
            self._tear_down(attempt, note, gang.verdict)
        facts = to_tell(note, gang)
        note = self._tell(attempt, note, facts)
        for fact in facts:
            if isinstance(fact, Stalled):
                first = self._members.agents[note.nodes[0]]
                self._chore(first.say(attempt, sentence(told_words(fact))))
        if note.ended:
            self._chore(self._cluster.release(attempt))

    def _tear_down(self, attempt: str, note: Note, verdict: Verdict) -> None:
        """One node's part has ended badly: the others have nothing to wait for."""
        why: StopReason = "lost" if verdict.outcome == "lost" else "stopped"
        if (attempt, why) in self._torn:
            return
        self._torn.add((attempt, why))
        grace_s = 0.0 if why == "lost" else FAILED_GRACE_S
        self._chore(self._members.stop(attempt, note.nodes, why, grace_s=grace_s))
        if why == "lost":
            self._chore(self._lose_later(attempt, verdict.reason or said("A node was lost.")))

    async def _lose_later(self, attempt: str, reason: Said) -> None:
        """What the surviving nodes still have to deliver may hold a lost run up for a while only."""
        await asyncio.sleep(SETTLE_S)
        self._lose(attempt, reason)

    def _tell(self, attempt: str, note: Note, facts: list[Body]) -> Note:
        if facts:
            note = told(note, facts)
            self._spool.append(attempt, note, facts)
            self._link.wake()
            self._fact.set()
        return note

    def _lose(self, attempt: str, reason: Said) -> None:
        note = self._spool.notes.get(attempt)
        if note is None or note.ended:
            return
        self._tell(attempt, note, [ended(Verdict("lost", reason=reason))])
        self._chore(self._cluster.release(attempt))

    async def _spread(self, leases: dict[str, float]) -> None:
        """Tell the agents how long each attempt may still run, and where its user's cap is."""
        notes, listed = self._spool.notes, self._listed or {}
        for node, agent in self._members.agents.items():
            own = {a: s for a, s in leases.items() if a in notes and node in notes[a].nodes}
            if own:
                with contextlib.suppress(AgentLost):  # its watcher deals with that
                    await agent.renew(own, limits_of(listed, own))

    async def _end_gangs(self) -> None:
        """The clean end: what ran is lost here, and said so if the server listens."""
        await self._members.close()
        await self._link.leave()
        notes = self._spool.notes
        live = [attempt for attempt, note in notes.items() if not note.ended]
        for attempt in live:
            nodes = notes[attempt].nodes
            await self._members.stop(attempt, nodes, "lost", grace_s=SHUTDOWN_GRACE_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_ended(), _SHUTDOWN_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._link.flushed(), _FLUSH_S)

    async def _all_ended(self) -> None:
        while not all(note.ended for note in self._spool.notes.values()):
            self._fact.clear()
            await self._fact.wait()

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
