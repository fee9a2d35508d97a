"""Removing a project: what its runs need stays, the rest becomes garbage, what is in use is refused."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import select

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from factories.pages import PageClient, pages_over, words_of
from tesra.drive.collection import Collector
from tesra.drive.model import ProjectUnknown
from tesra.drive.repository import snapshots
from tesra.kit.ids import RunId, UserId
from tesra.training.projects import ProjectInUse
from tesra.wire.drive import ProjectRemoved

pytestmark = pytest.mark.postgres


@dataclass
class Place:
    network: NetworkDouble
    page: PageClient
    me: UserId

    async def remove(self, project: str = "digits") -> ProjectRemoved:
        async with self.network.services.database.begin() as tx:
            return await self.network.services.projects.remove(tx, self.me, project)

    async def trained(self) -> RunId:
        run = await self.network.submit(self.me)
        await self.network.dispatch()
        (assignment,) = await self.network.site.assignments()
        await self.network.site.train(assignment)
        return RunId(run.id)

    async def stored(self) -> set[str]:
        async with self.network.services.database.begin() as tx:
            return set((await tx.execute(select(snapshots.c.id))).scalars())

    async def garbage(self) -> int:
        services = self.network.services
        collector = Collector(
            services.database,
            services.drive,
            services.private,
            services.peers,
            upload=timedelta(0),
        )
        return (await collector.collect(self.me, dry_run=True)).found

    async def delete(self, page: PageClient, project: str) -> httpx.Response:
        await page.look("/")
        return await page.delete(f"/api/v1/projects/{project}", headers={"X-CSRF-Token": page.csrf})


@pytest_asyncio.fixture
async def place(fresh_database: FreshDatabase) -> AsyncIterator[Place]:
    async with network_on(await fresh_database()) as network, pages_over(network.services) as page:
        await network.site.enrol(2)
        await page.register()
        async with network.services.database.begin() as tx:
            me = (await network.services.identity.user_by_name(tx, page.name)).id
        yield Place(network, page, me)


async def test_what_no_run_used_becomes_garbage_and_the_name_is_free(place: Place) -> None:
    await place.network.project(place.me, train="print(1)\n" * 100)
    assert await place.garbage() == 0
    answer = await place.delete(place.page, "digits")
    assert answer.status_code == 200
    assert (answer.json()["removed"], answer.json()["kept"]) == (1, 0)
    assert await place.stored() == set()
    assert await place.garbage() > 0
    again = await place.delete(place.page, "digits")
    assert again.status_code == 404
    await place.network.project(place.me, train="print(1)\n" * 100)
    assert await place.garbage() == 0


async def test_records_and_bills_of_its_runs_stay_with_their_code(place: Place) -> None:
    await place.network.project(place.me, train="print(1)\n")
    run = await place.trained()
    newer = await place.network.project(place.me, train="print(2)\n")
    removed = await place.remove()
    assert (removed.removed, removed.kept) == (1, 1)
    kept = await place.network.run(place.me, run)
    assert kept.bill is not None
    assert newer.snapshot not in await place.stored()
    record = await place.network.services.records.record(place.me, run)
    assert record is not None
    code = await place.network.services.drive.list_files(kept.snapshot)  # type: ignore[arg-type]
    assert [file.path for file in code] == ["train.py"]
    answer = await place.page.look(f"/training/runs/{run}")
    assert "digits" in words_of(answer)


async def test_what_another_project_has_too_stays(place: Place) -> None:
    twin = await place.network.project(place.me, "digits", train="print(1)\n")
    other = await place.network.project(place.me, "copy", train="print(1)\n")
    assert twin.snapshot == other.snapshot
    removed = await place.remove("digits")
    assert (removed.removed, removed.kept) == (0, 1)
    assert twin.snapshot in await place.stored()
    assert (await place.remove("copy")).removed == 1


async def test_a_project_whose_run_is_active_is_not_removed(place: Place) -> None:
    await place.network.project(place.me)
    run = await place.network.submit(place.me)
    for _ in range(2):  # queued, then placed
        with pytest.raises(ProjectInUse) as refused:
            await place.remove()
        assert run.id in refused.value.detail
        assert f"tesra stop {run.id}" in str(refused.value.way_out)
        await place.network.dispatch()
    (assignment,) = await place.network.site.assignments()
    await place.network.site.train(assignment)
    assert (await place.remove()).kept == 1


async def test_a_run_begins_on_no_project_that_is_being_removed(place: Place) -> None:
    """Whoever is first has it: the other waits, and finds it gone, or in use."""
    await place.network.project(place.me)
    services = place.network.services
    async with services.database.begin() as tx:
        await services.drive.project(tx, place.me, "digits", hold="to use")
        async with services.database.begin() as other:
            await services.drive.project(other, place.me, "digits", hold="to use")
        await services.projects.remove(tx, place.me, "digits")
    with pytest.raises(ProjectUnknown):
        await place.network.submit(place.me)


async def test_nobody_removes_what_is_anothers(place: Place) -> None:
    project = await place.network.project(place.me)
    async with pages_over(place.network.services) as eve:
        await eve.register("eve")
        assert (await place.delete(eve, project.id)).status_code == 404
        refused = await eve.submit(f"/training/projects/{project.id}/remove")
        assert refused.status_code == 404
    assert (await place.page.look(f"/training/projects/{project.id}")).status_code == 200


async def test_the_page_asks_first_and_says_what_is_in_the_way(place: Place) -> None:
    project = await place.network.project(place.me)
    here = f"/training/projects/{project.id}"
    assert 'data-ask="Remove this project' in (await place.page.look(here)).text
    run = await place.network.submit(place.me)
    refused = await place.page.submit(f"{here}/remove")
    assert refused.status_code == 409
    assert f"'digits' is in use by {run.id}." in words_of(refused)
    await place.network.stop(place.me, run.id)
    done = await place.page.submit(f"{here}/remove")
    assert done.headers["location"] == "/training/projects"
    assert "digits is removed." in words_of(await place.page.look("/training/projects"))
