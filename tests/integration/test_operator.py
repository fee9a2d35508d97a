"""What operators read over HTTP: machines, money, the queue, jobs; and that nobody else does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from tesra.db.job_board import RECENT, counts, keeping_failures
from tesra.kit.ids import UserId
from tesra.kit.money import format_micros
from tesra.web.api import create_api

pytestmark = pytest.mark.postgres

MOST_MS = 600_000  # of one usage record; what is billed is no more than the time that has passed
DEADLINE_S = 20


@dataclass
class Desk:
    """An operator's calls."""

    network: NetworkDouble
    client: httpx.AsyncClient

    async def get(self, path: str) -> Any:
        answer = await self.client.get(f"/api/v1/operator{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.client.post(f"/api/v1/operator{path}", json=body)

    async def name(self, user: UserId) -> str:
        async with self.network.services.database.begin() as tx:
            return (await self.network.services.identity.user(tx, user)).name


@pytest_asyncio.fixture
async def network(fresh_database: FreshDatabase) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


def calls(network: NetworkDouble, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_api(network.services)),
        base_url="http://operator.test",
        headers={"Authorization": f"Bearer {token}"},
    )


@pytest_asyncio.fixture
async def desk(network: NetworkDouble) -> AsyncIterator[Desk]:
    async with network.services.database.begin() as tx:
        _, token = await network.services.identity.bootstrap_operator(tx)
    async with calls(network, token) as client:
        yield Desk(network, client)


async def running(network: NetworkDouble, owner: UserId, devices: int = 1) -> Any:
    """A run of the owner's that holds devices; the assignment."""
    await network.project(owner, f"p{owner[-6:]}")
    run = await network.submit(owner, project=f"p{owner[-6:]}", devices=devices)
    await network.dispatch()
    return next(one for one in await network.site.assignments() if one.run == run.id)


async def test_the_map_tells_devices_apart_and_names_no_run(
    network: NetworkDouble, desk: Desk
) -> None:
    assignment = await running(network, await network.user())
    told = await desk.get("/network")
    [node] = told["sites"][0]["nodes"]
    assert sorted(device["state"] for device in node["devices"]) == ["busy", "free"]
    assert node["runs"] == 1
    assert assignment.run not in str(told)
    totals = told["totals"]
    assert (totals["devices"], totals["devices_free"], totals["devices_busy"]) == (2, 1, 1)
    assert (totals["rating_t"], totals["runs_live"], totals["runs_waiting"]) == ("2", 1, 0)


async def test_sums_are_exact(network: NetworkDouble, desk: Desk) -> None:
    owner = await network.user()
    await network.site.train(await running(network, owner), ms=MOST_MS)
    name = await desk.name(owner)
    await desk.post("/topups", user=name, amount_cny="12.34")
    await desk.post("/vouchers", amount_cny="7")
    told = (await desk.get("/network"))["totals"]
    [bill] = await bills(network, owner)
    assert bill.amount_micros > 0
    assert told["unpaid_cny"] == told["day_cny"] == told["month_cny"] == bill.amount_cny
    assert (told["day_th"], told["unpaid_bills"]) == (format_micros(bill.micro_th), 1)
    assert (told["wallets_cny"], told["issued_cny"]) == ("12.34", "7.00")
    stand = await desk.get(f"/users/{name}")
    assert (stand["unpaid_cny"], stand["wallet_cny"]) == (bill.amount_cny, "12.34")
    assert (stand["limit_cny"], stand["second_factor"]) == ("100.00", False)
    [node] = (await desk.get("/network"))["sites"][0]["nodes"]
    assert node["last_day"]["th"] == format_micros(bill.micro_th)
    assert node["last_day"]["attempts"] == 1


async def bills(network: NetworkDouble, owner: UserId) -> Any:
    async with network.services.database.begin() as tx:
        return await network.services.billing.bills(tx, owner)


async def test_issued_vouchers_are_listed_without_codes_and_say_who_redeemed_them(
    network: NetworkDouble, desk: Desk
) -> None:
    owner = await network.user()
    name = await desk.name(owner)
    mine = (await desk.post("/vouchers", amount_cny="3", for_user=name)).json()["code"]
    await desk.post("/vouchers", amount_cny="4")
    async with network.services.database.begin() as tx:
        await network.services.billing.redeem(tx, owner, mine)
    first = await desk.get("/vouchers?limit=1")
    [newest] = first["items"]
    assert (newest["amount_cny"], newest["state"]) == ("4.00", "open")
    [older] = (await desk.get(f"/vouchers?limit=1&cursor={first['next']}"))["items"]
    assert (older["for_user"], older["redeemed_by"], older["state"]) == (name, name, "redeemed")
    assert older["issued_by"] == "operator"
    assert mine not in str(older)


