"""A run's page: its head, its parts, what a member can do there, and what others can't."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.live import Training, training
from factories.network import NetworkDouble, network_on
from factories.pages import PageClient, pages_over, words_of
from tesra.kit.ids import UserId
from tesra.wire.site import Checkpoint, Ended, Started, Usage
from tesra.wire.tuning import RankTook, Tuned, TunedChange

pytestmark = pytest.mark.postgres
EVIL = "<script>alert('x')</script>"


@dataclass
class Place:
    """A network, somebody's session, and who it is."""

    network: NetworkDouble
    page: PageClient
    owner: UserId

    async def training(self, **request: Any) -> Training:
        begun = await training(self.network, self.owner, **request)
        await self.network.site.say(begun.assignment, Started(at=datetime.now(UTC)))
        return begun

    async def log(self, begun: Training, *lines: dict[str, Any]) -> None:
        """Metrics, as the node's spool has them."""
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        await self.network.site.points(begun.assignment, data)

    async def fund(self, micros: int = 100_000_000) -> None:
        services = self.network.services
        async with services.database.begin() as tx:
            _, token = await services.identity.bootstrap_operator(tx)
            operator = await services.identity.authenticate(tx, token)
            await services.billing.topup(tx, operator.user_id, self.owner, amount_micros=micros)


def point(step: int, **values: Any) -> dict[str, Any]:
    return {"k": "m", "r": 0, "o": "log", "t": 1_800_000_000.0 + step, "s": step, "v": values}


async def user_of(page: PageClient) -> UserId:
    return UserId((await page.get("/api/v1/me")).json()["id"])


@pytest_asyncio.fixture
async def place(fresh_database: FreshDatabase) -> AsyncIterator[Place]:
    async with (
        network_on(await fresh_database(), welcome_voucher_micros=0) as network,
        pages_over(network.services) as page,
    ):
        await network.site.enrol(4)
        await page.register()
        owner = await user_of(page)
        await network.project(owner)
        yield Place(network, page, owner)


async def end(place: Place, begun: Training, **more: Any) -> None:
    """With an hour of use, a checkpoint and an output."""
    site = place.network.site
    usage = Usage(number=1, started_at=datetime.now(UTC), duration_ms=600_000)
    await site.say(begun.assignment, usage)
    await site.say(begun.assignment, await stored(place, begun))
    output = await place.network.store(
        place.owner, begun.run, {"model.bin": "weights", "notes <b>.txt": "hi"}
    )
    said = {"outcome": "succeeded", "exit_code": 0, "output": output} | more
    await site.say(begun.assignment, Ended(**said))


async def stored(place: Place, begun: Training) -> Checkpoint:
    """A checkpoint that is finished now."""
    files = {"checkpoints/state.bin": "x"}
    return Checkpoint(
        number=1,
        snapshot=await place.network.store(place.owner, begun.run, files),
        ran_ms=30_000,
        finished_at=datetime.now(UTC),
        files=1,
        size_bytes=1,
        newest="checkpoints/state.bin",
        step=7,
        resumed=False,
    )


async def test_waiting_run_tells_its_place_and_why_it_waits(place: Place) -> None:
    for _ in range(3):
        run = await place.network.submit(place.owner, devices=4)
    await place.network.dispatch()
    words = words_of(await place.page.look(f"/training/runs/{run.id}"))
    assert "Place 2 of 2 in the queue." in words


async def test_reasons_with_figures_are_told_in_chinese(place: Place) -> None:
    begun = await place.training()
    waiting = await place.network.submit(place.owner, devices=4)
    await place.page.submit("/language", to="zh-CN")
    words = words_of(await place.page.look(f"/training/runs/{waiting.id}"))
    assert "需要 4 台设备：4 台设备中 3 台空闲。" in words
    reason = f"Rank 0 ended with exit code 3 on node a.\nIt said {EVIL}"
    await end(place, begun, outcome="failed", exit_code=3, reason=reason)
    for path in (f"/training/runs/{begun.run}", "/notices"):
        words = words_of(await place.page.look(path))
        assert f"节点 a 上的进程 0 以退出码 3 结束。 It said {EVIL}" in words
    words = words_of(await place.page.look("/training"))
    assert "节点 a 上的进程 0 以退出码 3 结束。" in words


