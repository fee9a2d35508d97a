"""What ``tesra metrics`` shows: a table of all names, charts of some, the use of devices."""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tesra.cli import words
from tesra.cli.charts import Canvas, Curve, chart, fitted, sparkline
from tesra.cli.output import is_terminal
from tesra.wire.metric_names import better, telling

if TYPE_CHECKING:
    from tesra.cli.context import Session
    from tesra.wire.metrics import MetricHistory, MetricName, Metrics, MetricSeries
    from tesra.wire.training import Run

ROWS = 40  # of the table; the rest by name or with --json
CHARTS = 2  # below it
_TALL, _LOW = 13, 9
_LONGEST_NAME = 48
NOTHING = """\
No metrics yet. These are captured without a change to the script: TensorBoard event files in the
output folder, MLflow (its autolog too), and printed lines such as `epoch 3 loss 0.12 acc 91%`.
Or log your own: import tesra; tesra.log({"loss": loss}, step=step)"""
_UNITS = {"use": ("use, %", 100.0), "memory_bytes": ("memory, GiB", 2.0**-30)}
_POWER = ("power, W", 1.0)


def canvas(height: int = _TALL) -> Canvas:
    """As wide as the terminal, at most 120; 80 in a pipe. NO_COLOR is heard."""
    on_terminal = is_terminal(sys.stdout)
    width = min(120, shutil.get_terminal_size((80, 24)).columns)
    return Canvas(width, height, colour=on_terminal and not os.environ.get("NO_COLOR"))


def overview(
    session: "Session", run: "Run", found: "Metrics", rank: int | None, *, clear: str = ""
) -> None:
    """All names in a table, and charts of the most telling; ``clear`` goes before all that."""
    names = {one.name: one for one in found.names}
    if not names:
        sys.stdout.write(clear)
        session.out.say(NOTHING if not found.skipped else f"{NOTHING}\n{_skipped(found.skipped)}")
        return
    order = telling(names)
    shown = [names[name] for name in order[:ROWS]]
    history = session.client.metric_history(
        run.id, *(one.name for one in shown), rank=rank, points=100
    )
    wanted = [name for name in order if better(name) is not None][:CHARTS] or order[:1]
    some = session.client.metric_history(run.id, *wanted, rank=rank)
    sys.stdout.write(clear)
    courses = {one.name: sparkline(one.values) for one in history.series}
    session.out.table(
        ["Metric", "Last", "Lowest", "Highest", "Best step", "Points", "Course"],
        [_row(one, courses.get(one.name, "")) for one in shown],
        right=["Last", "Lowest", "Highest", "Best step", "Points"],
    )
    if len(order) > ROWS:
        session.out.say(f"and {words.plural(len(order) - ROWS, 'more name')}: --json lists all")
    told = [f"{name}={words.gist(value)}" for name, value in found.params.items()]
    if told:
        session.out.say(fitted(f"Logged parameters: {', '.join(told)}", 400))
    for note in found.notes:
        session.out.say(f"note: {note}")
    if found.skipped:
        session.out.say(_skipped(found.skipped))
    session.out.say("\n" + charts(some, height=_LOW))


def charts(history: "MetricHistory", *, height: int = _TALL) -> str:
    """A chart for each metric, one below the other."""
    return "\n\n".join(_chart(one, history.x, height) for one in history.series)


def devices(history: "MetricHistory") -> str:
    """Use, memory and power, the devices of a run together in each."""
    kinds: dict[str, list[MetricSeries]] = {}
    for one in history.series:
        kinds.setdefault(one.name, []).append(one)
    return "\n\n".join(_device_chart(kinds[name], name) for name in sorted(kinds, reverse=True))


def news_line(values: Sequence[tuple[str, int, float | str]]) -> str:
    """``step 12  loss 0.1  acc 0.9``: what a pipe is told of what is new."""
    step = max((step for _, step, _ in values), default=0)
    told = [f"{name} {words.number(value)}" for name, _, value in values[:8]]
    more = f"  and {len(values) - 8} more" if len(values) > 8 else ""
    return f"step {step}  {'  '.join(told)}{more}"


def _row(one: "MetricName", course: str) -> list[str]:
    direction = better(one.name)
    best = {"min": one.low_step, "max": one.high_step, None: None}[direction]
    bad = f" ({one.nonfinite} not finite)" if one.nonfinite else ""
    return [
        fitted(one.name, _LONGEST_NAME),
        words.number(one.last),
        words.number(one.low),
        words.number(one.high),
        "-" if best is None else str(best),
        f"{one.points}{bad}",
        course,
    ]


def _chart(one: "MetricSeries", x: str, height: int) -> str:
    rank = f" (rank {one.rank})" if one.rank else ""
    xs, unit = _time(one.times) if x == "time" else (one.steps, "step")
    curve = Curve(one.name, xs, one.values)
    bad = f", {one.nonfinite} not finite" if one.nonfinite else ""
    return chart(f"{one.name}{rank} over {unit}{bad}", [curve], canvas=canvas(height))


def _device_chart(some: "Sequence[MetricSeries]", name: str) -> str:
    title, factor = _UNITS.get(name, _POWER)
    began = min((one.times[0] for one in some if one.times), default=0.0)
    unit, seconds = _unit(max((one.times[-1] for one in some if one.times), default=0.0) - began)
    curves = [
        Curve(
            _device_name(one),
            [(time - began) / seconds for time in one.times],
            [None if value is None else value * factor for value in one.values],
        )
        for one in some
    ]
    return chart(f"{title} over {unit}", curves, canvas=canvas(_LOW))


def _device_name(one: "MetricSeries") -> str:
    """As `tesra devices` and the run's record count them."""
    if one.index is None:
        return one.device or ""
    return f"device {one.index}" + (f" of {one.node}" if one.node else "")


def _time(times: Sequence[float]) -> tuple[list[float], str]:
    """Since the first of them, in a unit that suits."""
    if not times:
        return [], "seconds"
    unit, seconds = _unit(times[-1] - times[0])
    return [(time - times[0]) / seconds for time in times], unit


def _unit(span_s: float) -> tuple[str, float]:
    if span_s < 300:
        return "seconds", 1.0
    return ("minutes", 60.0) if span_s < 3 * 3600 else ("hours", 3600.0)


def _skipped(count: int) -> str:
    return f"note: {words.plural(count, 'part')} of its metrics could not be understood"
