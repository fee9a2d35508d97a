"""The nodes of a site as its controller knows them: their agents, their reports, who is lost.

A node is lost when it is surely dead, or has not answered for ``REVIVE_WITHIN_S``. Then it is
not on offer any more, and its parts of attempts count as lost, whatever a new agent finds there
later. It is revived for as long as it takes, and is on offer again from then on.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Protocol

from tesra.kit.errors import TesraError
from tesra.kit.saying import Said, said
from tesra.node.orders import (
    Agent,
    AgentLost,
    AgentReport,
    AttemptStatus,
    Cluster,
    Stage,
    StopReason,
    Verdict,
)
from tesra.wire.site import EnrolNode, WarmEngine

STATUS_WAIT_S = 2.0
REVIVE_WITHIN_S = 25.0  # a node that is gone longer loses its attempts
REVIVE_PAUSE_S = 1.0
WITHDRAW_S = 3.0  # the server should know that a node is lost before it places its runs again

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who wants to know what happens on the nodes."""

    def on_report(self, node: str) -> None:
        """The node has reported something new."""
        ...

    def on_engines(self, node: str, engines: tuple[WarmEngine, ...]) -> None: ...

    def on_attempts(self) -> None:
        """Which attempts are held by which nodes has changed."""
        ...

    def begun_on(self, node: str) -> dict[str, int]:
        """The attempts that have a part there and have not ended, with their fences."""
        ...