async def test_running_run_can_be_stopped_and_says_how_far_it_is(place: Place) -> None:
    begun = await place.training(params={"lr": 0.1}, max_cost_cny="5", max_time_s=7200)
    answer = await place.page.look(f"/training/runs/{begun.run}")
    assert 'aria-current="step">Running' in answer.text
    words = words_of(answer)
    assert "Cost cap ¥5.00" in words
    assert "Time cap 2h" in words
    stopped = await place.page.submit(f"/training/runs/{begun.run}/stop")
    assert stopped.headers["location"] == f"/training/runs/{begun.run}"
    words = words_of(await place.page.look(f"/training/runs/{begun.run}"))
    assert "The run is being stopped." in words
    assert "Stopping …" in words


async def test_a_stop_without_the_pages_proof_stops_nothing(place: Place) -> None:
    begun = await place.training()
    forged = await place.page.submit(f"/training/runs/{begun.run}/stop", csrf="0" * 40)
    assert forged.status_code == 403
    assert (await place.network.run(place.owner, begun.run)).state == "running"


async def test_a_token_that_may_only_read_changes_nothing(place: Place) -> None:
    begun = await place.training()
    await place.page.look("/")
    made = await place.page.post(
        "/api/v1/tokens",
        json={"name": "looks", "scopes": ["read"]},
        headers={"X-CSRF-Token": place.page.csrf},
    )
    assert made.status_code == 201, made.text
    async with pages_over(place.network.services) as looker:
        await looker.submit("/sign-in", token=made.json()["token"])
        assert (await looker.look(f"/training/runs/{begun.run}")).status_code == 200
        for act in ("stop", "pay", "resume"):
            refused = await looker.submit(f"/training/runs/{begun.run}/{act}")
            assert refused.status_code == 403
    assert (await place.network.run(place.owner, begun.run)).state == "running"


async def test_names_that_are_html_are_text(place: Place) -> None:
    begun = await place.training(
        params={"note": EVIL}, args=[EVIL], env={"SAID": EVIL}, ranges={"note": {"choices": [EVIL]}}
    )
    await end(place, begun, outcome="failed", exit_code=3, reason=f"It said {EVIL}")
    for part in ("", "/head", "/tune", "/files"):
        answer = await place.page.look(f"/training/runs/{begun.run}{part}")
        assert answer.status_code == 200, answer.text
        assert EVIL not in answer.text
    assert EVIL in words_of(await place.page.look(f"/training/runs/{begun.run}"))


@pytest.mark.parametrize("part", ["", "/head", "/tune", "/files", "/lock.txt", "/metrics.csv"])
async def test_nobody_elses_run_is_there(place: Place, part: str) -> None:
    begun = await place.training()
    async with pages_over(place.network.services) as other:
        await other.register("eve")
        assert (await other.look(f"/training/runs/{begun.run}{part}")).status_code == 404
        refused = await other.submit(f"/training/runs/{begun.run}/stop")
        assert refused.status_code == 404
    async with pages_over(place.network.services) as nobody:
        asked = await nobody.get(
            f"/training/runs/{begun.run}{part}", headers={"Accept": "text/html"}
        )
        assert asked.status_code == 303
        assert asked.headers["location"].startswith("/sign-in?next=")


async def test_ended_run_gives_its_files_its_bill_and_its_record(place: Place) -> None:
    begun = await place.training()
    await end(place, begun)
    answer = await place.page.look(f"/training/runs/{begun.run}")
    run = await place.network.run(place.owner, begun.run)
    assert f'href="/api/v1/drive/snapshots/{run.output}/archive.zip"' in answer.text
    assert f"/training/new?project={run.project}&amp;run={run.id}" in answer.text
    assert f'href="/bills/{run.bill}"' in answer.text
    assert f'href="/api/v1/runs/{run.id}/record"' in answer.text
    assert "unpaid" in words_of(answer)
    files = await place.page.look(f"/training/runs/{begun.run}/files")
    assert f"/snapshots/{run.output}/files/notes%20%3Cb%3E.txt" in files.text
    assert "Go on from here" in words_of(files)
    fetched = await place.page.get(f"/api/v1/drive/snapshots/{run.output}/files/model.bin")
    assert fetched.content == b"weights"


async def test_the_bill_is_paid_in_place_and_once(place: Place) -> None:
    begun = await place.training()
    await end(place, begun)
    short = await place.page.submit(f"/training/runs/{begun.run}/pay", once="key-0")
    assert short.status_code == 402
    assert begun.run in short.text
    await place.fund()
    for _ in range(2):
        paid = await place.page.submit(f"/training/runs/{begun.run}/pay", once="key-1")
        assert paid.status_code == 303
    assert "paid" in words_of(await place.page.look(f"/training/runs/{begun.run}"))
    wallet = (await place.page.get("/api/v1/wallet")).json()
    run = await place.network.run(place.owner, begun.run)
    assert float(wallet["balance_cny"]) == pytest.approx(100 - float(run.amount_cny or 0))


