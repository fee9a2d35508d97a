"""A run as its viewers see it: read once, encoded once, the same bytes for all.

Lines: a channel that is attached gets all behind ``cursor`` as it is at that moment, so who has
read up to there from the database misses none and gets none twice. State, tuning, metrics and
device use are told whole to who is attached, then as they change.
"""

import time
from dataclasses import dataclass
from typing import Any

from tesra.kit.ids import RunId, UserId
from tesra.training.log_reading import Span, is_last, newest_segment, read_log
from tesra.training.logs import Segment
from tesra.training.metrics.model import Latest, Line, moment
from tesra.web.context import Services
from tesra.web.live.channel import Channel
from tesra.web.live.events import end, event, event_of_json, log_events
from tesra.web.live.hubs import BEAT_S, Hub
from tesra.web.live.outbox import Event
from tesra.web.log_stream import TERMINAL
from tesra.wire.live import DeviceUse, LiveState
from tesra.wire.metric_names import said
from tesra.wire.metrics import MetricValue
from tesra.wire.tuning import Tuning

METRICS_EACH_S = 0.5
METRICS_SHARE = 10  # of the time that metrics take to read, it rests so often as long
DEVICE_FIELDS = frozenset(DeviceUse.model_fields) - {"device", "index", "node", "at"}


@dataclass(frozen=True, slots=True)
class _Due:
    """What has to be looked at."""

    facts: bool
    log: bool
    metrics: bool


class RunHub(Hub):
    """One run; whoever enters has been found to be its owner."""

    def __init__(self, services: Services, run: RunId, owner: UserId) -> None:
        super().__init__(services)
        self.topics = (f"run:{run}", f"metrics:{run}")
        self.cursor = 0  # all lines up to it are with the channels
        self._run, self._owner = run, owner
        self._begun_to_read = False
        self._shown: dict[str, Event] = {}
        self._metrics = _Metrics(services, run)
        self._facts_at = 0.0

    def attach(self, rank: int | None) -> Channel:
        """What is now, and from here on what comes; closed already if nothing will."""
        channel = Channel(rank=rank)
        for key in ("state", "tune", "metrics", "use", "end"):
            shown = self._shown.get(key)
            if shown is not None:
                channel.put(shown.whole() if shown.whole is not None else shown)
        if self.over:
            channel.close()
        self.channels.add(channel)
        return channel

    def patience_s(self) -> float:
        now = time.monotonic()
        waits = [BEAT_S - (now - self._facts_at)]
        if self._metrics.due:
            waits.append(self._metrics.next_at - now)
        return max(0.0, min(waits))

    async def look(self, news: list[dict[str, str | int]]) -> None:
        due = self._due(news)
        facts = await self._read_facts() if due.facts else None
        if not self._begun_to_read:
            async with self.services.database.begin() as tx:
                self.cursor = await newest_segment(tx, self._run)
            self._begun_to_read = True
        elif due.log:
            await self._read_lines()
        if due.metrics:
            for new in await self._metrics.read():
                self._tell(new)
        if facts is not None:
            self._tell_facts(*facts)

    def _due(self, news: list[dict[str, str | int]]) -> _Due:
        now = time.monotonic()
        is_time = now - self._facts_at >= BEAT_S
        everything = self.everything() or is_time or (not news and not self._metrics.due)
        facts = everything or any(not one for one in news)
        self._metrics.due |= everything or any("metrics" in one for one in news)
        last = facts and self._metrics.due
        return _Due(
            facts=facts,
            log=facts or any("log" in one for one in news),
            metrics=self._metrics.due and (last or now >= self._metrics.next_at),
        )

    async def _read_facts(self) -> tuple[LiveState, Tuning]:
        """The state is read before the lines: behind a terminal one there come no more."""
        self._facts_at = time.monotonic()
        async with self.services.database.begin() as tx:
            run = await self.services.training.run(tx, self._owner, self._run)
            forecast = await self.services.forecasts.of(tx, self._run)
            tuning = await self.services.tuning.show(tx, self._owner, self._run)
            checkpoint = await self.services.checkpoints.newest(tx, self._run)
        return LiveState.of(run, forecast, checkpoint=checkpoint), tuning

    async def _read_lines(self) -> None:
        while True:
            async with self.services.database.begin() as tx:
                segments = await read_log(tx, self._run, Span(self.cursor))
            if segments:
                self._tell_lines(segments)
            if is_last(segments):
                return

    def _tell_lines(self, segments: list[Segment]) -> None:
        by_rank: dict[int | None, list[Channel]] = {}
        for channel in self.channels:
            by_rank.setdefault(channel.rank, []).append(channel)
        for rank, channels in by_rank.items():
            for lines in log_events(segments, self.cursor, rank=rank):
                new = Event(lines.data, lines=lines.lines, after=lines.after, until=lines.until)
                for channel in channels:
                    channel.put(new)
        self.cursor = segments[-1].seq

    def _tell_facts(self, state: LiveState, tuning: Tuning) -> None:
        self._tell(Event(event_of_json("state", state.model_dump_json(by_alias=True)), "state"))
        self._tell(Event(event_of_json("tune", tuning.model_dump_json()), "tune"))
        if state.state in TERMINAL:
            self._tell(Event(end(state.state, self.cursor), "end"))
            self.over = self.finished = True

    def _tell(self, new: Event) -> None:
        """Once, as long as it stays the same."""
        shown = self._shown.get(new.key)
        if shown is not None and shown.data == new.data:
            return
        self._shown[new.key] = new
        for channel in self.channels:
            channel.put(new)


