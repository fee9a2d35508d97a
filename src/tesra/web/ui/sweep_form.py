"""The form of a sweep: what was typed, and the request that it means. Pure.

Parameters are lines: ``lr = loguniform(1e-5, 1e-1)`` is searched, ``epochs = 3`` is the same for all.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tesra.kit.values import typed as typed_value
from tesra.web.ui.language import Language
from tesra.web.ui.wording import refused
from tesra.wire.space import is_range
from tesra.wire.sweeps import SweepRequest

TEMPLATE = "sweeps/new.html"  # and its texts are in that catalogue
FIELDS: Mapping[str, str] = {
    "project": "",
    "entry": "",
    "engine": "",
    "output": "",
    "devices": "1",
    "params": "lr = loguniform(1e-5, 1e-1)",
    "metric": "loss",
    "mode": "",
    "algorithm": "tpe",
    "trials": "20",
    "parallel": "4",
    "max_cost_cny": "",
}
MAX_DIGITS = 9


class SweepReader:
    """Reads what was typed; ``errors`` are by field."""

    def __init__(self, typed: Mapping[str, str], spoken: Language) -> None:
        self._typed = typed
        self.say = spoken.say
        self._spoken = spoken
        self.errors: dict[str, str] = {}

    def read(self) -> SweepRequest | None:
        """The request, or None and ``errors``."""
        typed = self._typed
        if not typed["project"]:
            self.errors["project"] = self.say("Choose a project.")
        if not typed["metric"]:
            self.errors["metric"] = self.say("Name the metric that decides.")
        space, fixed = self._lines()
        values: dict[str, Any] = {
            "run": {
                "project": typed["project"],
                "entry": typed["entry"] or None,
                "engine": typed["engine"] or None,
                "output": typed["output"] or None,
                "devices": self._whole("devices"),
                "params": fixed,
            },
            "space": space,
            "metric": typed["metric"],
            "mode": typed["mode"] or None,
            "algorithm": typed["algorithm"] or "tpe",
            "trials": self._whole("trials"),
            "parallel": self._whole("parallel"),
            "max_cost_cny": typed["max_cost_cny"] or None,
        }
        if self.errors:
            return None
        try:
            return SweepRequest.model_validate(values)
        except ValidationError as error:
            for fault in error.errors():
                self._blame(fault["loc"], refused(self._spoken, fault))
            return None

    def _lines(self) -> tuple[dict[str, str], dict[str, Any]]:
        """What is searched, and what is the same for all trials."""
        space: dict[str, str] = {}
        fixed: dict[str, Any] = {}
        for line in filter(None, map(str.strip, self._typed["params"].splitlines())):
            name, found, value = (part.strip() for part in line.partition("="))
            if not found or not name or not value:
                self.errors["params"] = self.say(
                    "This line is no parameter: %(line)s", line=line[:80]
                )
            elif name in space or name in fixed:
                self.errors["params"] = self.say("%(name)s is there twice.", name=name[:80])
            elif is_range(value):
                space[name] = value
            else:
                fixed[name] = typed_value(value)
        if not space and "params" not in self.errors:
            self.errors["params"] = self.say("Give at least one parameter a range.")
        return space, fixed

    def _whole(self, name: str) -> int:
        text = self._typed[name]
        if text.isdecimal() and 0 < len(text) <= MAX_DIGITS:
            return int(text)
        self.errors[name] = self.say("Write a whole number.")
        return 1

    def _blame(self, place: tuple[int | str, ...], words: str) -> None:
        named = {str(part) for part in place}
        field = next((name for name in FIELDS if name in named), "params")
        self.errors[field] = words
