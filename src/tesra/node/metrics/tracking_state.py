"""What an unmodified script keeps in MLflow during one attempt: experiments, runs, models. Pure.

In memory: it is needed as long as the gang lives. Counts are limited, so that no script can fill
the node's memory; what a limit refuses is said in MLflow's own terms.
"""

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

Fields = dict[str, Any]

MAX_RUNS = 10_000
MAX_KEYS = 2000  # metrics, parameters, tags of a run, each
MAX_TEXT = 8000
MISSING = "RESOURCE_DOES_NOT_EXIST"
_HISTORY = 10_000  # values of one metric of one run
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class TrackingError(Exception):
    """A refusal that MLflow's client understands."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of a metric; ``timestamp`` in milliseconds."""

    key: str
    value: float
    timestamp: int
    step: int

    def told(self) -> Fields:
        value: float | str = self.value
        if not math.isfinite(self.value):
            value = next(w for w, known in _WORDS.items() if repr(known) == repr(self.value))
        return {"key": self.key, "value": value, "timestamp": self.timestamp, "step": self.step}


@dataclass(slots=True)
class Tags:
    """Texts by name, at most so many."""

    what: str
    kept: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: str) -> None:
        if key not in self.kept and len(self.kept) >= MAX_KEYS:
            raise TrackingError(
                "RESOURCE_LIMIT_EXCEEDED", f"More than {MAX_KEYS} {self.what} are not kept."
            )
        self.kept[key[:MAX_TEXT]] = value[:MAX_TEXT]

    def put_all(self, told: Any) -> None:
        for one in listed(told):
            self.put(text(one, "key"), str(one.get("value", "")))

    def told(self) -> list[Fields]:
        return [{"key": key, "value": value} for key, value in self.kept.items()]


@dataclass(slots=True)
class TrackedRun:
    """A run in MLflow's sense; one of ours may have many."""

    id: str
    experiment: str
    name: str
    user: str
    place: str
    started_ms: int
    status: str = "RUNNING"
    ended_ms: int | None = None
    stage: str = "active"
    tags: Tags = field(default_factory=lambda: Tags("tags"))
    parameters: Tags = field(default_factory=lambda: Tags("parameters"))
    latest: dict[str, Measured] = field(default_factory=dict)
    history: dict[str, deque[Measured]] = field(default_factory=dict)
    inputs: list[Fields] = field(default_factory=list)
    outputs: list[Fields] = field(default_factory=list)

    def measure(self, one: Measured, *, keep: bool) -> None:
        """Take a value, and ``keep`` it in the history; as with MLflow the highest step is the newest."""
        known = self.latest.get(one.key)
        if known is None and len(self.latest) >= MAX_KEYS:
            raise TrackingError(
                "RESOURCE_LIMIT_EXCEEDED",
                f"More than {MAX_KEYS} different metrics of a run are not kept: '{one.key}'.",
            )
        if known is None or (one.step, one.timestamp) >= (known.step, known.timestamp):
            self.latest[one.key] = one
        if keep:
            self.history.setdefault(one.key, deque(maxlen=_HISTORY)).append(one)

    def set_parameter(self, key: str, value: str) -> None:
        known = self.parameters.kept.get(key)
        if known is not None and known != value[:MAX_TEXT]:
            raise TrackingError(
                "INVALID_PARAMETER_VALUE",
                f"The parameter '{key}' was logged as '{known}' and can't be changed to '{value}'.",
            )
        self.parameters.put(key, value)

    def info(self) -> Fields:
        told: Fields = {
            "run_id": self.id,
            "run_uuid": self.id,
            "run_name": self.name,
            "experiment_id": self.experiment,
            "user_id": self.user,
            "status": self.status,
            "start_time": self.started_ms,
            "artifact_uri": self.place,
            "lifecycle_stage": self.stage,
        }
        return told if self.ended_ms is None else {**told, "end_time": self.ended_ms}

    def told(self) -> Fields:
        return {
            "info": self.info(),
            "data": {
                "metrics": [one.told() for one in self.latest.values()],
                "params": self.parameters.told(),
                "tags": self.tags.told(),
            },
            "inputs": {"dataset_inputs": self.inputs},
            "outputs": {"model_outputs": self.outputs},
        }


def listed(told: Any) -> list[Fields]:
    """The objects of a list; refused when it is something else."""
    if told is None:
        return []
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise TrackingError("INVALID_PARAMETER_VALUE", "A list of objects is needed.")
    return told


def text(told: Fields, name: str) -> str:
    """A text that must be there."""
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise TrackingError("INVALID_PARAMETER_VALUE", f"'{name}' is missing.")
    return value


def whole(told: Fields, name: str, otherwise: int = 0) -> int:
    """A number that may also stand as text, as protocol buffers have it in JSON."""
    value = told.get(name, otherwise)
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise TrackingError("INVALID_PARAMETER_VALUE", f"'{name}' is no whole number.") from None


def measured(told: Fields, now_ms: int) -> Measured:
    """A metric as the client sends it."""
    value = told.get("value")
    if isinstance(value, str) and value in _WORDS:
        number = _WORDS[value]
    elif isinstance(value, int | float):
        number = float(value)
    else:
        raise TrackingError(
            "INVALID_PARAMETER_VALUE", f"The metric {told.get('key')!r} is no number."
        )
    return Measured(
        text(told, "key")[:MAX_TEXT], number, whole(told, "timestamp", now_ms), whole(told, "step")
    )


def stages_of(view: object) -> tuple[str, ...]:
    """What a search looks at: by default nothing that was deleted."""
    return {"DELETED_ONLY": ("deleted",), "ALL": ("active", "deleted")}.get(str(view), ("active",))


def now_ms() -> int:
    return int(time.time() * 1000)