async def test_top_ups_are_paged_and_one_is_taken_back_while_it_is_there(
    network: NetworkDouble, desk: Desk
) -> None:
    owner = await network.user()
    name = await desk.name(owner)
    for amount in ("1", "2", "3"):
        assert (await desk.post("/topups", user=name, amount_cny=amount)).status_code == 201
    seen, cursor = [], ""
    while cursor is not None:
        page = await desk.get(f"/topups?limit=2&cursor={cursor}")
        seen += [(one["amount_cny"], one["user"], one["by"]) for one in page["items"]]
        newest, cursor = page["items"][-1]["id"], page["next"]
    assert seen == [(f"{amount}.00", name, "operator") for amount in (3, 2, 1)]
    assert (await desk.post("/topups/take-back", id=newest, reason="typo")).status_code == 204
    assert (await desk.post("/topups/take-back", id=newest, reason="typo")).status_code == 409
    assert [one["reversed"] for one in (await desk.get("/topups"))["items"]] == [
        False,
        False,
        True,
    ]
    assert (await desk.get(f"/users/{name}"))["wallet_cny"] == "5.00"


async def test_the_queue_says_who_waits_and_why(network: NetworkDouble, desk: Desk) -> None:
    busy, waiting = await network.user("busy"), await network.user("later")
    await running(network, busy, devices=2)
    await network.project(waiting)
    run = await network.submit(waiting, devices=1)
    told = await desk.get("/queue")
    [entry] = told["runs"]
    assert (entry["run"], entry["owner"]) == (run.id, await desk.name(waiting))
    assert entry["place"]["waits_for"] == "devices"
    assert (told["total"], told["live"]) == (1, 1)
    assert "digits" not in str(told)  # a project's name is its user's own
    assert told["turns"][0]["waiting"] == 1


async def test_the_queue_shows_a_run_that_is_held_up_for_money(
    network: NetworkDouble, desk: Desk
) -> None:
    owner = await network.user()
    await network.project(owner)
    run = await network.submit(owner, devices=1)
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE runs SET phase = 'payment due', reason = 'Owes CNY 1.00.'"))
    [entry] = (await desk.get("/queue"))["runs"]
    assert entry["run"] == run.id
    assert (entry["place"]["place"], entry["place"]["waits_for"]) == (None, "payment")
    assert entry["place"]["why"] == "Owes CNY 1.00."


async def test_users_are_found_by_any_part_of_their_name(
    network: NetworkDouble, desk: Desk
) -> None:
    owner = await network.user("Müller")
    await network.user("other")
    found = (await desk.get("/users?search=ÜLL"))["items"]
    assert [one["id"] for one in found] == [owner]
    assert (await desk.get("/users?search=%25"))["items"] == []


async def test_a_failed_job_is_told_with_its_error_and_done_again(
    network: NetworkDouble, desk: Desk
) -> None:
    jobs, database = network.services.jobs, network.services.database
    broken = True

    @jobs.task(name="mend")
    async def mend() -> None:
        if broken:
            raise ValueError("no <b>tools</b>")

    async with jobs.open_async():
        await mend.defer_async()

        async def work() -> None:
            await jobs.run_worker_async(
                wait=False,
                install_signal_handlers=False,
                worker_middleware=[keeping_failures(database)],
            )

        await asyncio.wait_for(work(), DEADLINE_S)
        told = await desk.get("/jobs")
        [failed] = told["failed_jobs"]["items"]
        assert (failed["task"], failed["words"]) == ("mend", "ValueError: no <b>tools</b>")
        assert (told["failed"], told["waiting"]) == (1, 0)
        broken = False
        assert (await desk.post(f"/jobs/{failed['id']}/retry")).status_code == 204
        assert (await desk.post(f"/jobs/{failed['id']}/retry")).status_code == 409
        await asyncio.wait_for(work(), DEADLINE_S)
    async with database.begin() as tx:
        after = await counts(tx)
    assert (after.failed, after.succeeded) == (0, 1)
    assert (await desk.post(f"/jobs/{RECENT}/retry")).status_code == 404


async def test_a_survey_of_garbage_changes_nothing(network: NetworkDouble, desk: Desk) -> None:
    await network.project(await network.user())
    answer = (await desk.post("/collections/survey")).json()
    assert (answer["looked_at"], answer["locked"]) == (answer["drives"], 0)
    assert answer["drives"] >= 1
    assert answer["packs"] == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/network"),
        ("GET", "/users/ann"),
        ("GET", "/vouchers"),
        ("GET", "/topups"),
        ("POST", "/topups/take-back"),
        ("GET", "/queue"),
        ("GET", "/jobs"),
        ("POST", "/jobs/1/retry"),
        ("POST", "/collections/survey"),
    ],
)
async def test_users_are_refused(network: NetworkDouble, method: str, path: str) -> None:
    hashed = await network.services.identity.prepare_password("correct horse battery")
    async with network.services.database.begin() as tx:
        _, issued = await network.services.identity.register(tx, "mallory", password_hash=hashed)
    async with calls(network, issued.text) as client:
        answer = await client.request(method, f"/api/v1/operator{path}", json={})
    assert answer.status_code == 403
    assert answer.json()["code"] == "operator_only"
