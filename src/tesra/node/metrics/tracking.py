"""MLflow's tracking API on the node: what the client asks while a script trains. No I/O.

Metrics and parameters become facts of the rank that asked. Artifacts are the client's own work:
it is told a folder inside the run's output and writes there itself. What Tesra does not have (the
model registry, traces) is refused in words that MLflow's client shows.
"""

import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tesra.node.metrics.points import (
    Fact,
    Parameters,
    Point,
    Value,
    clean_name,
    clean_step,
    clean_time,
    clean_value,
)
from tesra.node.metrics.tracking_groups import Experiments, Models
from tesra.node.metrics.tracking_search import matching
from tesra.node.metrics.tracking_state import (
    MAX_RUNS,
    MISSING,
    Fields,
    Measured,
    TrackedRun,
    TrackingError,
    listed,
    measured,
    now_ms,
    stages_of,
    text,
    whole,
)

MAX_WAITING = 200_000  # facts that were not read yet
MAX_TEXTS_BYTES = 64 * 2**20
MAX_VALUES = 200_000  # in histories that a script can ask for
MAX_SERIES = 200_000  # metrics of all runs together
_LONGEST_KEY = 500
_PAGE = 1000
_KEEPS_NOTHING = frozenset(("runs/log-metric", "runs/search", "experiments/search"))
_API = re.compile(r"^/(?:api|ajax-api)/\d\.\d/mlflow/(?P<rest>.+)$")

Handler = Callable[["Tracking", int, Fields], Fields]