class Members:
    """One per controller; ``offer`` tells the server which nodes there are now."""

    def __init__(
        self,
        cluster: Cluster,
        listener: Listener,
        offer: Callable[[list[EnrolNode]], Coroutine[Any, Any, None]],
    ) -> None:
        self._cluster = cluster
        self._listener = listener
        self._offer = offer
        self._agents: dict[str, Agent] = {}
        self._nodes: dict[str, EnrolNode] = {}
        self._lost: dict[str, Said] = {}
        self._engines: dict[str, tuple[WarmEngine, ...]] = {}
        self._reports: dict[str, dict[str, AttemptStatus]] = {}
        self._buried: dict[str, dict[str, AttemptStatus]] = {}
        self._offering: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def agents(self) -> Mapping[str, Agent]:
        return self._agents

    @property
    def reports(self) -> Mapping[str, Mapping[str, AttemptStatus]]:
        """What each node says of each attempt; of a lost one, what it would say."""
        return self._reports

    @property
    def nodes(self) -> list[EnrolNode]:
        """Those that are not lost."""
        return [node for node in self._nodes.values() if node.id not in self._lost]

    def lost(self, node: str) -> Said | None:
        """Why nothing can begin there; ``None`` when it can."""
        if node not in self._nodes:
            return said(f"This site has no node {node}.")
        return self._lost.get(node)

    async def meet(self) -> None:
        """Find the agents and what they hold."""
        self._agents = await self._cluster.agents()
        for node, agent in self._agents.items():
            self._nodes[node] = await agent.describe()
            self._engines[node] = tuple(self._nodes[node].engines)
            self._note(node, await agent.status(-1, 0.0))

    def parts(self, attempt: str, nodes: tuple[str, ...], fence: int) -> list[AttemptStatus]:
        """The attempt's parts on these nodes, in their order; none while one has not reported."""
        found = [self._reports.get(node, {}).get(attempt) for node in nodes]
        present = [part for part in found if part is not None and part.fence == fence]
        return present if len(present) == len(found) else []

    def held(self) -> dict[str, frozenset[str]]:
        """The nodes that report each attempt."""
        attempts = {attempt for report in self._reports.values() for attempt in report}
        return {
            attempt: frozenset(node for node, held in self._reports.items() if attempt in held)
            for attempt in attempts
        }

    async def stop(
        self, attempt: str, nodes: tuple[str, ...], why: StopReason, *, grace_s: float
    ) -> None:
        """Tell all of these at once; one that is lost has nothing to stop."""
        asked = [
            self._agents[node].stop(attempt, why, grace_s)
            for node in nodes
            if node in self._agents and node not in self._lost
        ]
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException) and not isinstance(answer, AgentLost):
                raise answer

    async def end(self, attempt: str) -> None:
        """End every trace of it, or forget what has ended already."""
        for node, held in list(self._reports.items()):
            self._buried.get(node, {}).pop(attempt, None)
            status = held.get(attempt)
            if status is not None and status.stage is Stage.ENDED:
                if node not in self._lost:
                    await self._agents[node].forget(attempt)
                held.pop(attempt, None)
            elif status is not None:
                await self._agents[node].stop(attempt, "gone", 0.0)

    async def watch(self, node: str) -> None:
        """Follow one node for ever; bring its agent back when it is lost."""
        after = -1
        while True:
            try:
                report = await self._agents[node].status(after, STATUS_WAIT_S)
            except AgentLost as error:
                _log.warning("node %s: %s", self._name(node), error.detail)
                await self._revive(node)
                after = -1
                continue
            after = report.version
            self._note(node, report)

    async def close(self) -> None:
        """Tell the server nothing any more."""
        self._closed = True
        if self._offering is not None:
            self._offering.cancel()
            await asyncio.gather(self._offering, return_exceptions=True)

    async def _revive(self, node: str) -> None:
        """The new agent finds the old one's gangs on disk, ends them, and reports them lost."""
        since = time.monotonic()
        while True:
            if node not in self._lost and self._cluster.died(node):
                gone = said(f"Node {self._name(node)} was lost: its processes have ended.")
                await self._bury(node, gone)
            try:
                agent = await self._cluster.revive(node)
                self._nodes[node] = await agent.describe()
            except TesraError as error:
                _log.warning("node %s: %s", self._name(node), error.detail)
            except Exception:  # noqa: BLE001 - an outer loop; tried again in a second
                _log.exception("node %s could not be revived", self._name(node))
            else:
                self._agents[node] = agent
                _log.info("node %s has an agent again", self._name(node))
                if self._lost.pop(node, None):
                    await self._offer_now()
                return
            if node not in self._lost and time.monotonic() - since > REVIVE_WITHIN_S:
                name = self._name(node)
                await self._bury(node, said(f"Node {name} was lost: it does not answer any more."))
            await asyncio.sleep(REVIVE_PAUSE_S)

    async def _bury(self, node: str, reason: Said) -> None:
        """First it is off the offer, so that what is lost on it is not placed there again."""
        _log.error("%s", reason)
        self._lost[node] = reason
        await self._offer_now()
        held = self._reports.get(node, {})
        verdict = Verdict("lost", reason=reason, at=time.time())
        for attempt, fence in self._listener.begun_on(node).items():
            part = held.get(attempt)
            if part is None or part.fence != fence:
                part = AttemptStatus(attempt, fence, Stage.PREPARING, said("preparing"))
            if part.stage is not Stage.ENDED:
                part = replace(part, stage=Stage.ENDED, phase=Said("ended"), verdict=verdict)
                self._buried.setdefault(node, {})[attempt] = part
        self._reports[node] = held | self._buried.get(node, {})
        self._listener.on_attempts()
        self._listener.on_report(node)

    async def _offer_now(self) -> None:
        if self._closed:
            return
        if self._offering is not None:
            self._offering.cancel()
        self._offering = asyncio.create_task(self._offer(self.nodes))
        await asyncio.wait({self._offering}, timeout=WITHDRAW_S)

    def _note(self, node: str, report: AgentReport) -> None:
        before = self._reports.get(node, {})
        told = {status.attempt: status for status in report.attempts}
        self._reports[node] = told | self._buried.get(node, {})
        if before.keys() != self._reports[node].keys():
            self._listener.on_attempts()
        if report.engines != self._engines.get(node, ()):
            self._engines[node] = report.engines
            self._listener.on_engines(node, report.engines)
        self._listener.on_report(node)

    def _name(self, node: str) -> str:
        return self._nodes[node].name if node in self._nodes else node
