"""MLflow's experiments, and the models that MLflow 3 logs, of one attempt. Pure."""

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from tesra.node.metrics.tracking_state import (
    MISSING,
    Fields,
    Tags,
    TrackingError,
    now_ms,
    stages_of,
    text,
)

MAX_EXPERIMENTS = 1000
MAX_MODELS = 10_000
_PAGE = 1000
_NAMED = re.compile(r"\s*(?:attribute\w*\.)?name\s*=\s*'([^']*)'\s*")
_MODEL = re.compile(r"^logged-models/(?P<model>[^/]+)(?P<part>/tags|/params|/tags/[^/]+)?$")


@dataclass(slots=True)
class Experiment:
    """A named group of runs; ``place`` is where their artifacts lie."""

    id: str
    name: str
    place: str
    made_ms: int
    stage: str = "active"
    tags: Tags = field(default_factory=lambda: Tags("tags"))

    def told(self) -> Fields:
        return {
            "experiment_id": self.id,
            "name": self.name,
            "artifact_location": self.place,
            "lifecycle_stage": self.stage,
            "creation_time": self.made_ms,
            "last_update_time": self.made_ms,
            "tags": self.tags.told(),
        }


@dataclass(slots=True)
class TrackedModel:
    """What MLflow 3 calls a logged model."""

    id: str
    experiment: str
    name: str
    place: str
    made_ms: int
    source_run: str = ""
    kind: str = ""
    status: str = "LOGGED_MODEL_PENDING"
    tags: Tags = field(default_factory=lambda: Tags("tags"))
    parameters: Tags = field(default_factory=lambda: Tags("parameters"))

    def told(self) -> Fields:
        return {
            "info": {
                "model_id": self.id,
                "experiment_id": self.experiment,
                "name": self.name,
                "creation_timestamp_ms": self.made_ms,
                "last_updated_timestamp_ms": self.made_ms,
                "artifact_uri": self.place,
                "status": self.status,
                "model_type": self.kind,
                "source_run_id": self.source_run,
                "tags": self.tags.told(),
            },
            "data": {"params": self.parameters.told(), "metrics": []},
        }


class Experiments:
    """By number; ``0`` is the one that a script has without asking."""

    def __init__(self, artifacts: Path) -> None:
        self._place = str(artifacts)  # of one run of ours: no need to keep them apart
        self._known: dict[str, Experiment] = {}
        self._make("Default")

    def one(self, number: object) -> Experiment:
        """The experiment of this number, which may be missing in a request."""
        known = self._known.get(str(number or "0"))
        if known is None:
            raise TrackingError(MISSING, f"There is no experiment with the id '{number}'.", 404)
        return known

    def answer(self, method: str, rest: str, told: Fields) -> Fields | None:
        """What a request asks; ``None`` when it is not about experiments."""
        match method, rest:
            case "POST", "experiments/create":
                return {"experiment_id": self._create(told).id}
            case "GET", "experiments/get":
                return {"experiment": self.one(text(told, "experiment_id")).told()}
            case "GET", "experiments/get-by-name":
                return {"experiment": self._by_name(text(told, "experiment_name")).told()}
            case _, "experiments/search":
                return {"experiments": self._found(told)}
            case "POST", "experiments/update":
                self.one(text(told, "experiment_id")).name = text(told, "new_name")
            case "POST", "experiments/delete" | "experiments/restore":
                stage = "deleted" if rest.endswith("delete") else "active"
                self.one(text(told, "experiment_id")).stage = stage
            case "POST", "experiments/set-experiment-tag":
                self.one(text(told, "experiment_id")).tags.put_all([told])
            case _:
                return None
        return {}

    def _create(self, told: Fields) -> Experiment:
        name = text(told, "name")
        if any(known.name == name for known in self._known.values()):
            raise TrackingError(
                "RESOURCE_ALREADY_EXISTS", f"There is an experiment '{name}' already."
            )
        if len(self._known) >= MAX_EXPERIMENTS:
            raise TrackingError("RESOURCE_LIMIT_EXCEEDED", "There are too many experiments.")
        made = self._make(name)
        made.tags.put_all(told.get("tags"))
        return made

    def _make(self, name: str) -> Experiment:
        number = str(len(self._known))
        made = self._known[number] = Experiment(number, name, self._place, now_ms())
        return made

    def _by_name(self, name: str) -> Experiment:
        for known in self._known.values():
            if known.name == name:
                return known
        raise TrackingError(MISSING, f"There is no experiment '{name}'.", 404)

    def _found(self, told: Fields) -> list[Fields]:
        stages = stages_of(told.get("view_type"))
        named = _NAMED.fullmatch(str(told.get("filter") or ""))
        found = [
            known.told()
            for known in self._known.values()
            if known.stage in stages and (named is None or known.name == named[1])
        ]
        return found[:_PAGE]


class Models:
    """By their ids; their files are the script's own affair, in the folder that it is told."""

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._known: dict[str, TrackedModel] = {}

    def answer(self, method: str, rest: str, told: Fields) -> Fields | None:
        """What a request asks; ``None`` when it is not about models."""
        match method, rest:
            case "POST", "logged-models":
                return {"model": self._create(told).told()}
            case "POST", "logged-models/search":
                wanted = {str(one) for one in told.get("experiment_ids") or ()}
                found = [m.told() for m in self._known.values() if m.experiment in wanted]
                return {"models": found[:_PAGE]}
        asked = _MODEL.match(rest)
        if asked is None:
            return None
        model = self._known.get(asked["model"])
        if model is None:
            raise TrackingError(MISSING, f"There is no model '{asked['model']}'.", 404)
        return self._change(model, method, asked["part"] or "", told)

    def _change(self, model: TrackedModel, method: str, part: str, told: Fields) -> Fields:
        match method, part:
            case "PATCH", "":
                model.status = str(told.get("status") or "LOGGED_MODEL_READY")
            case "DELETE", "":
                del self._known[model.id]
                return {}
            case "PATCH", "/tags":
                model.tags.put_all(told.get("tags"))
            case "POST", "/params":
                model.parameters.put_all(told.get("params"))
            case "DELETE", _:
                model.tags.kept.pop(part.removeprefix("/tags/"), None)
        return {"model": model.told()}

    def _create(self, told: Fields) -> TrackedModel:
        if len(self._known) >= MAX_MODELS:
            raise TrackingError("RESOURCE_LIMIT_EXCEEDED", f"More than {MAX_MODELS} models.")
        name = f"m-{secrets.token_hex(16)}"
        model = self._known[name] = TrackedModel(
            name,
            str(told.get("experiment_id") or "0"),
            str(told.get("name") or name),
            str(self._artifacts / "models" / name / "artifacts"),
            now_ms(),
            str(told.get("source_run_id") or ""),
            str(told.get("model_type") or ""),
        )
        model.tags.put_all(told.get("tags"))
        model.parameters.put_all(told.get("params"))
        return model
