"""The home page and the notices behind the bell."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from factories.pages import PageClient, pages_over, words_of
from tesra.identity.model import Step
from tesra.kit.ids import UserId
from tesra.notices.model import Event, Happening

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def network(fresh_database: FreshDatabase) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        yield network


@pytest_asyncio.fixture
async def page(network: NetworkDouble) -> AsyncIterator[PageClient]:
    async with pages_over(network.services) as client:
        await client.register()
        yield client


async def owner_of(page: PageClient) -> UserId:
    return UserId((await page.get("/api/v1/me")).json()["id"])


async def train(network: NetworkDouble, owner: UserId, *, outcome: str = "succeeded") -> str:
    """A run that has ended, of a project of its own name."""
    run = await network.submit(owner)
    await network.dispatch()
    for assignment in await network.site.assignments():
        await network.site.train(assignment, ms=600_000, outcome=outcome)
    return run.id


async def tell(network: NetworkDouble, owner: UserId, *happenings: Happening) -> None:
    async with network.services.database.begin() as tx:
        await network.services.notices.tell(tx, owner, happenings)


async def test_signed_out_it_says_what_one_gets_for_how_much(network: NetworkDouble) -> None:
    async with pages_over(network.services) as anybody:
        english = words_of(await anybody.look("/"))
        chinese = words_of(await anybody.look("/", **{"Accept-Language": "zh-CN"}))
    assert "¥0.50 for one T·H" in english
    assert "10 GiB free" in english
    assert "训练平台" in chinese
    assert "每 T·H" in chinese


async def test_the_first_steps_tick_themselves(network: NetworkDouble, page: PageClient) -> None:
    def ticked(text: str) -> list[str]:
        return re.findall(r'(?s)<li class="is-done">.*?<span>(.*?)</span>', text)

    owner = await owner_of(page)
    assert ticked((await page.look("/")).text) == []
    await network.site.enrol(1)
    await network.project(owner)
    assert ticked((await page.look("/")).text) == ["Import a project"]
    await train(network, owner)
    shown = (await page.look("/")).text
    assert ticked(shown) == ["Import a project", "Train it"]
    assert "no further run starts" in shown
    bill = re.search(r'href="/bills/(bil_\w+)"', shown)
    assert bill
    await network.pay(owner, bill[1])
    async with network.services.database.begin() as tx:
        for step in (Step.METRICS, Step.METRICS, Step.DOWNLOAD):
            await network.services.account.note_step(tx, owner, step)
    shown = (await page.look("/")).text
    assert len(ticked(shown)) == 5
    assert "no further run starts" not in shown


async def test_the_demo_is_imported_and_leads_to_its_form(page: PageClient) -> None:
    first = await page.submit("/demo")
    assert first.headers["location"].startswith("/training/new?project=prj_")
    again = await page.submit("/demo")
    assert again.headers["location"] == first.headers["location"]
    projects = (await page.get("/api/v1/projects")).json()["items"]
    assert [(one["name"], one["snapshots"]) for one in projects] == [("pytorch-digits", 1)]


async def test_recent_runs_are_read_anew_alone(network: NetworkDouble, page: PageClient) -> None:
    owner = await owner_of(page)
    await network.site.enrol(1)
    await network.project(owner)
    run = await train(network, owner, outcome="failed")
    part = (await page.look("/?part=runs")).text
    assert "<html" not in part
    assert f"/training/runs/{run}" in part
    assert "Failed" in part


async def test_what_happens_stands_behind_the_bell(
    network: NetworkDouble, page: PageClient
) -> None:
    owner = await owner_of(page)
    await network.site.enrol(1)
    await network.project(owner)
    run = await train(network, owner)
    assert (await page.get("/api/v1/notices/unread")).json() == {"unread": 2}
    shown = await page.look("/notices")
    assert f"/training/runs/{run}" in shown.text
    assert "A bill waits to be paid" in words_of(shown)
    assert shown.text.count("data-unread") == 2
    await page.submit("/notices/read")
    assert "data-unread" not in (await page.look("/notices")).text
    assert (await page.get("/api/v1/notices/unread")).json() == {"unread": 0}


async def test_what_comes_while_one_reads_stays_unread(
    network: NetworkDouble, page: PageClient
) -> None:
    owner = await owner_of(page)
    await tell(network, owner, Happening(Event.NEAR_CAP, run="run_1", reason="<script>1</script>"))
    [seen] = (await page.get("/api/v1/notices")).json()["items"]
    await tell(network, owner, Happening(Event.CAP, run="run_1"))
    proof = {"X-CSRF-Token": page.csrf}
    left = await page.post("/api/v1/notices/read", json={"until": seen["id"]}, headers=proof)
    assert left.json() == {"unread": 1}
    shown = await page.look("/notices")
    assert "<script>1" not in shown.text
    assert "&lt;script&gt;1" in shown.text


async def test_notices_come_in_pages_and_are_nobody_elses(
    network: NetworkDouble, page: PageClient
) -> None:
    owner = await owner_of(page)
    told = [Happening(Event.AGAIN, run=f"run_{number}") for number in range(60)]
    await tell(network, owner, *told)
    first = await page.look("/notices")
    more = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert more
    second = await page.look(more[1])
    assert (first.text.count("data-notice="), second.text.count("data-notice=")) == (50, 10)
    async with pages_over(network.services) as other:
        await other.register()
        assert "Nothing has happened yet" in words_of(await other.look("/notices"))


async def test_old_notices_are_forgotten(network: NetworkDouble, page: PageClient) -> None:
    owner = await owner_of(page)
    await tell(network, owner, Happening(Event.ENDED, run="run_1"))
    inbox, now = network.services.notices.inbox, network.services.clock.now()
    async with network.services.database.begin() as tx:
        await inbox.purge(tx, now=now)
        assert await inbox.unread(tx, owner) == 1
        await inbox.purge(tx, now=now.replace(year=now.year + 1))
        assert await inbox.unread(tx, owner) == 0
