"""The pages of 训练平台: records, projects, import and the form, without a browser."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import insert, select

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from factories.pages import PageClient, pages_over, words_of
from tesra.kit.ids import RunId, UserId, new_id
from tesra.training.tables import runs
from tesra.wire.training import RunLabels

pytestmark = pytest.mark.postgres
NASTY = "<img src=x onerror=alert(1)>"  # a name can hold no slash


@pytest_asyncio.fixture
async def network(fresh_database: FreshDatabase) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


@pytest_asyncio.fixture
async def page(network: NetworkDouble) -> AsyncIterator[PageClient]:
    async with pages_over(network.services) as client:
        await client.register()
        yield client


@pytest_asyncio.fixture
async def me(network: NetworkDouble, page: PageClient) -> UserId:
    async with network.services.database.begin() as tx:
        return (await network.services.identity.user_by_name(tx, page.name)).id


async def ended(network: NetworkDouble, owner: UserId, **request: object) -> str:
    """A run that has gone well, and is paid for."""
    run = await network.submit(owner, **request)
    await network.dispatch()
    [assignment] = [a for a in await network.site.assignments() if a.run == run.id]
    await network.site.train(assignment)
    await network.pay(owner, (await network.run(owner, run.id)).bill)
    return run.id


# --- records ----------------------------------------------------------------------------------


async def test_who_has_trained_nothing_is_led_to_the_import(page: PageClient) -> None:
    answer = await page.look("/training")
    assert "Nothing has been trained yet." in words_of(answer)
    assert 'href="/training/import"' in answer.text


async def test_a_record_leads_to_its_run_its_bill_and_the_form(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me)
    run = await ended(network, me)
    shown = await page.look("/training")
    bill = (await network.run(me, run)).bill
    assert "Succeeded" in words_of(shown)
    for address in (f"/training/runs/{run}", f"/bills/{bill}", f"run={run}"):
        assert address in shown.text


async def test_a_row_whose_run_has_an_output_downloads_the_model(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me)
    run = await network.submit(me)
    commit = await network.store(me, run.id, {"model.bin": "weights"})
    assert "Download model" not in words_of(await page.look("/training"))
    async with network.services.database.begin() as tx:
        snapshot = await network.services.drive.commit_snapshot(tx, me, commit, kind="output")
        await tx.execute(runs.update().where(runs.c.id == run.id).values(output_id=snapshot.id))
    row = await page.look(f"/training/rows/{run.id}")
    address = row.text.split('href="/api/v1/drive/')[1].split('"')[0]
    archive = await page.get(f"/api/v1/drive/{address}")
    assert "Download model" in words_of(row)
    assert archive.headers["content-disposition"].startswith("attachment")
    assert archive.content.startswith(b"PK")


async def test_records_are_found_by_state_project_tag_and_text(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me, "one")
    await network.project(me, "two")
    done = await ended(network, me, project="one")
    waits = (await network.submit(me, project="two")).id
    labels = RunLabels(tags=["paper"], note="50% dropout")
    async with network.services.database.begin() as tx:
        await network.services.training.label(tx, me, RunId(done), labels)
    for query, run in {
        "state=succeeded": done,
        "state=live": waits,
        "project=two": waits,
        "tag=paper": done,
        "q=50%25+drop": done,
        "q=TWO": waits,
    }.items():
        text = (await page.look(f"/training?{query}")).text
        assert [r for r in (done, waits) if f'data-run="{r}"' in text] == [run], query
    nothing = await page.look("/training?q=50_+drop")
    assert "No run fits." in words_of(nothing)


async def test_ten_thousand_records_are_paged_without_gap_or_repeat(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me)
    first = await network.submit(me)
    async with network.services.database.begin() as tx:
        like = dict((await tx.execute(select(runs).where(runs.c.id == first.id))).one()._mapping)
        before = datetime.now(UTC) - timedelta(days=1)
        rows = [
            {**like, "id": new_id("run"), "state": "stopped", "created_at": before}
            for _ in range(10_000)
        ]
        for start in range(0, len(rows), 500):
            await tx.execute(insert(runs), rows[start : start + 500])
    seen: list[str] = []
    address = "/training"
    for _ in range(4):
        text = (await page.look(address)).text
        seen += [part.split('"')[0] for part in text.split('<tr data-run="')[1:]]
        address = text.split('rel="next" href="')[1].split('"')[0]
        assert "state=" not in address
    assert len(seen) == len(set(seen)) == 200
    assert seen == sorted([row["id"] for row in rows] + [first.id], reverse=True)[:200]


async def test_a_users_text_is_text(network: NetworkDouble, page: PageClient, me: UserId) -> None:
    await network.project(me, NASTY)
    run = await network.submit(me, project=NASTY)
    labels = {"tags": [NASTY], "note": NASTY}
    headers = {"X-CSRF-Token": page.csrf}
    assert (
        await page.patch(f"/api/v1/runs/{run.id}", json=labels, headers=headers)
    ).status_code == 200
    shown = await page.look(f"/training?tag={NASTY}&project={NASTY}&q={NASTY}")
    assert NASTY not in shown.text
    assert words_of(shown).count(NASTY) >= 3


async def test_labels_that_can_not_be_are_refused_and_what_is_left_out_stays(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me)
    run = await network.submit(me)

    async def patch(body: object) -> tuple[int, dict[str, object]]:
        answer = await page.patch(
            f"/api/v1/runs/{run.id}", json=body, headers={"X-CSRF-Token": page.csrf}
        )
        return answer.status_code, answer.json()

    assert (await patch({"tags": [" a ", "a", "b"], "note": " n "}))[0] == 200
    status, shown = await patch({"note": "other"})
    assert (status, shown["tags"], shown["note"]) == (200, ["a", "b"], "other")
    assert (await patch({"tags": ["x" * 41]}))[0] == 422
    assert (await patch({"tags": ["a,b"]}))[0] == 422
    assert (await patch({"tags": [f"t{n}" for n in range(21)]}))[0] == 422


async def test_runs_of_others_are_not_there(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    other = await network.user()
    await network.project(other)
    run = await network.submit(other)
    assert (await page.look(f"/training/rows/{run.id}")).status_code == 404
    answer = await page.patch(
        f"/api/v1/runs/{run.id}", json={"note": "x"}, headers={"X-CSRF-Token": page.csrf}
    )
    assert answer.status_code == 404
    assert run.id not in (await page.look("/training")).text