async def test_a_new_run_goes_on_from_a_checkpoint_once_for_two_clicks(place: Place) -> None:
    await place.fund()
    begun = await place.training()
    live = await place.page.submit(f"/training/runs/{begun.run}/resume", checkpoint="1", once="k0")
    assert live.status_code == 409
    await end(place, begun)
    await place.page.submit(f"/training/runs/{begun.run}/pay", once="key-1")
    fields = {"checkpoint": "1", "once": "key-2"}
    first = await place.page.submit(f"/training/runs/{begun.run}/resume", fields)
    again = await place.page.submit(f"/training/runs/{begun.run}/resume", fields)
    assert first.status_code == 303
    assert again.headers["location"] == first.headers["location"]
    words = words_of(await place.page.look(first.headers["location"]))
    assert begun.run in words
    assert "checkpoint 1" in words


async def test_tuning_shows_ranges_and_what_was_asked_for(place: Place) -> None:
    begun = await place.training(
        params={"lr": 0.1, "batch": 32}, ranges={"lr": {"low": 1e-4, "high": 1}}
    )
    asked = await place.page.post(
        f"/api/v1/runs/{begun.run}/tuning",
        json={"values": {"lr": 0.01}},
        headers={"X-CSRF-Token": place.page.csrf},
    )
    assert asked.status_code == 201, asked.text
    answer = await place.page.look(f"/training/runs/{begun.run}/tune")
    assert 'data-low="0.0001"' in answer.text
    assert 'data-high="1.0"' in answer.text
    words = words_of(answer)
    assert "lr: 0.1 → 0.01" in words
    assert "Withdraw" in words
    assert "0 of 1 ranks count their steps" in words
    await end(place, begun)
    after = words_of(await place.page.look(f"/training/runs/{begun.run}/tune"))
    assert "nothing of it can be changed any more" in after
    assert "Apply changes" not in after


async def test_a_change_that_was_made_names_the_checkpoint_to_go_back_to(place: Place) -> None:
    begun = await place.training(params={"lr": 0.1})
    tuned = f"/training/runs/{begun.run}/tune"
    for seq, value in enumerate((0.01, 0.02), 1):
        asked = await place.page.post(
            f"/api/v1/runs/{begun.run}/tuning",
            json={"values": {"lr": value}},
            headers={"X-CSRF-Token": place.page.csrf},
        )
        assert asked.status_code == 201, asked.text
        change = TunedChange(seq=seq, state="applied", step=seq, ranks=[RankTook(rank=0, step=seq)])
        await place.network.site.say(begun.assignment, Tuned(changes=[change]))
        if seq == 1:
            assert "data-rollback" not in (await place.page.look(tuned)).text
            await place.network.site.say(begun.assignment, await stored(place, begun))
    answer = await place.page.look(tuned)
    assert re.findall(r'data-rollback="(\d+)"', answer.text) == ["2"]
    assert "Go back to checkpoint 1, the last one before this change" in answer.text
    assert words_of(answer).count("No checkpoint before it to go back to") == 1
    files = words_of(await place.page.look(f"/training/runs/{begun.run}/files"))
    assert "checkpoints/state.bin" in files


async def test_metrics_are_a_table_that_no_spreadsheet_computes(place: Place) -> None:
    begun = await place.training()
    await place.log(begun, point(1, loss=0.5, **{"=1+1": 1.0}), point(2, loss="nan"))
    answer = await place.page.get(f"/training/runs/{begun.run}/metrics.csv?name=loss")
    assert answer.headers["content-disposition"].startswith("attachment")
    lines = answer.text.splitlines()
    assert lines[0] == "name,rank,step,time,value,attempt"
    assert [line.split(",")[2:5:2] for line in lines[1:]] == [["1", "0.5"], ["2", "nan"]]
    everything = (await place.page.get(f"/training/runs/{begun.run}/metrics.csv")).text
    assert "\n'=1+1,0,1," in everything
    assert (
        await place.page.get(f"/training/runs/{begun.run}/metrics.csv?name=no")
    ).status_code == 404


async def test_the_page_is_chinese_for_who_reads_chinese(place: Place) -> None:
    begun = await place.training(devices=2)
    answer = await place.page.look(f"/training/runs/{begun.run}", **{"Accept-Language": "zh"})
    for word in ("运行中", "在线调参", "文件与断点", "全部进程", "停止"):
        assert word in words_of(answer)
