"""MLflow's endpoint on the node, asked over HTTP as its client does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tesra.node.metrics import tracking, tracking_state
from tesra.node.metrics.points import Fact, Parameters, Point
from tesra.node.metrics.tracking_server import MAX_BODY_BYTES, VARIABLE, TrackingServer

API = "/api/2.0/mlflow/"


class Rank:
    """One rank's client."""

    def __init__(self, url: str) -> None:
        self.client = httpx.AsyncClient(base_url=url, trust_env=False)

    async def post(self, what: str, **told: Any) -> dict[str, Any]:
        return (await self.client.post(API + what, json=told)).json()

    async def get(self, what: str, **told: Any) -> dict[str, Any]:
        return (await self.client.get(API + what, params=told)).json()

    async def run(self, **told: Any) -> str:
        made = await self.post("runs/create", experiment_id="0", start_time=1, **told)
        return str(made["run"]["info"]["run_id"])


@pytest.fixture
async def server() -> AsyncIterator[TrackingServer]:
    server = TrackingServer(Path("/artifacts"))
    await server.open()
    yield server
    await server.close()


@pytest.fixture
async def rank(server: TrackingServer) -> AsyncIterator[Rank]:
    rank = Rank(server.variables(3)[VARIABLE])
    yield rank
    await rank.client.aclose()


def facts(server: TrackingServer) -> list[Fact]:
    return list(server.read(0.0, False))


async def test_metrics_are_points_of_the_rank_that_asked(
    server: TrackingServer, rank: Rank
) -> None:
    run = await rank.run()
    await rank.post("runs/log-metric", run_id=run, key="loss", value=0.5, timestamp=2000, step=7)
    batch = [
        {"key": "a", "value": "NaN", "timestamp": "3000", "step": "8"},
        {"key": "b", "value": "-Infinity", "timestamp": 3000, "step": 8},
        {"key": "c", "value": 1, "timestamp": 4000, "step": 8},
    ]
    await rank.post("runs/log-batch", run_id=run, metrics=batch)
    assert facts(server) == [
        Point(3, "mlflow", 2.0, 7, {"loss": 0.5}),
        Point(3, "mlflow", 3.0, 8, {"a": "nan", "b": "-inf"}),
        Point(3, "mlflow", 4.0, 8, {"c": 1.0}),
    ]


async def test_step_nought_that_comes_again_is_no_step(server: TrackingServer, rank: Rank) -> None:
    run = await rank.run()
    for n in range(3):
        await rank.post("runs/log-metric", run_id=run, key="loss", value=n, timestamp=n, step=0)
    steps = [fact.step for fact in facts(server) if isinstance(fact, Point)]
    assert steps == [0, None, None]


async def test_parameters_are_kept_and_cannot_change(server: TrackingServer, rank: Rank) -> None:
    run = await rank.run()
    await rank.post("runs/log-parameter", run_id=run, key="lr", value="0.1")
    await rank.post("runs/log-batch", run_id=run, params=[{"key": "a", "value": "x"}])
    refused = await rank.post("runs/log-parameter", run_id=run, key="lr", value="0.2")
    assert refused["error_code"] == "INVALID_PARAMETER_VALUE"
    assert facts(server) == [Parameters(3, {"lr": "0.1"}), Parameters(3, {"a": "x"})]


async def test_a_run_is_told_as_it_was_logged(rank: Rank) -> None:
    run = await rank.run(run_name="first", tags=[{"key": "who", "value": "me"}])
    for step, value in ((1, 0.5), (3, 0.25), (2, 0.75)):
        await rank.post("runs/log-metric", run_id=run, key="m", value=value, timestamp=1, step=step)
    await rank.post("runs/update", run_id=run, status="FINISHED", end_time=9)
    told = (await rank.get("runs/get", run_id=run))["run"]
    assert told["info"]["status"] == "FINISHED"
    assert told["info"]["artifact_uri"] == f"/artifacts/{run}/artifacts"
    assert [(m["key"], m["value"]) for m in told["data"]["metrics"]] == [("m", 0.25)]
    assert {"key": "who", "value": "me"} in told["data"]["tags"]
    history = await rank.get("metrics/get-history", run_id=run, metric_key="m")
    assert [m["value"] for m in history["metrics"]] == [0.5, 0.25, 0.75]


