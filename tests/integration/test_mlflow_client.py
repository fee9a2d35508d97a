"""The real MLflow client, in a run's own environment and sandbox, against the node's endpoint.

The environment is kept in TESRA_CACHE between runs; a cold cache works too and fetches it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tesra.kit.settings import default_cache
from tesra.node.devices import cpu_slots
from tesra.node.environments import Environment, EnvironmentBuilder
from tesra.node.metrics.points import Parameters, Point
from tesra.node.metrics.tracking_server import TrackingServer
from tesra.node.rank_plan import Place
from tesra.node.ranks import Gang
from tesra.node.sandbox import Sandbox
from tesra.node.workspace import AttemptFolders, hand_over, prepare
from tesra.wire.site import EngineSpec, RunSpec

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

VERSIONS = {
    "3": ["mlflow-skinny==3.17.2", "scikit-learn==1.9.1", "pandas==3.1.1"],
    "2": ["mlflow-skinny==2.22.5", "scikit-learn==1.6.1", "pandas==2.3.3", "setuptools==80.9.0"],
}
ENGINE = EngineSpec(name="bare", version="1", requirements=[], python=">=3.11", announce="torch")
LOGS = """
import math, mlflow
mlflow.set_experiment("digits")
with mlflow.start_run(run_name="first") as run:
    mlflow.log_params({"lr": 0.1, "layers": 2})
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"acc": 0.5, "bad": math.nan}, step=7)
    mlflow.set_tag("who", "me")
    mlflow.log_text("hello", "notes/hello.txt")
client = mlflow.MlflowClient()
assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")][-1] == 0.2
assert client.get_run(run.info.run_id).info.status == "FINISHED"
assert len(mlflow.search_runs(experiment_names=["digits"], filter_string="metrics.acc > 0.4")) == 1
assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["notes"]
"""
TRAINS = """
import mlflow
mlflow.autolog()
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
images, labels = load_digits(return_X_y=True)
LogisticRegression(max_iter=30).fit(images / 16, labels)
"""
REGISTERS = """
import mlflow
try:
    mlflow.MlflowClient().create_registered_model("digits")
except mlflow.MlflowException as error:
    print(error)
"""

Trained = tuple[AttemptFolders, TrackingServer]
Train = Callable[..., Awaitable[Trained]]


@pytest.fixture(scope="module", params=sorted(VERSIONS))
async def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    project = tmp_path_factory.mktemp("project")
    builder = EnvironmentBuilder(default_cache(), gpu=False)
    return await builder.ensure(ENGINE, VERSIONS[request.param], project, print)


@pytest.fixture
async def train(environment: Environment, tmp_path: Path) -> AsyncIterator[Train]:
    folders = prepare(tmp_path / "attempts", "att_1", "out")
    server = TrackingServer(folders.output_path / "mlflow")
    await server.open()

    async def run(script: str, *, sandboxed: bool = True, devices: int = 1) -> Trained:
        (folders.work / "train.py").write_text(script)
        hand_over(folders)
        gang = Gang(
            "run_1",
            _spec(),
            place=Place(
                0, devices, 0, 1, "127.0.0.1", 29500, tuple(f"127.0.0.1:{n}" for n in range(9))
            ),
            devices=cpu_slots(devices),
            environment=environment,
            folders=folders,
            sandbox=Sandbox(enabled=sandboxed),
            variables=server.variables,
        )
        await gang.start()
        exits = await gang.wait()
        await gang.stop(0)
        logs = [folders.log_of(rank).read_text(errors="replace") for rank in range(devices)]
        assert [end.exit_code for end in exits] == [0] * devices, "\n".join(logs)
        return folders, server

    yield run
    await server.close()


def _spec() -> RunSpec:
    fields: dict[str, Any] = {
        "owner": "user", "project": "prj", "snapshot": "snp", "packages": [], "engine": ENGINE,
        "entry": "train.py", "args": [], "output": "out", "launch": "gang", "params": {},
        "env": {}, "secrets": {},
    }  # fmt: skip
    return RunSpec(**fields)


@pytest.mark.parametrize("sandboxed", [True, False], ids=["sandboxed", "bare"])
async def test_a_script_that_logs_to_mlflow_needs_no_change(train: Train, sandboxed: bool) -> None:
    folders, server = await train(LOGS, sandboxed=sandboxed)
    told = list(server.read(0.0, True))
    points = [fact for fact in told if isinstance(fact, Point)]
    assert [(p.step, p.values) for p in points][-2:] == [
        (4, {"loss": 0.2}),
        (7, {"acc": 0.5, "bad": "nan"}),
    ]
    assert len(points) == 6
    [parameters] = [fact.values for fact in told if isinstance(fact, Parameters)]
    assert parameters == {"lr": "0.1", "layers": "2"}
    [note] = (folders.output_path / "mlflow").rglob("hello.txt")
    assert note.read_text() == "hello"


async def test_autolog_of_scikit_learn_shows_its_metrics_and_keeps_its_model(train: Train) -> None:
    folders, server = await train(TRAINS, devices=2)
    told = list(server.read(0.0, True))
    for rank in (0, 1):
        names = {n for p in told if isinstance(p, Point) and p.rank == rank for n in p.values}
        assert {"training_score", "training_f1_score", "training_log_loss"} <= names
    assert {"max_iter": "30"}.items() <= next(
        fact.values for fact in told if isinstance(fact, Parameters)
    ).items()
    assert len(list((folders.output_path / "mlflow").rglob("MLmodel"))) == 2


async def test_the_model_registry_is_refused_in_clear_words(train: Train) -> None:
    folders, _server = await train(REGISTERS)
    assert "no model registry" in folders.log_of(0).read_text()