class _Metrics:
    """The newest values of a run; read not too often, and the longer it takes the less."""

    def __init__(self, services: Services, run: RunId) -> None:
        self.due = False
        self.next_at = 0.0
        self._services = services
        self._run = run
        self._cursor = 0
        self._values: dict[tuple[str, int], dict[str, Any]] = {}
        self._devices: dict[str, dict[str, Any]] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._names: dict[str, str] = {}

    async def read(self) -> list[Event]:
        """What has grown since the last time, as events that know how to tell all."""
        began, self.due = time.monotonic(), False
        async with self._services.database.begin() as tx:
            metrics, before = self._services.metrics, self._cursor
            self._cursor = await metrics.cursor(tx, self._run)
            if self._cursor == before:
                return []
            values = await metrics.latest(tx, self._run, after=before)
            lines = await metrics.device_lines(tx, self._run, after=before)
            if any(line.device not in self._places for line in lines):
                self._places = await metrics.device_places(tx, self._run)
                self._names = await self._services.compute.node_names(tx)
        now = time.monotonic()
        self.next_at = now + max(METRICS_EACH_S, METRICS_SHARE * (now - began))
        told = []
        if values:
            some = {(one.name, one.rank): _value(one) for one in values}
            self._values |= some
            told.append(Event(self._said(some), "metrics", whole=self._all_values))
        if lines:
            grown = {line.device for line in lines}
            for line in lines:
                self._note(line)
            told.append(Event(self._used(grown), "use", whole=self._all_use))
        return told

    def _note(self, line: Line) -> None:
        if line.name not in DEVICE_FIELDS:
            return
        node, index = self._places.get(line.device, ("", 0))
        known = self._devices.setdefault(line.device, {})
        known |= {"device": line.device, "index": index, "node": self._names.get(node, node)}
        known |= {"at": moment(line.last.time), line.name: line.last.value}

    def _all_values(self) -> Event:
        return Event(self._said(self._values), "metrics")

    def _all_use(self) -> Event:
        return Event(self._used(set(self._devices)), "use")

    def _said(self, values: dict[tuple[str, int], dict[str, Any]]) -> bytes:
        return event("metrics", {"cursor": self._cursor, "values": list(values.values())})

    def _used(self, devices: set[str]) -> bytes:
        shown = [
            DeviceUse(**known).model_dump(mode="json", exclude_none=True)
            for device, known in sorted(self._devices.items())
            if device in devices
        ]
        return event("use", {"devices": shown})


def _value(latest: Latest) -> dict[str, Any]:
    value = MetricValue(
        name=latest.name,
        rank=latest.rank,
        step=latest.step,
        value=said(latest.value),
        at=latest.at,
    )
    return value.model_dump(mode="json")
