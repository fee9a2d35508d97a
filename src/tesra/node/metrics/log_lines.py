"""Metrics from the lines that a training prints, in order of one rank's log. Pure.

A line's step is its own, or the last one, or its epoch; it only grows: where a count begins anew
in each epoch, what came before is added. What a progress bar shows is told while it moves at most
every ``BAR_EVERY_S``, and when it is full.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tesra.node.metrics.line_patterns import (
    Bar,
    Count,
    find_bar,
    find_epoch,
    find_step,
    find_values,
)
from tesra.node.metrics.points import Point, Value, clean_name, clean_step, clean_value

BAR_EVERY_S = 2.0
COUNTS = frozenset(("epoch", "epochs", "step", "steps"))
_LONGEST_LINE = 4000
_MOST_NAMES = 4000
_UNCOUNTED = 2**62
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9])|\x08|\r")
_NUMBER = re.compile(r"\d|nan|inf", re.IGNORECASE)
_OTHER_TEXT = re.compile(r'^\s*(?:File "|Namespace\(|usage:|\$ |>>> |\+ )|[│┃].*[│┃]')
_TRACEBACK = "Traceback (most recent call last)"
_TRAINING = re.compile(r"epoch|train|step|iter", re.IGNORECASE)


@dataclass(slots=True)
class _Place:
    """How far the training has come, as its lines have told."""

    epoch: float | None = None
    epochs: int | None = None
    first_epoch: float = 1.0
    step: int | None = None  # the last one, over all epochs
    added: int = 0
    told: int | None = None  # the last one, as it stood there
    total: int | None = None
    new_epoch: bool = False  # since the last step


class LineReader:
    """One rank's log; lines are given in order, of a progress bar only its states worth telling."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._place = _Place()
        self._steps_of: dict[str, int] = {}
        self._in_traceback = False
        self._bar_at = float("-inf")
        self._fits = 0  # bars of Keras since its last line "Epoch 3/10"
        self._trainer = False  # lines of Hugging Face's Trainer, which shows a bare bar

    def read(self, line: str, t: float) -> Point | None:
        """The point of a line, if it has one. Never raises."""
        line = _ESCAPES.sub("", line).rstrip() if not line.isprintable() else line.rstrip()
        if self._is_other_text(line):
            return None
        bar = find_bar(line)
        if bar is not None:
            return self._read_bar(bar, t)
        epoch, step = find_epoch(line), find_step(line)
        marked = epoch is not None or step is not None
        values = _clean(find_values(line, marked=marked))
        if epoch is not None and not values:
            self._fits = 0
        self._trainer |= epoch is not None and line.startswith("{") and bool(values)
        if not values and not (epoch and epoch.of) and not (step and step.of):
            return None
        self._advance(epoch, step)
        return self._point(t, epoch, step, values)

    def _read_bar(self, bar: Bar, t: float) -> Point | None:
        epoch = find_epoch(bar.text)
        step = bar.count
        values = _clean(find_values(bar.text, marked=bar.keras or epoch is not None))
        if not self._tells(bar, epoch, values):
            return None
        if not bar.full and t - self._bar_at < BAR_EVERY_S:
            return None
        self._bar_at = t
        if bar.keras and bar.full:
            self._fits += 1
        self._advance(epoch, step)
        return self._point(t, epoch, step, values)

    def _tells(self, bar: Bar, epoch: Count | None, values: dict[str, Value]) -> bool:
        """Whether it is a training's bar: not a download's, nor that of an evaluation."""
        if bar.keras:
            return bool(values) and self._place.epoch is not None and self._fits == 0
        if values or epoch or _TRAINING.search(bar.text):
            return True
        steps = bar.count.of or 0
        return self._trainer and not bar.text.strip() and steps >= (self._place.total or 0)

    def _is_other_text(self, line: str) -> bool:
        """Nothing to see: no number, or a traceback, a table, a command."""
        if self._in_traceback:
            self._in_traceback = line.startswith((" ", "\t")) or not line
            return True
        if line.startswith(_TRACEBACK) or line.endswith(_TRACEBACK + ":"):
            self._in_traceback = True
            return True
        if len(line) > _LONGEST_LINE or not _NUMBER.search(line):
            return True
        return bool(_OTHER_TEXT.search(line))

    def _advance(self, epoch: Count | None, step: Count | None) -> None:
        place = self._place
        anew = epoch is not None and place.epoch is not None and epoch.at < place.epoch
        if epoch is not None:
            if place.epoch is None or anew:
                place.first_epoch = min(1.0, epoch.at)
            place.new_epoch |= epoch.at != place.epoch
            place.epoch, place.epochs = epoch.at, epoch.of or place.epochs
        if step is None:
            return
        at = int(step.at)
        if place.told is not None and at < place.told + place.new_epoch:
            place.added += place.total or (place.told + (at == 0))
        place.told, place.total, place.new_epoch = at, step.of, False
        place.step = place.added + at

    def _point(
        self, t: float, epoch: Count | None, step: Count | None, values: dict[str, Value]
    ) -> Point | None:
        place = self._place
        if epoch is not None:
            values["epoch"] = _whole(epoch.at)
            if epoch.of:
                values["epochs"] = epoch.of
        if step is not None and place.step is not None:
            values["step"] = place.step
            if step.of:
                values["steps"] = self._all_steps(step.of)
        at = place.step
        if at is None and epoch is not None and epoch.at.is_integer():
            at = int(epoch.at)
        return Point(self._rank, "lines", t, self._grown(clean_step(at), values), values)

    def _all_steps(self, of: int) -> int:
        """Of the whole training, as far as is known: a count that began anew is one epoch's."""
        place = self._place
        if place.epochs and (place.added or (place.epoch or 0) <= place.first_epoch):
            return of * place.epochs
        return max(of, place.step or 0)

    def _grown(self, step: int | None, values: dict[str, Value]) -> int | None:
        """The step; ``None`` from there on where a name has had it: no value may replace another."""
        names = [name for name in values if name not in COUNTS] or list(values)
        if step is not None and any(self._steps_of.get(name, step - 1) >= step for name in names):
            step = None
        if len(self._steps_of) < _MOST_NAMES:
            self._steps_of.update(dict.fromkeys(names, _UNCOUNTED if step is None else step))
        return step


def _clean(found: Iterable[tuple[str, float]]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, number in found:
        known, value = clean_name(name), clean_value(number)
        if known and value is not None:
            values.setdefault(known, _whole(value) if isinstance(value, float) else value)
    return values


def _whole(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
