"""What may be changed of a run while it goes on, and to what. Pure.

A change belongs to the attempt that it was asked for. It is made live by that attempt's ranks, or
stands at the start of an attempt; a later attempt starts with all that was asked for before it,
except what was withdrawn, has failed, or was rolled back.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from tesra.kit.errors import Conflict, Invalid, NotFound
from tesra.kit.saying import said
from tesra.wire.parameters import ParameterRange

Value = str | int | float | bool


class ChangeState(StrEnum):
    """How far a change is."""

    WAITING = "waiting"
    APPLIED = "applied"
    WITHDRAWN = "withdrawn"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"

    @property
    def in_force(self) -> bool:
        """Whether an attempt that starts later has it."""
        return self in (ChangeState.WAITING, ChangeState.APPLIED)


class ParameterUnknown(NotFound):
    """This run has no such parameter to change."""


class ValueRefused(Invalid):
    """A parameter can't have this value."""


class NothingToChange(Conflict):
    """There is no such change."""


class NoCheckpointBefore(Conflict):
    """No checkpoint of the run was stored before this change."""


class RunOver(Conflict):
    """The run has ended: nothing of it can be changed any more."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One that may be changed; the kind is its start value's."""

    name: str
    start: Value
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] | None = None
    origin: str = "run"
    where: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return type(self.start).__name__


@dataclass(frozen=True, slots=True)
class Change:
    """The part of a change that decides what holds. ``at_start``: of its attempt."""

    seq: int
    values: Mapping[str, Value]
    state: ChangeState
    attempt: int
    at_start: bool = False


def declared(
    params: Mapping[str, Value],
    ranges: Mapping[str, Mapping[str, Any]],
    found: Iterable[Mapping[str, Any]],
    readers: Iterable[str],
) -> dict[str, Parameter]:
    """What can be changed: the run's own parameters, and those that its ranks have named."""
    everywhere = tuple(readers)
    parameters = {
        name: Parameter(name, value, where=everywhere, **_range(ranges.get(name, {})))
        for name, value in params.items()
    }
    for facts in found:
        known = parameters.get(_spelling(facts["name"], parameters))
        where = (*facts["where"], *everywhere)
        if known is None and facts.get("value") is not None:
            parameters[facts["name"]] = Parameter(
                facts["name"],
                facts["value"],
                origin=facts["origin"],
                where=where,
                **_range(facts),
            )
        elif known is not None:
            unbound = known.low is None and known.high is None and known.choices is None
            bounds = _range(facts) if unbound else {}
            parameters[known.name] = replace(known, where=where, **bounds)
    return parameters


def _spelling(name: str, parameters: Mapping[str, Parameter]) -> str:
    return name if name in parameters else name.replace("_", "-")


def _range(facts: Mapping[str, Any]) -> dict[str, Any]:
    choices = facts.get("choices")
    return {
        "low": facts.get("low"),
        "high": facts.get("high"),
        "choices": None if choices is None else tuple(choices),
    }


def checked(parameters: Mapping[str, Parameter], values: Mapping[str, Value]) -> dict[str, Value]:
    """The values as their parameters' kinds have them; raises ``ParameterUnknown``, ``ValueRefused``."""
    for name in values:
        if name not in parameters:
            offer = ", ".join(sorted(parameters)) or "nothing"
            raise ParameterUnknown(
                f"This run has no parameter '{name}' to change.",
                way_out=f"What can be changed: {offer}. A parameter is declared with --param when"
                " the run is started, or in the script with tesra.params.declare.",
            )
    return {name: checked_value(parameters[name], value) for name, value in values.items()}


def checked_value(parameter: Parameter, value: Value) -> Value:
    """The value as the parameter's kind has it; raises ``ValueRefused``."""
    fitting = _fitting(parameter.kind, value)
    name = parameter.name
    if fitting is None:
        raise ValueRefused(
            f"{name} takes {_KINDS[parameter.kind]}, not {value!r}.",
            way_out=f"It was {parameter.start!r} at the start.",
        )
    if isinstance(fitting, float) and not math.isfinite(fitting):
        raise ValueRefused(f"{name} takes a finite number, not {fitting}.")
    if parameter.choices is not None and fitting not in parameter.choices:
        offer = ", ".join(map(str, parameter.choices))
        raise ValueRefused(f"{name} can't be {fitting!r}.", way_out=f"It may be: {offer}.")
    if not _within(parameter, fitting):
        raise ValueRefused(
            f"{name}={fitting} is out of its range {range_words(parameter)}.",
            way_out="The range was declared with the run or by its script.",
        )
    return fitting