async def test_a_run_is_shared_by_the_ranks(server: TrackingServer, rank: Rank) -> None:
    run = await rank.run()
    other = Rank(server.variables(4)[VARIABLE])
    await other.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1, step=1)
    await other.client.aclose()
    assert [fact.rank for fact in facts(server) if isinstance(fact, Point)] == [4]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", ["c", "b", "a"]),
        ("metrics.m > 1", ["c", "b"]),
        ("metrics.m >= 1 and params.p = 'x'", ["c", "a"]),
        ("tags.`t.u` LIKE 'y%'", ["b"]),
        ("attributes.status != 'RUNNING'", ["a"]),
        ("run_name = 'b'", ["b"]),
        ("run_name IN ('a', 'c')", ["c", "a"]),
        ("metrics.none > 1", []),
    ],
)
async def test_runs_are_searched(rank: Rank, wanted: str, found: list[str]) -> None:
    for n, name in enumerate("abc"):
        tags = [{"key": "t.u", "value": "yes"}] if name == "b" else []
        made = await rank.post(
            "runs/create", experiment_id="0", start_time=n, run_name=name, tags=tags
        )
        run = made["run"]["info"]["run_id"]
        await rank.post("runs/log-metric", run_id=run, key="m", value=n + 1, timestamp=1, step=1)
        if name != "b":
            await rank.post("runs/log-parameter", run_id=run, key="p", value="x")
        if name == "a":
            await rank.post("runs/update", run_id=run, status="FINISHED")
    answer = await rank.post("runs/search", experiment_ids=["0"], filter=wanted)
    assert [run["info"]["run_name"] for run in answer["runs"]] == found


async def test_search_is_ordered_and_paged(rank: Rank) -> None:
    for n in (2, 1, 3):
        run = await rank.run(run_name=str(n))
        await rank.post("runs/log-metric", run_id=run, key="m", value=n, timestamp=1, step=1)
    await rank.run(run_name="none")
    ask = {"experiment_ids": ["0"], "order_by": ["metrics.m ASC"], "max_results": 3}
    first = await rank.post("runs/search", **ask)
    assert [run["info"]["run_name"] for run in first["runs"]] == ["1", "2", "3"]
    rest = await rank.post("runs/search", **ask, page_token=first["next_page_token"])
    assert [run["info"]["run_name"] for run in rest["runs"]] == ["none"]
    assert "next_page_token" not in rest


async def test_experiments_are_made_found_and_told_apart(rank: Rank) -> None:
    made = await rank.post("experiments/create", name="mine")
    again = await rank.post("experiments/create", name="mine")
    assert again["error_code"] == "RESOURCE_ALREADY_EXISTS"
    found = await rank.get("experiments/get-by-name", experiment_name="mine")
    assert found["experiment"]["experiment_id"] == made["experiment_id"]
    missing = await rank.client.get(API + "experiments/get", params={"experiment_id": "77"})
    assert missing.status_code == 404
    assert missing.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    names = await rank.post("experiments/search", max_results=10)
    assert [one["name"] for one in names["experiments"]] == ["Default", "mine"]


async def test_models_as_mlflow_3_logs_them(rank: Rank) -> None:
    made = await rank.post("logged-models", experiment_id="0", name="m")
    model = made["model"]["info"]["model_id"]
    done = await rank.client.patch(
        f"{API}logged-models/{model}", json={"status": "LOGGED_MODEL_READY"}
    )
    assert done.json()["model"]["info"]["status"] == "LOGGED_MODEL_READY"
    tags = {"tags": [{"key": "k", "value": "v"}]}
    tagged = await rank.client.patch(f"{API}logged-models/{model}/tags", json=tags)
    assert tagged.json()["model"]["info"]["tags"] == tags["tags"]
    found = await rank.post("logged-models/search", experiment_ids=["0"])
    assert [one["info"]["model_id"] for one in found["models"]] == [model]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("registered-models/create", "no model registry"),
        ("model-versions/create", "no model registry"),
        ("traces", "--env"),
        ("gateway/secrets/create", "--env"),
    ],
)
async def test_what_is_not_there_is_said_clearly(rank: Rank, what: str, words: str) -> None:
    refused = await rank.post(what, name="x")
    assert refused["error_code"] == "FEATURE_DISABLED"
    assert words in refused["message"]


