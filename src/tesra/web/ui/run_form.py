"""The form of a run: what was typed, in the form's own shape, and the request that it means. Pure.

Errors are by field: ``devices``, or ``param.2`` for the third row of the parameters.
"""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from tesra.doctor.report import DEFAULT_ENGINE, Report
from tesra.web.ui.forms import Form
from tesra.web.ui.language import Language
from tesra.web.ui.wording import refused
from tesra.wire.parameters import DEFAULT_FORMAT
from tesra.wire.quotes import QuoteRequest
from tesra.wire.training import CHECKPOINT_EVERY_S, MAX_RESTARTS, PRIORITIES, Run, RunRequest

TEMPLATE = "training/new.html"  # and its texts are in that catalogue
MAX_ROWS = 200
MOST_HOURS = 366 * 24
KINDS = ("float", "int", "str", "bool")
ROWS: Mapping[str, tuple[str, ...]] = {
    "param": ("name", "kind", "value", "low", "high"),
    "env": ("name", "value"),
    "secret": ("name", "value"),
    "data": ("path", "name"),
}
FIELDS: Mapping[str, str] = {
    "project": "",
    "snapshot": "",
    "run": "",
    "engine": "",
    "backend": "",
    "entry": "",
    "output": "",
    "args": "",
    "launch": "",
    "devices": "1",
    "device_class": "",
    "packages": "",
    "param_format": DEFAULT_FORMAT,
    "max_cost_cny": "",
    "max_time_h": "",
    "priority": "0",
    "checkpoint_every_s": f"{CHECKPOINT_EVERY_S:g}",
    "max_restarts": str(MAX_RESTARTS),
}
_TRUE, _FALSE = frozenset({"true", "yes", "1", "on"}), frozenset({"false", "no", "0", "off"})
_PLACES = {"params": "param", "ranges": "param", "env": "env", "secrets": "secret", "data": "data"}

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in the form."""

    fields: Mapping[str, str]
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, FIELDS.get(name, ""))

    def of(self, group: str) -> Sequence[Row]:
        return self.rows.get(group, ())


def typed_of(form: Form) -> Typed:
    """As it was sent; empty rows stay, so that errors are told at the right ones."""
    rows: dict[str, list[Row]] = {}
    for group, names in ROWS.items():
        columns = {name: form.all(f"{group}_{name}")[:MAX_ROWS] for name in names}
        count = len(columns[names[0]])
        rows[group] = [
            {name: columns[name][at] if at < len(columns[name]) else "" for name in names}
            for at in range(count)
        ]
    return Typed({name: form[name] for name in FIELDS if name in form}, rows)


def proposed(project: str, report: Report, *, backends: Collection[str] = ()) -> Typed:
    """What the doctor says of the code, as a form."""
    backend = report.engine.backend if report.engine.backend in backends else None
    missing = dict.fromkeys(one.package for one in report.requirements.missing)
    return Typed(
        {
            "project": project,
            "engine": report.engine.name or DEFAULT_ENGINE,
            "backend": backend or "",
            "entry": report.entry.entry or "",
            "output": report.output.path,
            "packages": "\n".join(missing),
        }
    )


def repeated(project: str, run: Run) -> Typed:
    """An earlier run as a form; its secrets are forgotten, so that only their names stand there."""
    fields = {
        "project": project,
        "run": run.id,
        "engine": run.engine,
        "backend": run.backend or "",
        "entry": run.entry if isinstance(run.entry, str) else shlex.join(run.entry),
        "output": run.output_path,
        "args": shlex.join(run.args),
        "launch": run.launch,
        "devices": str(run.devices),
        "device_class": "" if run.smoke else run.device_class or "",
        "packages": "\n".join(run.packages),
        "param_format": run.param_format,
        "max_cost_cny": run.max_cost_cny or "",
        "max_time_h": f"{run.max_time_s / 3600:.6g}" if run.max_time_s else "",
        "priority": "0" if run.smoke else str(run.priority),
        "checkpoint_every_s": f"{run.checkpoint_every_s:g}",
        "max_restarts": str(run.max_restarts),
    }
    rows: dict[str, Sequence[Row]] = {
        "param": [parameter_row(name, value) for name, value in run.params.items()],
        "env": [{"name": name, "value": value} for name, value in run.env.items()],
        "secret": [{"name": name, "value": ""} for name in run.secrets],
        "data": [{"path": one.path, "name": one.name or ""} for one in run.data],
    }
    return Typed(fields, rows)


def parameter_row(name: str, value: Any) -> Row:
    """A parameter with the kind that its value has."""
    kind = type(value).__name__ if type(value).__name__ in KINDS else "str"
    text = str(value).lower() if kind == "bool" else "" if value is None else str(value)
    return {"name": name, "kind": kind, "value": text, "low": "", "high": ""}


class RequestReader:
    """Reads what was typed: ``request`` is None as long as there are ``errors``."""

    def __init__(self, typed: Typed, spoken: Language, *, entries: Iterable[str] = ()) -> None:
        self._typed = typed
        self.say = spoken.say
        self._spoken = spoken
        self._entries = frozenset(entries)
        self.errors: dict[str, str] = {}
        self.request: RunRequest | None = None

    def read(self, *, smoke: bool = False) -> RunRequest | None:
        """The request, or None and ``errors``."""
        typed = self._typed
        values: dict[str, Any] = {
            "project": typed["project"],
            "snapshot": typed["snapshot"] or None,
            "rerun_of": typed["run"] or None,
            "engine": typed["engine"] or None,
            "backend": typed["backend"] or None,
            "entry": self._entry(),
            "output": typed["output"] or None,
            "args": self._words("args"),
            "launch": typed["launch"] or None,
            "devices": self._whole("devices", low=1),
            "device_class": typed["device_class"] or None,
            "packages": [line.strip() for line in typed["packages"].splitlines() if line.strip()],
            "param_format": typed["param_format"] or DEFAULT_FORMAT,
            "max_cost_cny": typed["max_cost_cny"] or None,
            "max_time_s": self._hours(),
            "priority": PRIORITIES.get(typed["priority"]) or self._whole("priority", low=-100),
            "checkpoint_every_s": self._number("checkpoint_every_s"),
            "max_restarts": self._whole("max_restarts", low=0),
            "smoke": smoke,
            **self._parameters(),
            "env": self._named("env"),
            "secrets": self._named("secret"),
            "data": self._data(),
        }
        if not self.errors:
            self._validate(values)
        return self.request

    def quoted(self, launch: str) -> QuoteRequest | None:
        """The part that decides the price; ``launch``: where none is chosen."""
        typed = self._typed
        values = {
            "devices": self._whole("devices", low=1),
            "device_class": typed["device_class"] or None,
            "launch": typed["launch"] or launch or "gang",
            "max_cost_cny": typed["max_cost_cny"] or None,
            "max_time_s": self._hours(),
        }
        try:
            return None if self.errors else QuoteRequest.model_validate(values)
        except ValidationError:
            return None

    def _validate(self, values: dict[str, Any]) -> None:
        try:
            self.request = RunRequest.model_validate(values)
        except ValidationError as error:
            for one in error.errors():
                self._refuse(self._place(one["loc"]), self._reason(one))

    def _place(self, location: Sequence[int | str]) -> str:
        if not location:
            return ""
        first = {"max_time_s": "max_time_h"}.get(str(location[0]), str(location[0]))
        group = _PLACES.get(first)
        if group is None or len(location) < 2:
            return first
        if group == "data":
            return f"data.{self._filled('data')[int(location[1])][0]}"
        rows = [at for at, row in self._filled(group) if row["name"] == location[1]]
        return f"{group}.{rows[-1]}" if rows else group

    def _reason(self, error: Any) -> str:
        if error["type"] == "string_pattern_mismatch":
            return self.say("A name has letters, digits and _ only, and begins with no digit.")
        return self.say("This can't be: %(why)s", why=refused(self._spoken, error))

    def _refuse(self, place: str, words: str) -> None:
        self.errors.setdefault(place, words)

    def _filled(self, group: str) -> list[tuple[int, Row]]:
        """The rows in which anything was typed, with their places."""
        names = [name for name in ROWS[group] if name != "kind"]
        return [
            (at, row)
            for at, row in enumerate(self._typed.of(group))
            if any(row.get(name) for name in names)
        ]

    def _named(self, group: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for at, row in self._filled(group):
            if not row["name"]:
                self._refuse(f"{group}.{at}", self.say("This needs a name."))
            elif row["name"] in found:
                self._refuse(f"{group}.{at}", self.say("This name stands here twice."))
            found[row["name"]] = row["value"]
        return found

    def _parameters(self) -> dict[str, Any]:
        params: dict[str, Any] = {}
        ranges: dict[str, Any] = {}
        for at, row in self._filled("param"):
            place, name = f"param.{at}", row["name"]
            if not name:
                self._refuse(place, self.say("This needs a name."))
            elif name in params:
                self._refuse(place, self.say("This name stands here twice."))
            params[name] = self._value(place, row["kind"], row["value"])
            bounds = {end: self._bound(place, row, end) for end in ("low", "high") if row.get(end)}
            if bounds:
                ranges[name] = bounds
        return {"params": params, "ranges": ranges}

    def _value(self, place: str, kind: str, text: str) -> str | int | float | bool:
        lowered = text.lower()
        if kind == "bool":
            if lowered not in _TRUE | _FALSE:
                self._refuse(place, self.say("This is true or false."))
            return lowered in _TRUE
        try:
            return int(text) if kind == "int" else float(text) if kind == "float" else text
        except ValueError:
            whole = kind == "int"
            self._refuse(
                place,
                self.say("This needs a whole number.")
                if whole
                else self.say("This needs a number."),
            )
            return text

    def _bound(self, place: str, row: Row, end: str) -> float | None:
        if row["kind"] not in {"int", "float"}:
            self._refuse(place, self.say("Only a number has a range."))
            return None
        try:
            return float(row[end]) if row[end] else None
        except ValueError:
            self._refuse(place, self.say("A range is from one number to another."))
            return None

    def _data(self) -> list[dict[str, str | None]]:
        return [
            {"path": _drive_path(row["path"]), "name": row["name"] or None}
            for _, row in self._filled("data")
        ]

    def _entry(self) -> str | list[str] | None:
        text = self._typed["entry"]
        if not text or text in self._entries:
            return text or None
        words = self._words("entry")
        return words if len(words) > 1 else text

    def _words(self, name: str) -> list[str]:
        try:
            return shlex.split(self._typed[name])
        except ValueError:
            self._refuse(name, self.say("The quotation marks do not match."))
            return []

    def _whole(self, name: str, *, low: int) -> int:
        try:
            number = int(self._typed[name] or FIELDS[name])
        except ValueError:
            self._refuse(name, self.say("This needs a whole number."))
            return low
        if number < low:
            self._refuse(name, self.say("This is %(low)s at least.", low=low))
        return number

    def _number(self, name: str) -> float:
        try:
            return float(self._typed[name] or FIELDS[name])
        except ValueError:
            self._refuse(name, self.say("This needs a number."))
            return 0.0

    def _hours(self) -> int | None:
        text = self._typed["max_time_h"]
        if not text:
            return None
        try:
            hours = float(text)
        except ValueError:
            self._refuse("max_time_h", self.say("This needs a number."))
            return None
        if not 0 < hours <= MOST_HOURS:
            most = self._spoken.number(MOST_HOURS)
            said = self.say("Give more than 0 and at most %(most)s hours.", most=most)
            self._refuse("max_time_h", said)
            return None
        return max(1, round(hours * 3600))


def _drive_path(text: str) -> str:
    return text if text.startswith("xingpan:") else f"xingpan:/{text.lstrip('/')}"