class Tracking:
    """One attempt's state, shared by its ranks; ``artifacts`` is a folder that the script may write."""

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._experiments = Experiments(artifacts)
        self._models = Models(artifacts)
        self._runs: dict[str, TrackedRun] = {}
        self._at_zero: set[tuple[int, str]] = set()
        self._texts_bytes = 0
        self._values = 0
        self._series = 0
        self.facts: deque[Fact] = deque(maxlen=MAX_WAITING)

    def answer(self, rank: int, method: str, path: str, told: Fields, *, size: int = 0) -> Fields:
        """Do what a request of a rank asks. Raises ``TrackingError``.

        ``told``: its body or its query; ``size``: the body's.
        """
        found = _API.match(path)
        if found is None:
            raise TrackingError("ENDPOINT_NOT_FOUND", f"There is no '{path}' here.", 404)
        rest = found["rest"]
        self._make_room(rest, told, size)
        handler = _HANDLERS.get(f"{method} {rest}")
        if handler is not None:
            return handler(self, rank, told)
        answer = self._experiments.answer(method, rest, told)
        if answer is None:
            answer = self._models.answer(method, rest, told)
        if answer is None:
            raise TrackingError("FEATURE_DISABLED", _without(rest))
        return answer

    def _make_room(self, rest: str, told: Fields, size: int) -> None:
        """All that is kept for good came in bodies: together they are limited."""
        if rest in _KEEPS_NOTHING or (rest == "runs/log-batch" and not _has_texts(told)):
            return
        self._texts_bytes += size
        if self._texts_bytes > MAX_TEXTS_BYTES:
            raise TrackingError(
                "RESOURCE_LIMIT_EXCEEDED",
                f"More than {MAX_TEXTS_BYTES >> 20} MiB of tags, parameters and the like.",
            )

    # Runs

    def _create_run(self, _rank: int, told: Fields) -> Fields:
        experiment = self._experiments.one(told.get("experiment_id"))
        if len(self._runs) >= MAX_RUNS:
            raise TrackingError("RESOURCE_LIMIT_EXCEEDED", f"More than {MAX_RUNS} runs.")
        name = secrets.token_hex(16)
        run = TrackedRun(
            name,
            experiment.id,
            str(told.get("run_name") or f"run-{len(self._runs) + 1}"),
            str(told.get("user_id") or ""),
            str(self._artifacts / name / "artifacts"),
            whole(told, "start_time", now_ms()),
        )
        run.tags.put_all(told.get("tags"))
        run.name = str(told.get("run_name") or run.tags.kept.get("mlflow.runName") or run.name)
        run.tags.put("mlflow.runName", run.name)
        self._runs[name] = run
        return {"run": run.told()}

    def _get_run(self, _rank: int, told: Fields) -> Fields:
        return {"run": self._run(told).told()}

    def _update_run(self, _rank: int, told: Fields) -> Fields:
        run = self._run(told)
        run.status = str(told.get("status") or run.status)
        if told.get("end_time") is not None:
            run.ended_ms = whole(told, "end_time")
        if told.get("run_name"):
            run.name = str(told["run_name"])
            run.tags.put("mlflow.runName", run.name)
        return {"run_info": run.info()}

    def _delete_run(self, _rank: int, told: Fields) -> Fields:
        self._run(told).stage = "deleted"
        return {}

    def _restore_run(self, _rank: int, told: Fields) -> Fields:
        self._run(told).stage = "active"
        return {}

    def _search_runs(self, _rank: int, told: Fields) -> Fields:
        wanted = {str(one) for one in told.get("experiment_ids") or ()}
        stages = stages_of(told.get("run_view_type"))
        runs = [r for r in self._runs.values() if r.experiment in wanted and r.stage in stages]
        found = matching(runs, str(told.get("filter") or ""), told.get("order_by") or ())
        begin, most = whole(told, "page_token"), min(whole(told, "max_results", _PAGE), _PAGE)
        answer: Fields = {"runs": [run.told() for run in found[begin : begin + most]]}
        if begin + most < len(found):
            answer["next_page_token"] = str(begin + most)
        return answer

    def _log_metric(self, rank: int, told: Fields) -> Fields:
        self._measure(rank, self._run(told), [measured(told, now_ms())])
        return {}

    def _log_batch(self, rank: int, told: Fields) -> Fields:
        run, at_ms = self._run(told), now_ms()
        metrics = [measured(one, at_ms) for one in listed(told.get("metrics"))]
        self._set_parameters(rank, run, listed(told.get("params")))
        run.tags.put_all(told.get("tags"))
        self._measure(rank, run, metrics)
        return {}

    def _log_parameter(self, rank: int, told: Fields) -> Fields:
        self._set_parameters(rank, self._run(told), [told])
        return {}

    def _set_tag(self, _rank: int, told: Fields) -> Fields:
        run = self._run(told)
        run.tags.put_all([told])
        run.name = run.tags.kept.get("mlflow.runName", run.name)
        return {}

    def _delete_tag(self, _rank: int, told: Fields) -> Fields:
        self._run(told).tags.kept.pop(text(told, "key"), None)
        return {}

    def _log_inputs(self, _rank: int, told: Fields) -> Fields:
        run = self._run(told)
        run.inputs = [*run.inputs, *listed(told.get("datasets"))][:100]
        return {}

    def _log_outputs(self, _rank: int, told: Fields) -> Fields:
        run = self._run(told)
        run.outputs = [*run.outputs, *listed(told.get("models"))][:1000]
        return {}

    def _log_model(self, _rank: int, told: Fields) -> Fields:
        self._run(told)
        return {}

    def _history(self, _rank: int, told: Fields) -> Fields:
        known = self._run(told).history.get(text(told, "metric_key"), ())
        return {"metrics": [one.told() for one in known]}

    # Shared

    def _run(self, told: Fields) -> TrackedRun:
        name = str(told.get("run_id") or told.get("run_uuid") or "")
        known = self._runs.get(name)
        if known is None:
            raise TrackingError(MISSING, f"There is no run with the id '{name}'.", 404)
        return known

    def _measure(self, rank: int, run: TrackedRun, metrics: list[Measured]) -> None:
        """Values of one moment are one point."""
        moments: dict[tuple[int, int | None], dict[str, Value]] = {}
        for one in metrics:
            self._check_key(run, one.key)
            self._values += 1
            run.measure(one, keep=self._values <= MAX_VALUES)
            name, value = clean_name(one.key), clean_value(one.value)
            if name and value is not None:
                at = (one.timestamp, self._step(rank, name, one.step))
                moments.setdefault(at, {})[name] = value
        now = time.time()
        for (timestamp, step), values in moments.items():
            t = clean_time(timestamp / 1000, now)
            self.facts.append(Point(rank, "mlflow", t, step, values))

    def _check_key(self, run: TrackedRun, key: str) -> None:
        if key in run.latest:
            return
        if len(key) > _LONGEST_KEY:
            raise TrackingError(
                "INVALID_PARAMETER_VALUE", f"A metric's name has at most {_LONGEST_KEY} characters."
            )
        self._series += 1
        if self._series > MAX_SERIES:
            raise TrackingError(
                "RESOURCE_LIMIT_EXCEEDED", f"More than {MAX_SERIES} metrics in all runs together."
            )

    def _step(self, rank: int, name: str, step: int) -> int | None:
        """The client says 0 where a script gives no step: only the first of these counts as one."""
        if step != 0:
            return clean_step(step)
        first = (rank, name) not in self._at_zero
        if len(self._at_zero) < MAX_WAITING:
            self._at_zero.add((rank, name))
        return 0 if first else None

    def _set_parameters(self, rank: int, run: TrackedRun, told: list[Fields]) -> None:
        values: dict[str, str] = {}
        for one in told:
            key, value = text(one, "key"), str(one.get("value", ""))
            run.set_parameter(key, value)
            if name := clean_name(key):
                values[name] = run.parameters.kept[key].encode(errors="replace").decode()
        if values:
            self.facts.append(Parameters(rank, values))


def _has_texts(told: Fields) -> bool:
    return bool(told.get("params") or told.get("tags"))


def _without(rest: str) -> str:
    """Why something is not there, and the way out."""
    what = rest.partition("/")[0]
    if what in ("registered-models", "model-versions"):
        return (
            "Tesra has no model registry: log the model without registered_model_name. It is in"
            " the run's output, below 'mlflow'."
        )
    return (
        f"Tesra keeps MLflow's runs, metrics, parameters and artifacts; '{what}' is not among"
        " them. For all of MLflow, set MLFLOW_TRACKING_URI to a server of your own (--env)."
    )


_HANDLERS: dict[str, Handler] = {
    "POST runs/create": Tracking._create_run,
    "GET runs/get": Tracking._get_run,
    "POST runs/update": Tracking._update_run,
    "POST runs/delete": Tracking._delete_run,
    "POST runs/restore": Tracking._restore_run,
    "POST runs/search": Tracking._search_runs,
    "POST runs/log-metric": Tracking._log_metric,
    "POST runs/log-batch": Tracking._log_batch,
    "POST runs/log-parameter": Tracking._log_parameter,
    "POST runs/set-tag": Tracking._set_tag,
    "POST runs/delete-tag": Tracking._delete_tag,
    "POST runs/log-inputs": Tracking._log_inputs,
    "POST runs/outputs": Tracking._log_outputs,
    "POST runs/log-model": Tracking._log_model,
    "GET metrics/get-history": Tracking._history,
}