@pytest.mark.parametrize("path", ["/", "/0/api/2.0/mlflow/runs/create", "/x/0/api/2.0/mlflow/a"])
async def test_without_the_secret_there_is_nothing(rank: Rank, path: str) -> None:
    url = str(rank.client.base_url)
    async with httpx.AsyncClient(trust_env=False) as stranger:
        answer = await stranger.get(url.split("/", 3)[0] + "//" + url.split("/")[2] + path)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize(
    "told",
    [
        b"{", b"[" * 100_000, b"[]", b'{"run_id": 3}', b'{"metrics": 3}', b'{"params": [3]}',
        b'{"metrics": [{"key": "a", "value": "x"}]}', b'{"metrics": [{"value": 1}]}',
        b'{"metrics": [{"key": "a", "value": 1, "step": "x"}]}', b'{"tags": [{"key": ""}]}',
    ],
)  # fmt: skip
async def test_nonsense_is_refused_and_survived(
    server: TrackingServer, rank: Rank, told: bytes
) -> None:
    run = await rank.run()
    body = told.replace(b"{", f'{{"run_id": "{run}", '.encode(), 1) if b":" in told else told
    answer = await rank.client.post(f"{API}runs/log-batch", content=body)
    assert answer.status_code in (400, 404)
    assert facts(server) == []
    assert await rank.run()


async def test_a_search_of_nonsense_is_refused(rank: Rank) -> None:
    assert (await rank.post("runs/search", experiment_ids=3))["error_code"]
    assert (await rank.post("runs/search", experiment_ids=["0"], order_by=[3]))["error_code"]
    assert (await rank.post("runs/search", experiment_ids=["0"], filter="a or b"))["error_code"]


async def test_a_body_has_a_limit(rank: Rank) -> None:
    answer = await rank.client.post(f"{API}runs/create", content=b" " * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert await rank.run()


async def test_texts_have_a_limit(rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await rank.run()
    monkeypatch.setattr(tracking, "MAX_TEXTS_BYTES", 5000)
    codes = [
        (await rank.post("runs/set-tag", run_id=run, key=f"k{n}", value="x" * 100)).get(
            "error_code"
        )
        for n in range(60)
    ]
    assert codes[0] is None
    assert codes[-1] == "RESOURCE_LIMIT_EXCEEDED"
    logged = await rank.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1, step=1)
    assert logged == {}


async def test_names_of_a_run_have_a_limit(rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_state, "MAX_KEYS", 3)
    run = await rank.run()
    metrics = [{"key": f"m{n}", "value": 1, "timestamp": 1, "step": 1} for n in range(5)]
    refused = await rank.post("runs/log-batch", run_id=run, metrics=metrics)
    assert refused["error_code"] == "RESOURCE_LIMIT_EXCEEDED"
    assert "'m3'" in refused["message"]


async def test_a_million_metrics_over_many_runs_have_a_limit(
    rank: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "MAX_SERIES", 3)
    codes = []
    for _ in range(4):
        run = await rank.run()
        told = await rank.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1, step=1)
        codes.append(told.get("error_code"))
    assert codes == [None, None, None, "RESOURCE_LIMIT_EXCEEDED"]
    told = await rank.post("runs/log-metric", run_id=run, key="m" * 600, value=1, timestamp=1)
    assert told["error_code"] == "INVALID_PARAMETER_VALUE"


async def test_bytes_that_are_no_http_end_their_connection_only(
    server: TrackingServer, rank: Rank
) -> None:
    port = rank.client.base_url.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\0\1\2\r\n\r\n")
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    assert await rank.run()