_KINDS = {
    "int": said("a whole number"),
    "float": said("a number"),
    "bool": said("true or false"),
    "str": said("a text"),
}


def _fitting(kind: str, value: Value) -> Value | None:
    if kind == "bool" or isinstance(value, bool):
        return value if kind == "bool" and isinstance(value, bool) else None
    if kind == "str" or isinstance(value, str):
        return value if kind == "str" and isinstance(value, str) else None
    if kind == "float":
        return float(value)
    return int(value) if float(value).is_integer() else None


def _within(parameter: Parameter, value: Value) -> bool:
    if isinstance(value, (str, bool)):
        return True
    low, high = parameter.low, parameter.high
    return (low is None or value >= low) and (high is None or value <= high)


def range_words(parameter: Parameter) -> str:
    """``1e-05..0.1``; an end that is open is left out."""
    ends = ("" if end is None else f"{end:g}" for end in (parameter.low, parameter.high))
    return "..".join(ends)


def check_ranges(params: Mapping[str, Value], ranges: Mapping[str, ParameterRange]) -> None:
    """Refuse a range for what is no parameter, and a start value that is out of its own range."""
    for name, bounds in ranges.items():
        if name not in params:
            raise ParameterUnknown(
                f"There is a range for '{name}', which is no parameter of this run.",
                way_out=f"Declare it too: --param {name}=VALUE.",
            )
        parameter = Parameter(name, params[name], **_range(bounds.model_dump()))
        bounded = parameter.low is not None or parameter.high is not None
        if bounded and parameter.kind not in ("int", "float"):
            raise ValueRefused(
                f"'{name}' is {_KINDS[parameter.kind]}, so it has no bounds.",
                way_out=f"Say what it may be: --choices {name}=A,B.",
            )
        checked_value(parameter, params[name])


def start_values(
    params: Mapping[str, Value], changes: Iterable[Change], attempt: int
) -> dict[str, Value]:
    """The parameters that an attempt starts with, of those that the run has declared."""
    values = dict(params)
    for change in changes:
        if change.state.in_force and at_start_of(change, attempt):
            values |= {name: value for name, value in change.values.items() if name in params}
    return values


def at_start_of(change: Change, attempt: int) -> bool:
    """Whether the attempt begins with the change, rather than make it while it runs."""
    return change.attempt < attempt or (change.attempt == attempt and change.at_start)


@dataclass(frozen=True, slots=True)
class Start:
    """How an attempt begins: with ``params``, from a checkpoint finished at ``since`` or from scratch.

    ``optimisers``: parameters that only an optimiser has, which a checkpoint restores with it.
    """

    attempt: int
    params: frozenset[str]
    since: datetime | None = None
    optimisers: frozenset[str] = frozenset()

    def brings(self, values: Iterable[str]) -> bool:
        """Whether a start brings these values about: a checkpoint may restore older ones."""
        return self.since is None and self.params.issuperset(values)


def made_again(start: Start, changes: Iterable[tuple[Change, datetime | None]]) -> dict[str, Value]:
    """Values in force that this start does not bring about, of changes and when they were settled.

    What is no parameter of the run is unknown to a start from scratch. A checkpoint brings back
    optimisers as they were, with what was changed before it and without what was changed later.
    """
    again: dict[str, Value] = {}
    for change, settled_at in changes:
        if change.state is not ChangeState.APPLIED or change.attempt >= start.attempt:
            continue
        for name, value in change.values.items():
            if _missing(start, name, settled_at):
                again[name] = value
            else:
                again.pop(name, None)
    return again


def _missing(start: Start, name: str, settled_at: datetime | None) -> bool:
    if start.since is None:
        return name not in start.params
    newer = settled_at is not None and settled_at > start.since
    return newer or name not in start.params | start.optimisers


def live_orders(changes: Iterable[Change], attempt: int) -> list[Change]:
    """What the attempt's ranks are to make, the oldest first."""
    return [
        change
        for change in changes
        if change.state is ChangeState.WAITING and change.attempt == attempt and not change.at_start
    ]


def values_now(parameters: Iterable[Parameter], changes: Iterable[Change]) -> dict[str, Value]:
    """What holds now: the start, and every change that was made."""
    values = {parameter.name: parameter.start for parameter in parameters}
    for change in changes:
        if change.state is ChangeState.APPLIED:
            values |= {name: value for name, value in change.values.items() if name in values}
    return values
