"""The searches of MLflow, as far as scripts use them: conditions joined by AND, and one order. Pure."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from tesra.node.metrics.tracking_state import TrackedRun, TrackingError

_CONDITION = re.compile(
    r"\s*(?:(?P<kind>\w+)\.)?(?:`(?P<ticked>[^`]+)`|\"(?P<quoted>[^\"]+)\"|(?P<key>[\w./-]+))"
    r"\s*(?P<mark>!=|>=|<=|=|>|<|\bI?LIKE\b|\bIN\b)\s*"
    r"(?P<value>'[^']*'|\"[^\"]*\"|\([^)]*\)|[-+.\w]+)\s*",
    re.IGNORECASE,
)
_AND = re.compile(r"\s*AND\s+", re.IGNORECASE)
_ORDER = re.compile(
    r"^\s*(?:(?P<kind>\w+)\.)?(?:`(?P<ticked>[^`]+)`|\"(?P<quoted>[^\"]+)\"|(?P<key>[\w./-]+))"
    r"(?:\s+(?P<way>ASC|DESC))?\s*$",
    re.IGNORECASE,
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda have, want: bool(have == want),
    "!=": lambda have, want: bool(have != want),
    ">": lambda have, want: bool(have > want),
    ">=": lambda have, want: bool(have >= want),
    "<": lambda have, want: bool(have < want),
    "<=": lambda have, want: bool(have <= want),
}


def matching(runs: Sequence[TrackedRun], wanted: str, order: Sequence[str]) -> list[TrackedRun]:
    """The runs that a filter lets through, in the order asked for (default: the newest first)."""
    conditions = _conditions(wanted)
    found = [run for run in runs if all(holds(run) for holds in conditions)]
    found.sort(key=lambda run: -run.started_ms)
    for one in reversed(order):
        match = _ORDER.match(one)
        if match is None:
            raise _not_understood("order_by", one)
        down = (match["way"] or "asc").lower() == "desc"
        known = [(value_of(run, match), run) for run in found]
        there = [(value, run) for value, run in known if value is not None]
        there.sort(key=lambda pair: pair[0], reverse=down)
        found = [run for _value, run in there] + [run for value, run in known if value is None]
    return found


def _conditions(wanted: str) -> list[Callable[[TrackedRun], bool]]:
    conditions: list[Callable[[TrackedRun], bool]] = []
    rest = wanted.strip()
    while rest:
        match = _CONDITION.match(rest)
        if match is None:
            raise _not_understood("filter", wanted)
        conditions.append(_condition(match))
        rest = rest[match.end() :]
        if rest:
            joined = _AND.match(rest)
            if joined is None:
                raise _not_understood("filter", wanted)
            rest = rest[joined.end() :]
    return conditions


def _condition(match: re.Match[str]) -> Callable[[TrackedRun], bool]:
    mark, stated = match["mark"].upper(), match["value"]
    if mark == "IN":
        wanted = {part.strip().strip("'\"") for part in stated.strip("()").split(",")}
        return lambda run: value_of(run, match) in wanted
    value = stated.strip("'\"")
    if mark in ("LIKE", "ILIKE"):
        pattern = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in value)
        like = re.compile(pattern, re.IGNORECASE | re.DOTALL if mark == "ILIKE" else re.DOTALL)
        return lambda run: like.fullmatch(str(value_of(run, match) or "")) is not None

    def holds(run: TrackedRun) -> bool:
        have = value_of(run, match)
        if have is None:
            return False
        try:
            return _COMPARE[mark](have, value if isinstance(have, str) else float(value))
        except (TypeError, ValueError):
            return False

    return holds


def value_of(run: TrackedRun, match: re.Match[str]) -> str | float | None:
    """What a run has for ``metrics.x``, ``params.x``, ``tags.x`` or an attribute."""
    kind = (match["kind"] or "attributes").lower()
    key = match["ticked"] or match["quoted"] or match["key"]
    if kind.startswith("metric"):
        found = run.latest.get(key)
        return found.value if found else None
    if kind.startswith("param"):
        return run.parameters.kept.get(key)
    if kind.startswith("tag"):
        return run.tags.kept.get(key)
    if not kind.startswith(("attr", "run")):
        raise _not_understood("search", f"{kind}.{key}")
    known = run.info().get({"created": "start_time", "Created": "start_time"}.get(key, key))
    return known if isinstance(known, str | int | float) else None


def _not_understood(what: str, stated: str) -> TrackingError:
    return TrackingError(
        "INVALID_PARAMETER_VALUE",
        f"Tesra's MLflow endpoint does not understand this {what}: {stated!r}. It knows comparisons"
        " of metrics, params, tags and attributes, joined by AND.",
    )
