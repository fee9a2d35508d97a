"""Comparing runs, and sweeps, on their pages."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.live import training
from factories.network import NetworkDouble, network_on
from factories.pages import PageClient, pages_over, words_of
from factories.sweeping import SweepDouble
from tesra.kit.ids import UserId
from tesra.wire.site import Ended, Started

pytestmark = pytest.mark.postgres
EVIL = "<script>alert('x')</script>"


@dataclass
class Place:
    network: NetworkDouble
    page: PageClient
    owner: UserId

    async def run(self, loss: float, **request: Any) -> str:
        """One that has ended with a metric, free of charge."""
        begun = await training(self.network, self.owner, **request)
        assignment = begun.assignment
        line = {"k": "m", "r": 0, "o": "log", "t": 1_800_000_000.0, "s": 1, "v": {"loss": loss}}
        await self.network.site.points(assignment, json.dumps(line).encode() + b"\n")
        await self.network.site.say(assignment, Ended(outcome="succeeded", exit_code=0))
        return begun.run


@pytest_asyncio.fixture
async def place(fresh_database: FreshDatabase) -> AsyncIterator[Place]:
    async with (
        network_on(await fresh_database()) as network,
        pages_over(network.services) as page,
    ):
        await network.site.enrol(4)
        await page.register()
        owner = UserId((await page.get("/api/v1/me")).json()["id"])
        await network.project(owner)
        yield Place(network, page, owner)


async def test_runs_stand_side_by_side_with_their_differences_marked(place: Place) -> None:
    one = await place.run(0.5, params={"lr": 0.1, "same": 1})
    other = await place.run(0.25, params={"lr": 0.2, "same": 1, "note": EVIL})
    answer = await place.page.look(f"/training/compare?run={one}&run={other}")
    assert EVIL not in answer.text
    rows = {
        words_of_row[0]: row.split('"')[1]
        for row in answer.text.split("<tr class=")[1:]
        if (words_of_row := _cells(row))
    }
    assert rows["lr"] == "differs"
    assert rows["same"] == "same"
    assert rows["loss"] == "differs"
    assert rows["Entry"] == "same"
    assert json.loads(_script(answer.text, "compare-runs")) == [one, other]


async def test_without_runs_there_is_a_list_to_pick_from(place: Place) -> None:
    empty = words_of(await place.page.look("/training/compare"))
    assert "Nothing to compare yet" in empty
    run = await place.run(0.5)
    answer = await place.page.look("/training/compare")
    assert f'value="{run}"' in answer.text


async def test_nobody_elses_runs_and_sweeps_are_shown(place: Place) -> None:
    run = await place.run(0.5)
    sweep = await SweepDouble(place.network, place.owner).begin(run=_WHOLE)
    async with pages_over(place.network.services) as other:
        await other.register("eve")
        assert (await other.look(f"/training/compare?run={run}")).status_code == 404
        for path in ("", "/standing"):
            assert (await other.look(f"/training/sweeps/{sweep.id}{path}")).status_code == 404
        assert (await other.submit(f"/training/sweeps/{sweep.id}/stop")).status_code == 404


async def test_a_sweep_is_begun_once_however_often_its_form_is_sent(place: Place) -> None:
    form = await place.page.look("/training/sweeps/new")
    project = form.text.split('<option value="prj_')[1].split('"')[0]
    fields = {
        "once": "key-1",
        "project": f"prj_{project}",
        "entry": "train.py",
        "engine": "pytorch",
        "output": "out",
        "devices": "1",
        "params": "lr = loguniform(1e-4, 1)\nepochs = 3",
        "metric": "loss",
        "algorithm": "random",
        "trials": "4",
        "parallel": "2",
    }
    first = await place.page.submit("/training/sweeps/new", fields)
    assert first.status_code == 303, words_of(first)
    again = await place.page.submit("/training/sweeps/new", fields)
    assert again.headers["location"] == first.headers["location"]
    answer = await place.page.look(first.headers["location"])
    assert "The first trials are being started." in words_of(answer)
    drawn = json.loads(_script(answer.text, "sweep-data"))
    assert drawn["space"] == {"lr": "loguniform(1e-4, 1)"}
    assert first.headers["location"] in (await place.page.look("/training/sweeps")).text


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"params": "lr"}, "This line is no parameter: lr"),
        ({"params": "epochs = 3"}, "Give at least one parameter a range."),
        ({"params": "lr = uniform(1)"}, "lr"),
        ({"trials": "many"}, "Write a whole number."),
        ({"metric": ""}, "Name the metric that decides."),
        ({"metric": "throughput"}, "Whether less or more of 'throughput' is better"),
        ({"max_cost_cny": "nothing"}, "'nothing' is not an amount in yuan."),
    ],
)
async def test_what_cannot_be_is_told_and_what_was_typed_stays(
    place: Place, wrong: dict[str, str], says: str
) -> None:
    form = await place.page.look("/training/sweeps/new")
    project = form.text.split('<option value="prj_')[1].split('"')[0]
    fields = {
        "project": f"prj_{project}",
        "entry": "train.py",
        "engine": "pytorch",
        "output": "kept/here",
        "devices": "1",
        "params": "lr = uniform(0, 1)",
        "metric": "loss",
        "trials": "4",
        "parallel": "2",
    }
    answer = await place.page.submit("/training/sweeps/new", fields | wrong)
    assert answer.status_code == 422
    assert says in words_of(answer)
    assert 'value="kept/here"' in answer.text


async def test_ended_sweep_ranks_its_trials_tells_what_decides_and_goes_on(place: Place) -> None:
    double = SweepDouble(place.network, place.owner)
    space = {"lr": "loguniform(1e-4,1)", "kind": f'choice("{EVIL}", b)'}
    sweep = await double.begin(space=space, trials=12, parallel=4, run=_WHOLE)
    while await double.step():
        for trial in await double.live():
            await place.network.site.say(trial, Started(at=datetime.now(UTC)))
            params = (await place.network.run(place.owner, trial.run)).params
            await double.report(trial, float(params["lr"]))
            await place.network.site.say(trial, Ended(outcome="succeeded", exit_code=0))
    answer = await place.page.look(f"/training/sweeps/{sweep.id}")
    assert EVIL not in answer.text
    words = words_of(answer)
    assert "What decides" in words
    assert "Finished" in words
    drawn = json.loads(_script(answer.text, "sweep-data"))
    values = [trial["value"] for trial in drawn["trials"]]
    assert values == sorted(values)
    assert [trial["rank"] for trial in drawn["trials"]] == list(range(1, 13))
    refused = await place.page.submit(f"/training/sweeps/{sweep.id}/resume", trials="-1", once="a")
    assert refused.status_code == 422
    more = await place.page.submit(f"/training/sweeps/{sweep.id}/resume", trials="3", once="b")
    assert more.status_code == 303
    assert "12 / 15" in words_of(await place.page.look(f"/training/sweeps/{sweep.id}"))
    stopped = await place.page.submit(f"/training/sweeps/{sweep.id}/stop")
    assert stopped.status_code == 303
    assert "Stopping" in words_of(await place.page.look(f"/training/sweeps/{sweep.id}/standing"))


_WHOLE = {"engine": "pytorch", "output": "out", "launch": "gang"}


def _script(html: str, name: str) -> str:
    return html.split(f'id="{name}"')[1].split(">", 1)[1].split("</script>")[0]


def _cells(row: str) -> list[str]:
    name = row.split("<th")[1].split(">", 1)[1].split("</th>")[0] if "<th" in row else ""
    return [name] if name else []
