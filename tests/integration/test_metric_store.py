"""Metrics from a node's spool to what their owner asks, over the real routes and PostgreSQL."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from factories.identity import client_of, register
from factories.network import NetworkDouble, network_on
from tesra.kit.ids import RunId, UserId
from tesra.node.site_client import delivery_of
from tesra.training.metrics import service as limits
from tesra.training.metrics.service import MetricService
from tesra.training.metrics.store import MetricStore
from tesra.web.api import create_api
from tesra.wire.site import Assignment, Ended, Piece

pytestmark = pytest.mark.postgres


@dataclass
class Training:
    """A run that is trained, its owner, and the node's end of its spool."""

    network: NetworkDouble
    owner: UserId
    run: str
    assignment: Assignment
    site: httpx.AsyncClient
    ann: httpx.AsyncClient
    sent: int = 0

    async def offer(self, data: bytes, *, offset: int, source: int = 0) -> dict[str, Any]:
        held = {"attempt": self.assignment.attempt, "fence": self.assignment.fence}
        piece = Piece(**held, kind="metrics", of=source, offset=offset, size=len(data))
        body = delivery_of([(piece, data)])
        answer = await self.site.post("/site/v1/deliveries", content=body)
        assert answer.status_code == 200, answer.text
        (taken,) = answer.json()["pieces"]
        return taken

    async def log(self, *lines: dict[str, Any]) -> None:
        """What a node does with its spool."""
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        taken = await self.offer(data, offset=self.sent)
        self.sent += len(data)
        assert taken == {"offset": self.sent, "refused": None}

    async def ask(self, path: str = "", **query: Any) -> Any:
        answer = await self.ann.get(f"/api/v1/runs/{self.run}/metrics{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, path: str, status: int, **query: Any) -> Any:
        answer = await self.ann.get(f"/api/v1/runs/{self.run}/metrics{path}", params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def exported(self) -> list[dict[str, Any]]:
        answer = await self.ann.get(f"/api/v1/runs/{self.run}/metrics/export")
        return [json.loads(line) for line in answer.text.splitlines()]

    async def begin_again(self) -> None:
        """The attempt is lost; the next one has a spool of its own."""
        await self.network.site.say(self.assignment, Ended(outcome="lost"))
        await self.network.dispatch()
        (self.assignment,) = [
            one for one in await self.network.site.assignments() if one.run == self.run
        ]
        self.sent = 0

    async def end(self) -> None:
        await self.network.site.say(self.assignment, Ended(outcome="succeeded", exit_code=0))

    @property
    def service(self) -> MetricService:
        return self.network.services.metrics


def line(step: int | None, rank: int = 0, origin: str = "log", **values: Any) -> dict[str, Any]:
    return {"k": "m", "r": rank, "o": origin, "t": 1.7e9 + (step or 0), "s": step, "v": values}


@pytest_asyncio.fixture(scope="module")
async def network(cluster: Any) -> AsyncIterator[NetworkDouble]:
    from tesra.db.engine import Database

    async with network_on(Database(cluster.create(), pool_size=4)) as network:
        await network.site.enrol(64)
        yield network


@pytest_asyncio.fixture
async def training(network: NetworkDouble) -> AsyncIterator[Training]:
    """A fresh user's run on two devices, placed."""
    api = create_api(network.services)
    async with client_of(api) as anyone:
        session = await register(anyone)
    owner = UserId(session["user"]["id"])
    await network.project(owner)
    run = await network.submit(owner, devices=2)
    await network.dispatch()
    (assignment,) = [one for one in await network.site.assignments() if one.run == run.id]
    token = (network.services.settings.home.keys / "site.token").read_text().strip()
    async with client_of(api, token=token) as site, client_of(api, token=session["token"]) as ann:
        made = Training(network, owner, run.id, assignment, site, ann)
        yield made
        await network.site.say(made.assignment, Ended(outcome="lost"))
        await network.stop(owner, run.id)


async def test_what_a_node_sends_its_owner_sees(training: Training) -> None:
    await training.log(*(line(step, loss=1 / (step + 1), acc=step / 10) for step in range(10)))
    known = await training.ask()
    assert [(one["name"], one["points"], one["origin"]) for one in known["names"]] == [
        ("acc", 10, "log"),
        ("loss", 10, "log"),
    ]
    loss = known["names"][1]
    assert (loss["last"], loss["last_step"], loss["high"], loss["high_step"]) == (0.1, 9, 1.0, 0)
    history = await training.ask("/history", name=["loss", "acc"])
    assert history["series"][0]["values"] == [1 / (step + 1) for step in range(10)]
    assert history["series"][1]["steps"] == list(range(10))
    assert len(await training.exported()) == 20


async def test_each_byte_of_a_spool_counts_once(training: Training) -> None:
    data = b"".join(json.dumps(line(step, loss=step)).encode() + b"\n" for step in range(4))
    half = data.index(b"\n", len(data) // 2) + 1
    offers = [(0, data[:half]), (0, data[:half]), (0, data), (len(data) + 5, b"far ahead\n")]
    for offset, some in offers:
        assert (await training.offer(some, offset=offset))["refused"] is None
    assert (await training.offer(b"", offset=0))["offset"] == len(data)
    assert (await training.offer(data, offset=0, source=1))["offset"] == len(data)
    (name,) = (await training.ask())["names"]
    assert name["points"] == 8  # four from each of two nodes' spools


async def test_nodes_that_deliver_at_once_lose_and_double_nothing(training: Training) -> None:
    spools = [
        b"".join(
            json.dumps(line(step, rank=rank, loss=step)).encode() + b"\n" for step in range(100)
        )
        for rank in (0, 1)
    ]
    racing = [(rank, spools[rank]) for rank in (0, 1, 0, 1, 0, 1)]
    answers = await asyncio.gather(
        *(training.offer(data, offset=0, source=rank) for rank, data in racing)
    )
    assert [answer["offset"] for answer in answers] == [len(data) for _, data in racing]
    (name,) = (await training.ask())["names"]
    assert (name["points"], name["ranks"]) == (200, [0, 1])


async def test_a_delivery_under_a_stale_fence_is_refused(training: Training) -> None:
    training.assignment = training.assignment.model_copy(update={"fence": 10**9})
    taken = await training.offer(b"{}\n", offset=0)
    assert taken == {"offset": None, "refused": "stale_fence"}


async def test_delivery_that_is_not_what_it_lists_is_refused_whole(training: Training) -> None:
    held = {"attempt": training.assignment.attempt, "fence": training.assignment.fence}
    data = json.dumps(line(1, loss=0.5)).encode() + b"\n"
    piece = Piece(**held, kind="metrics", of=0, offset=0, size=len(data))
    for body in (
        delivery_of([(piece, data[:-1])]),
        delivery_of([(piece, data), (piece, data)]),
        data,
        b"",
    ):
        answer = await training.site.post("/site/v1/deliveries", content=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "delivery_invalid")
    assert (await training.ask())["names"] == []


async def test_what_nobody_understands_is_skipped_and_counted(training: Training) -> None:
    sound = json.dumps(line(3, loss=0.5)).encode()
    bad = [
        b"no json",
        b'{"k":"m","r":0',
        b'{"k":"m","r":99,"o":"log","t":1,"s":1,"v":{"loss":1}}',
        b'{"k":"m","r":0,"o":"log","t":"noon","s":1,"v":{"loss":1}}',
        b'{"k":"m","r":0,"o":"log","t":1,"s":1,"v":{"loss":"much"}}',
        b'{"k":"d","d":"somebody else\'s","t":1,"v":{"use":1}}',
        b"[[1]]",
        b'{"k":"m","r":0,"o":"log","t":1,"s":1,"v":{"loss":1}} \xff',
    ]
    assert (await training.offer(b"\n".join([*bad, sound]), offset=0))["refused"] is None
    known = await training.ask()
    assert known["skipped"] == len(bad)
    assert [(one["name"], one["last"]) for one in known["names"]] == [("loss", 0.5)]


async def test_values_that_are_not_finite_are_gaps_and_counted(training: Training) -> None:
    values = [1.0, "nan", 0.5, "inf", "-inf", 0.25]
    await training.log(*(line(step, loss=value) for step, value in enumerate(values)))
    (series,) = (await training.ask("/history", name="loss"))["series"]
    assert series["values"] == [1.0, None, 0.5, None, None, 0.25]
    assert (series["count"], series["nonfinite"]) == (6, 3)
    (name,) = (await training.ask())["names"]
    assert (name["low"], name["high"], name["nonfinite"]) == (0.25, 1.0, 3)
    assert [point["value"] for point in await training.exported()] == values
    await training.log(line(6, loss="nan"))
    assert (await training.ask())["names"][0]["last"] == "nan"


async def test_a_step_that_was_done_twice_counts_once(training: Training) -> None:
    many = 300  # more than one block
    await training.log(*(line(step, loss=step) for step in range(many)))
    await training.begin_again()
    again = 200
    await training.log(*(line(step, loss=-step) for step in range(again, many + 50)))
    run = RunId(training.run)
    exported = await training.exported()
    assert [point["step"] for point in exported] == list(range(many + 50))
    assert {point["attempt"] for point in exported if point["step"] < again} == {1}
    (name,) = (await training.ask())["names"]
    assert (name["points"], name["high"], name["high_step"]) == (many + 50, 199, 199)
    (drawn,) = (await training.ask("/history", name="loss", points=50))["series"]
    assert max(drawn["values"]) == 199
    assert drawn["count"] == many + 50
    async with training.network.services.database.begin() as tx:
        best = await training.service.best(tx, run, "loss", "max")
        assert best is not None
        assert (best.step, best.value) == (199, 199)
        latest = await training.service.latest(tx, run)
    assert [(one.name, one.step, one.value) for one in latest] == [("loss", 349, -349)]


async def test_of_two_origins_the_more_deliberate_counts(training: Training) -> None:
    await training.log(line(0, loss=9, origin="lines"), line(1, loss=1), line(1, rank=1, loss=2))
    (name,) = (await training.ask())["names"]
    assert (name["origin"], name["points"], name["ranks"]) == ("log", 2, [0, 1])


async def test_a_point_without_a_step_gets_the_next_one(training: Training) -> None:
    await training.log(line(None, loss=1), line(None, loss=2))
    await training.log(line(10, loss=3), line(None, loss=4))
    (series,) = (await training.ask("/history", name="loss"))["series"]
    assert series["steps"] == [0, 1, 10, 11]


async def test_a_rank_or_name_that_is_not_there_is_told_with_those_that_are(
    training: Training,
) -> None:
    nothing = await training.refused("/history", 404, name="loss")
    assert "no metrics yet" in nothing["detail"]
    await training.log(line(0, val_loss=1), line(0, rank=1, accuracy=1))
    meant = await training.refused("/history", 404, name="val_los")
    assert "'val_loss'" in meant["detail"]
    assert "accuracy, val_loss" in meant["way_out"]
    other = await training.refused("/history", 404, name="accuracy", rank=0)
    assert "1" in other["way_out"]
    beyond = await training.refused("/history", 404, name="accuracy", rank=7)
    assert "the ranks 0 to 1" in beyond["detail"]


async def test_another_users_metrics_are_not_to_be_seen(training: Training) -> None:
    async with client_of(create_api(training.network.services)) as anyone:
        bob = await register(anyone)
    async with client_of(create_api(training.network.services), token=bob["token"]) as client:
        for path in ("", "/history?name=loss", "/devices", "/export", "/stream"):
            answer = await client.get(f"/api/v1/runs/{training.run}/metrics{path}")
            assert answer.status_code == 404, path


async def test_what_devices_were_used_for_stands_apart(training: Training) -> None:
    device = training.assignment.devices[0].device
    sample = {"use": 0.9, "memory_bytes": 2**30, "power_w": 55.5, "secret": 1}
    await training.log(
        *({"k": "d", "d": device, "t": 1.7e9 + at, "v": sample} for at in range(3)),
        line(0, loss=1),
    )
    shown = (await training.ask("/devices"))["series"]
    assert [(one["device"], one["name"]) for one in shown] == [
        (device, "memory_bytes"),
        (device, "power_w"),
        (device, "use"),
    ]
    assert shown[2]["values"] == [0.9] * 3
    assert [one["name"] for one in (await training.ask())["names"]] == ["loss"]


async def test_parameters_that_a_script_logs_are_kept(training: Training) -> None:
    await training.log({"k": "p", "r": 0, "v": {"lr": "0.1", "model": "mlp"}})
    await training.log({"k": "p", "r": 0, "v": {"lr": "0.2"}})
    assert (await training.ask())["params"] == {"lr": "0.2", "model": "mlp"}


async def test_names_beyond_the_limit_are_left_out_and_told_once(training: Training) -> None:
    small = MetricService(training.network.services.attempts, store=MetricStore(max_names=5))
    training.network.services.metrics, before = small, training.service
    try:
        await training.log(*(line(step, **{f"n{step}": step}) for step in range(1000)))
        await training.log(*(line(step, **{f"n{step}": step}) for step in range(1000)))
    finally:
        training.network.services.metrics = before
    known = await training.ask()
    assert [(one["name"], one["points"]) for one in known["names"]] == [
        (f"n{step}", 2) for step in range(5)
    ]
    assert known["notes"] == [limits.NAMES_FULL]
    events = (await training.ann.get(f"/api/v1/runs/{training.run}/events")).json()["items"]
    assert [one["text"] for one in events if one["kind"] == "warning"] == [limits.NAMES_FULL]


async def test_points_beyond_the_limit_are_thinned_and_told(training: Training) -> None:
    small = MetricService(training.network.services.attempts, store=MetricStore(max_points=100))
    training.network.services.metrics, before = small, training.service
    try:
        for start in (0, 90, 180):
            await training.log(*(line(step, loss=step) for step in range(start, start + 90)))
    finally:
        training.network.services.metrics = before
    known = await training.ask()
    assert [(one["points"], one["last"]) for one in known["names"]] == [(92, 269)]
    assert known["notes"] == [limits.POINTS_FULL]


async def test_many_points_are_drawn_with_the_one_peak_and_gap_among_them(
    training: Training,
) -> None:
    many, peak, gap = 200_000, 154_321, 23_456
    offset = 0
    for start in range(0, many, 10_000):
        values: dict[int, Any] = {
            step: math.sin(step / 50_000) for step in range(start, start + 10_000)
        }
        special: dict[int, Any] = {peak: 77.0, gap: '"nan"'}
        values |= {step: value for step, value in special.items() if step in values}
        lines = [
            f'{{"k":"m","r":0,"o":"log","t":{1.7e9 + step},"s":{step},"v":{{"loss":{value}}}}}\n'
            for step, value in values.items()
        ]
        offset = (await training.offer("".join(lines).encode(), offset=offset))["offset"]
    for axis in ("step", "time"):
        answer = await training.ann.get(
            f"/api/v1/runs/{training.run}/metrics/history", params={"name": "loss", "x": axis}
        )
        assert answer.elapsed.total_seconds() < 1
        (series,) = answer.json()["series"]
        assert len(series["steps"]) <= 500
        assert series["steps"] == sorted(series["steps"])
        assert series["values"][series["steps"].index(peak)] == 77.0
        assert None in series["values"]
        assert (series["count"], series["nonfinite"]) == (many, 1)
        assert series["steps"][-1] == many - 1


async def test_the_stream_tells_what_is_new_until_the_run_ends(training: Training) -> None:
    await training.log(line(0, loss=1), line(0, acc=0))
    path = f"/api/v1/runs/{training.run}/metrics/stream"
    (first,) = [json.loads(part) for part in (await training.ann.get(path)).text.splitlines()]
    assert [(one["name"], one["value"]) for one in first["values"]] == [("acc", 0), ("loss", 1)]
    await training.log(line(1, loss=0.5))
    answer = await training.ann.get(path, params={"after": first["cursor"]})
    news = json.loads(answer.text)
    assert [(one["name"], one["value"]) for one in news["values"]] == [("loss", 0.5)]
    await training.end()
    ended = await training.ann.get(path, params={"after": news["cursor"], "follow": True})
    assert json.loads(ended.text)["state"] == "succeeded"


async def test_a_name_is_stored_so_that_anything_can_show_it(training: Training) -> None:
    await training.log(line(0, **{"a\x1b[31m\u0000b": 1, "": 2, "损失": 3, "x" * 999: 4}))
    names = [one["name"] for one in (await training.ask())["names"]]
    assert names == ["(no name)", "a�[31m�b", "x" * 256, "损失"]


async def test_storing_takes_few_rows(training: Training) -> None:
    for start in range(0, 2000, 10):
        await training.log(*(line(step, loss=step) for step in range(start, start + 10)))
    async with training.network.services.database.begin() as tx:
        counted = text(
            "SELECT count(*) FROM metric_blocks b JOIN metric_series s ON s.id = b.series_id "
            "WHERE s.run_id = :run"
        )
        blocks = (await tx.execute(counted, {"run": training.run})).scalar_one()
    assert blocks <= 2000 / 64
    assert [point["step"] for point in await training.exported()] == list(range(2000))
