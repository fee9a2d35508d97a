"""Whether a sweep can be, and what it is when something is left out. Pure."""

from collections.abc import Mapping
from typing import Any

from tesra.kit.errors import Invalid
from tesra.training.sweeps.model import MAX_PARALLEL, MAX_TRIALS
from tesra.wire.goals import Mode, mode_of
from tesra.wire.space import Choice, grid_size, parse_space
from tesra.wire.sweeps import SweepRequest


class SweepInvalid(Invalid):
    """This sweep can't be."""


def check_numbers(trials: int, parallel: int) -> None:
    """Refuse numbers that make no sense."""
    if not 1 <= trials <= MAX_TRIALS:
        raise SweepInvalid(
            f"A sweep has from 1 to {MAX_TRIALS} trials, not {trials}.",
            way_out="Use --trials 20, say.",
        )
    if not 1 <= parallel <= MAX_PARALLEL:
        raise SweepInvalid(
            f"From 1 to {MAX_PARALLEL} trials run at a time, not {parallel}.",
            way_out="Use --parallel 4, say.",
        )


def mode_for(request: SweepRequest) -> Mode:
    """Whether less or more is better: as asked, else as the metric's name says."""
    mode = request.mode or mode_of(request.metric)
    if mode is None:
        raise SweepInvalid(
            f"Whether less or more of '{request.metric}' is better is not clear from its name.",
            way_out=f"Say --metric {request.metric}:min or --metric {request.metric}:max.",
        )
    return mode


def check_space(request: SweepRequest) -> None:
    """Refuse a space with nothing to search, or a grid that has no end."""
    space = parse_space(request.space)
    both = sorted(set(request.run.params) & set(space))
    if both:
        raise SweepInvalid(f"{both[0]} is both fixed and searched.", way_out="Give it once.")
    if all(isinstance(one, Choice) and len(one.options) == 1 for one in space.values()):
        raise SweepInvalid(
            "No parameter has more than one value: all trials would be the same.",
            way_out="Give at least one range, such as --param lr='loguniform(1e-5,1e-1)'.",
        )
    if request.algorithm == "grid":
        size = grid_size(space)
        if size > MAX_TRIALS:
            raise SweepInvalid(
                f"The grid has {size} points; a sweep has at most {MAX_TRIALS} trials.",
                way_out="Take fewer values or larger steps, or --algorithm random.",
            )


def wanted(request: SweepRequest) -> int:
    """The trials in all: a grid has no more than its points."""
    if request.algorithm != "grid":
        return request.trials
    return min(request.trials, grid_size(parse_space(request.space)))


def check_more(spec: Mapping[str, Any], done: int, more: int) -> None:
    """Refuse to go on with more trials than there may be."""
    check_numbers(more, 1)
    check_numbers(done + more, 1)
    if spec["algorithm"] == "grid":
        left = grid_size(parse_space(spec["space"])) - done
        if more > left:
            raise SweepInvalid(
                f"The grid has {left} points left.",
                way_out=f"Ask for --trials {left}." if left else "Begin another sweep.",
            )
