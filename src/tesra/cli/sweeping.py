"""A sweep as people see it: a table while it goes, ranks and a history afterwards."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from tesra.cli import words
from tesra.cli.arguments import ArgumentInvalid
from tesra.cli.charts import Curve, chart
from tesra.cli.context import Session
from tesra.cli.metric_views import canvas
from tesra.cli.output import is_terminal
from tesra.cli.watching import INTERRUPTED
from tesra.kit.errors import Unavailable
from tesra.wire.goals import mode_of

if TYPE_CHECKING:
    from tesra.wire.sweeps import Sweep, Trial

POLL_S = 1.0
LIVE_ROWS = 15
CHART_HEIGHT = 9
NUMBERS = ("Rank", "Trial", "Value", "Step", "T·H", "CNY")
OVER = frozenset({"finished", "stopped", "failed"})
_ORDER = ("completed", "running", "pruned", "stopped", "failed")


def record(sweep: "Sweep") -> dict[str, Any]:
    """The sweep's JSON: the wire's own keys, and its id as ``sweep`` too."""
    return {"sweep": sweep.id, **sweep.model_dump(mode="json")}


def ranked(trials: Sequence["Trial"], sweep: "Sweep") -> list["Trial"]:
    """The best first; then what runs, what was ended early, and what failed."""

    def key(trial: "Trial") -> tuple[int, float, int]:
        value = float("inf") if trial.value is None else trial.value
        best_first = value if sweep.mode == "min" or trial.value is None else -value
        return _ORDER.index(trial.state), best_first, trial.number

    return sorted(trials, key=key)


def headers(sweep: "Sweep") -> list[str]:
    return ["Rank", "Trial", "State", *sweep.space, sweep.metric, *NUMBERS[3:], "Run"]


def trial_row(sweep: "Sweep", trial: "Trial") -> list[str]:
    """As ``headers`` has it."""
    waits = trial.state == "running" and trial.run_state != "running"
    return [
        "-" if trial.rank is None else str(trial.rank),
        str(trial.number),
        trial.run_state if waits else trial.state,
        *(value(trial.params.get(name)) for name in sweep.space),
        value(trial.value),
        "-" if trial.step is None else str(trial.step),
        trial.th,
        trial.cost_cny,
        trial.run,
    ]


def row_of(sweep: "Sweep") -> list[str]:
    """A line in the list of sweeps."""
    return [
        sweep.id,
        sweep.project_name,
        sweep.state,
        f"{_begun(sweep)}/{sweep.trials}",
        f"{sweep.metric}:{sweep.mode}",
        value(sweep.best.value if sweep.best else None),
        sweep.amount_cny,
        words.moment(sweep.created_at),
    ]


def facts(sweep: "Sweep") -> list[tuple[str, str]]:
    counts = [f"{count} {state}" for state, count in sweep.counts.items() if count]
    cap = f", at most CNY {sweep.max_cost_cny}" if sweep.max_cost_cny else ""
    optional = [
        ("Why", sweep.reason or ""),
        ("Fixed", ", ".join(f"{name}={value(one)}" for name, one in sweep.params.items())),
        ("Best", _best(sweep)),
        ("Note", " ".join(sweep.notes)),
    ]
    return [
        ("Sweep", sweep.id),
        ("Project", sweep.project_name),
        ("State", sweep.state),
        ("Searched", ", ".join(f"{name}={text}" for name, text in sweep.space.items())),
        ("Metric", f"{sweep.metric}, {sweep.mode} of each trial's {sweep.objective} value"),
        ("How", f"{sweep.algorithm}, {sweep.parallel} at a time, seed {sweep.seed}"),
        ("Trials", f"{_begun(sweep)} of {sweep.trials} ({', '.join(counts) or 'none yet'})"),
        *((name, words.gist(text)) for name, text in optional if text),
        ("Used", f"{sweep.th} T·H{cap}"),
        ("Bill", f"{sweep.bill or 'none'} ({words.money(sweep.amount_cny)})"),
    ]


def draw_history(session: Session, sweep: "Sweep", trials: Sequence["Trial"]) -> None:
    """How the best value came down (or up) over the trials; nothing for fewer than two."""
    points = best_so_far(sweep, trials)
    if len(points) < 2:
        return
    curve = Curve("", [number for number, _ in points], [best for _, best in points])
    title = f"{sweep.metric}: the best so far, by trial"
    session.out.say(chart(title, [curve], canvas=canvas(CHART_HEIGHT)))


def best_so_far(sweep: "Sweep", trials: Sequence["Trial"]) -> list[tuple[int, float]]:
    """The number of each completed trial and the best value up to it."""
    best: float | None = None
    found = []
    for trial in sorted(trials, key=lambda one: one.number):
        if trial.state != "completed" or trial.value is None:
            continue
        better = min if sweep.mode == "min" else max
        best = trial.value if best is None else better(best, trial.value)
        found.append((trial.number, best))
    return found


def watch(session: Session, sweep: "Sweep") -> None:
    """Show it until it is over; exit with 1 unless it finished. Ctrl-C leaves it running."""
    moving = is_terminal(sys.stdout) and not session.out.as_json
    try:
        ended = _live(session, sweep) if moving else _lines(session, sweep)
    except KeyboardInterrupt:
        session.out.aside(f"tesra: You stopped watching; {sweep.id} goes on.")
        session.out.aside(
            f"tesra: Watch it: tesra sweep watch {sweep.id} | Stop it: tesra sweep stop {sweep.id}"
        )
        raise typer.Exit(INTERRUPTED) from None
    for line in _summary(ended):
        session.out.aside(f"tesra: {line}")
    if session.out.as_json:
        session.out.json(record(ended), one_line=True)
    if ended.state != "finished":
        raise typer.Exit(1)


def value(one: Any) -> str:
    """A number with the digits that matter."""
    if one is None:
        return "-"
    return f"{one:.6g}" if isinstance(one, float) else str(one)


def _states(session: Session, sweep: "Sweep") -> Iterator[tuple["Sweep", list["Trial"]]]:
    """The sweep and its trials, again and again until it is over."""
    told = False
    while True:
        try:
            found = session.client.show_sweep(sweep.id)
            yield found, session.client.trials(sweep.id)
        except Unavailable as trouble:
            if not told:
                why = words.one_line(trouble.detail)
                session.out.aside(f"tesra: connection lost, trying again ({why})")
            told = True
        else:
            told = False
            if found.state in OVER:
                return
        time.sleep(POLL_S)


def _lines(session: Session, sweep: "Sweep") -> "Sweep":
    """A line for each trial that ends."""
    told: set[int] = set()
    waits = None
    found = sweep
    for found, trials in _states(session, sweep):
        for trial in trials:
            if trial.state != "running" and trial.number not in told:
                told.add(trial.number)
                session.out.aside(f"tesra: {_said(found, trial)}")
        if found.reason != waits and found.state == "running" and found.reason:
            session.out.aside(f"tesra: {words.one_line(found.reason)}")
        waits = found.reason
    return found


def _live(session: Session, sweep: "Sweep") -> "Sweep":
    """A table that moves."""
    from tesra.cli.pretty import moving_table  # rich: only a terminal needs it

    found = sweep
    with moving_table() as draw:
        for found, trials in _states(session, sweep):
            shown = ranked(trials, found)
            best, rest = shown[:LIVE_ROWS], len(shown) - LIVE_ROWS
            more = f", {rest} more not shown" if rest > 0 else ""
            over = sum(count for state, count in found.counts.items() if state != "running")
            reason = f" ({words.gist(found.reason)})" if found.reason else ""
            caption = (
                f"{found.state}{reason}: {over} of {found.trials} trials{more},"
                f" {found.th} T·H, CNY {found.amount_cny}"
            )
            rows = [trial_row(found, one)[:-1] for one in best]  # the run's id is too wide here
            draw(headers(found)[:-1], rows, NUMBERS, caption)
    return found


def _said(sweep: "Sweep", trial: "Trial") -> str:
    params = ", ".join(f"{name}={value(one)}" for name, one in trial.params.items())
    if trial.state == "completed":
        best = ", the best so far" if trial.rank == 1 else ""
        return f"trial {trial.number} ({params}): {sweep.metric} {value(trial.value)}{best}"
    return f"trial {trial.number} ({params}) {trial.state}: {words.gist(trial.reason or '')}"


def _summary(sweep: "Sweep") -> list[str]:
    why = f": {words.gist(sweep.reason)}" if sweep.reason else ""
    lines = [
        f"{sweep.id} {sweep.state}{why}",
        f"{_begun(sweep)} trials, {sweep.th} T·H, {words.money(sweep.amount_cny)}",
    ]
    following = [f"tesra sweep show {sweep.id}"]
    if sweep.best is not None:
        lines.append(f"best: {_best(sweep)}")
        if sweep.best.output:
            following.append(f"tesra download {sweep.best.run}")
    if sweep.bill:
        following.append(f"tesra bill {sweep.bill}")
    return [*lines, "next: " + " | ".join(following)]


def _best(sweep: "Sweep") -> str:
    if sweep.best is None:
        return ""
    best = sweep.best
    params = ", ".join(f"{name}={value(one)}" for name, one in best.params.items())
    step = "" if best.step is None else f" at step {best.step}"
    return f"{sweep.metric} {value(best.value)}{step}, trial {best.number} ({params}), {best.run}"


def _begun(sweep: "Sweep") -> int:
    return sum(sweep.counts.values())


def metric_of(text: str) -> tuple[str, str | None]:
    """``val_loss:min``: the name and its direction; a name may have colons itself."""
    name, colon, mode = text.rpartition(":")
    if colon and mode in {"min", "max"}:
        return name, mode
    if name and mode_of(name) is not None and mode_of(mode) is None:
        raise ArgumentInvalid(
            f"--metric {text}: '{mode}' is neither min nor max.",
            way_out=f"Write --metric {name}:min or --metric {name}:max.",
        )
    return text, None
