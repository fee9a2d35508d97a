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


# --- the form ---------------------------------------------------------------------------------

SCRIPT = """
import argparse, torch
p = argparse.ArgumentParser()
p.add_argument("--lr", type=float, default=0.1)
p.parse_args()
torch.save({}, "out/model.pt")
"""


async def fill(page: PageClient, **more: object) -> dict[str, object]:
    """The fields of the form of project ``digits`` as the page has them."""
    text = (await page.look("/training/new?project=digits")).text
    form = text.split('<form id="run-form"')[1].split("</form>")[0]
    found = {
        name: value
        for name in ("once", "project", "entry", "output")
        for value in [form.split(f'name="{name}"')[1].split('value="')[1].split('"')[0]]
    }
    return {"engine": "pytorch", "devices": "1", **found, **more}


async def count_runs(network: NetworkDouble, owner: UserId) -> int:
    async with network.services.database.begin() as tx:
        return len(await network.services.training.runs(tx, owner))


async def test_the_form_has_what_the_code_says(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me, train=SCRIPT, helper="def f(): pass")
    shown = await page.look("/training/new?project=digits")
    form = await fill(page)
    assert (form["entry"], form["output"]) == ("train.py", "out")
    assert "+ lr = 0.1" in words_of(shown)
    assert "imports torch" in words_of(shown)


async def test_start_leads_to_the_run_with_everything_that_was_typed(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me, train=SCRIPT)
    form = await fill(page, launch="gang", devices="2", args="--name 'a b'", priority="high")
    form |= {"param_name": ["lr", "on", "note", ""], "param_kind": ["float", "bool", "str", "str"]}
    form |= {"param_value": ["0.5", "yes", "x y", ""], "param_low": ["0.1", "", "", ""]}
    form |= {"param_high": ["1", "", "", ""], "env_name": "SEED", "env_value": "7"}
    form |= {"secret_name": "KEY", "secret_value": "hush", "max_cost_cny": "2.50"}
    form |= {"max_time_h": "1.5", "checkpoint_every_s": "60", "max_restarts": "1"}
    answer = await page.submit("/training/new", form)
    assert answer.status_code == 303, words_of(answer)
    run = await network.run(me, answer.headers["location"].removeprefix("/training/runs/"))
    assert run.params == {"lr": 0.5, "on": True, "note": "x y"}
    assert (run.devices, run.args, run.priority) == (2, ["--name", "a b"], 50)
    assert (run.env, run.secrets) == ({"SEED": "7"}, ["KEY"])
    assert (run.max_cost_cny, run.max_time_s, run.max_restarts) == ("2.50", 5400, 1)
    again = await page.look(f"/training/new?project=digits&run={run.id}")
    for text in ('value="0.5"', "--name &#39;a b&#39;", 'value="SEED"', 'value="KEY"', "2.50"):
        assert text in again.text
    assert "hush" not in again.text


async def test_a_form_that_is_sent_twice_starts_one_run(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me)
    form = await fill(page)
    first = await page.submit("/training/new", form)
    second = await page.submit("/training/new", form)
    assert first.headers["location"] == second.headers["location"]
    assert await count_runs(network, me) == 1


@pytest.mark.parametrize(
    ("typed", "place", "words"),
    [
        ({"entry": "nowhere.py"}, 'data-error="entry"', "is not in the project"),
        ({"output": "../up"}, 'id="h-output"', "leaves the project"),
        ({"devices": "many"}, 'data-error="devices"', "whole number"),
        ({"devices": "99"}, 'data-error="devices"', "99 devices are more"),
        ({"max_cost_cny": "0.001"}, 'id="h-max_cost_cny"', "more than two decimals"),
        ({"max_time_h": "soon"}, 'id="h-max_time_h"', "needs a number"),
        ({"max_time_h": "0"}, 'id="h-max_time_h"', "at most 8,784 hours"),
        ({"max_time_h": "nan"}, 'id="h-max_time_h"', "at most 8,784 hours"),
        ({"args": "'open"}, 'id="h-args"', "quotation marks"),
        ({"data_path": "/nowhere", "data_name": ""}, 'data-error="data"', "nothing at"),
    ],
)
async def test_an_error_stands_at_its_field_and_what_was_typed_stays(
    network: NetworkDouble,
    page: PageClient,
    me: UserId,
    typed: dict[str, str],
    place: str,
    words: str,
) -> None:
    await network.project(me)
    form = await fill(page, env_name="KEPT", env_value=NASTY, **typed)
    answer = await page.submit("/training/new", form)
    assert answer.status_code in {404, 422}
    assert words in answer.text.split(place)[1].split("</")[0].replace("&#39;", "'")
    assert NASTY not in answer.text
    assert words_of(answer) is not None
    for value in ["KEPT", *(value for value in typed.values() if value)]:
        assert value.replace("'", "&#39;") in answer.text
    assert await count_runs(network, me) == 0


async def test_errors_of_rows_stand_at_their_rows(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me)
    form = await fill(page)
    form |= {"param_name": ["lr", "", "lr", "9x"], "param_kind": ["int", "str", "str", "str"]}
    form |= {"param_value": ["half", "", "1", "1"], "param_low": [""] * 4, "param_high": [""] * 4}
    answer = await page.submit("/training/new", form)
    rows = answer.text.split('data-rows="param"')[1].split("data-row-error")[1:5]
    said = [row.split(">")[1].split("<")[0] for row in rows]
    assert said == ["This needs a whole number.", "", "This name stands here twice.", ""]
    form["param_name"], form["param_value"] = ["a", "", "b", "9x"], ["1", "", "1", "1"]
    answer = await page.submit("/training/new", form)
    rows = answer.text.split('data-rows="param"')[1].split("data-row-error")[1:5]
    assert "begins with no digit" in rows[3]


async def test_an_unpaid_bill_blocks_says_which_and_is_paid_in_place(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me)
    run = await network.submit(me)
    await network.dispatch()
    [assignment] = await network.site.assignments()
    await network.site.train(assignment)
    bill = (await network.run(me, run.id)).bill
    form = await fill(page)
    blocked = await page.submit("/training/new", form)
    assert blocked.status_code == 402
    assert f"/bills/{bill}" in blocked.text
    assert 'data-unpaid="yes"' in (await page.look("/training/new/unpaid")).text
    paid = await page.post(
        "/training/new/pay",
        data={"csrf": page.csrf, "bill": bill, "once": "k1"},
        headers={"X-Part": "unpaid", "Accept": "text/html"},
    )
    assert (paid.status_code, 'data-unpaid="no"' in paid.text) == (200, True)
    assert (await page.submit("/training/new", form)).status_code == 303


async def test_who_can_not_pay_is_asked_for_a_voucher(fresh_database: FreshDatabase) -> None:
    async with network_on(await fresh_database(), welcome_voucher_micros=0) as network:
        await network.site.enrol(1)
        async with pages_over(network.services) as page:
            await page.register()
            async with network.services.database.begin() as tx:
                me = (await network.services.identity.user_by_name(tx, page.name)).id
            await network.project(me)
            run = await network.submit(me)
            await network.dispatch()
            [assignment] = await network.site.assignments()
            await network.site.train(assignment)
            bill = (await network.run(me, run.id)).bill
            refused = await page.submit("/training/new/pay", bill=bill, once="k1")
    assert refused.status_code == 402
    assert 'role="alert"' in refused.text
    assert 'name="voucher"' in refused.text
    assert 'data-unpaid="yes"' in refused.text


async def test_the_quote_says_the_price_and_what_the_limits_mean(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    asked = {"devices": "2", "max_cost_cny": "2", "proposed_launch": "gang"}
    quoted = words_of(await page.submit("/training/new/quote", asked))
    assert "¥1.00 an hour" in quoted
    assert "The bill is ¥2.00 at most." in quoted
    assert "2 of 2 devices are free" in quoted
    too_many = await page.submit("/training/new/quote", devices="9")
    assert "more than one site has" in words_of(too_many)
    assert (await page.submit("/training/new/quote", devices="x")).status_code == 200


async def test_a_smoke_run_is_a_button(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me)
    answer = await page.submit("/training/new", await fill(page, act="smoke", devices="2"))
    run = await network.run(me, answer.headers["location"].removeprefix("/training/runs/"))
    assert (run.smoke, run.devices) == (True, 1)


async def test_the_form_of_others_projects_and_runs_is_not_there(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    other = await network.user()
    project = await network.project(other, "theirs")
    run = await network.submit(other, project="theirs")
    for query in (f"project={project.id}", f"run={run.id}"):
        assert (await page.look(f"/training/new?{query}")).status_code == 404
    answer = await page.submit("/training/new", project=project.id, entry="train.py")
    assert answer.status_code == 404


async def test_without_a_project_the_form_leads_to_the_import(page: PageClient) -> None:
    answer = await page.look("/training/new")
    assert (answer.status_code, answer.headers["location"]) == (303, "/training/import")


async def test_the_form_speaks_chinese(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me)
    page.headers["Accept-Language"] = "zh-CN"
    shown = words_of(await page.look("/training/new?project=digits"))
    for words in ("AI 引擎与版本", "设备数量", "开始训练", "可选参数"):
        assert words in shown


# --- projects and import ------------------------------------------------------------------------


async def test_projects_are_listed_with_their_versions_and_findings(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    made = await network.project(me, train=SCRIPT)
    await network.project(me, train=SCRIPT + "\nopen('/home/ann/data.csv')\n")
    listed = await page.look("/training/projects")
    assert f'href="/training/projects/{made.id}"' in listed.text
    shown = words_of(await page.look("/training/projects/digits"))
    assert "imports torch" in shown
    assert "A path of one machine" in shown
    versions = (await page.get("/api/v1/projects/digits/versions")).json()["items"]
    assert [version["number"] for version in versions] == [2, 1]
    form = await page.look("/training/new?project=digits")
    assert f'<option value="{versions[1]["snapshot"]}">Version 1' in form.text


async def test_an_older_version_can_be_run(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    first = await network.project(me, train="print(1)")
    await network.project(me, train="print(2)")
    answer = await page.submit("/training/new", await fill(page, snapshot=first.snapshot))
    run = await network.run(me, answer.headers["location"].removeprefix("/training/runs/"))
    assert run.snapshot == first.snapshot


async def test_a_folder_of_the_drive_becomes_a_project(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await page.put(
        "/api/v1/drive/content?path=/code/train.py",
        content=SCRIPT.encode(),
        headers={"X-CSRF-Token": page.csrf},
    )
    made = await page.submit("/training/import/drive", {"path": "/code", "once": "k"})
    again = await page.submit("/training/import/drive", {"path": "/code", "once": "k"})
    assert made.status_code == 303, words_of(made)
    assert again.headers["location"] == made.headers["location"]
    assert "train.py" in words_of(await page.look(made.headers["location"]))
    refused = await page.submit("/training/import/drive", {"path": "/nowhere", "once": "k2"})
    assert refused.status_code == 404
    assert 'value="/nowhere"' in refused.text


async def test_an_import_from_git_is_a_job_with_a_page(
    page: PageClient, network: NetworkDouble
) -> None:
    begun = await page.submit(
        "/training/import/git", url="https://git.invalid/ann/digits.git", once="k"
    )
    assert begun.status_code == 303
    waiting = await page.look(begun.headers["location"])
    assert "Waiting for its turn" in words_of(waiting)
    await network.services.git_imports.run(begun.headers["location"].rsplit("/", 1)[1])
    failed = await page.look(begun.headers["location"])
    assert "Try again" in words_of(failed)
    refused = await page.submit("/training/import/git", url="file:///etc", once="k2")
    assert refused.status_code == 422
    assert 'value="file:///etc"' in refused.text


async def test_projects_of_others_are_not_there(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    project = await network.project(await network.user(), "theirs")
    assert (await page.look(f"/training/projects/{project.id}")).status_code == 404
    assert (await page.get(f"/api/v1/projects/{project.id}/versions")).status_code == 404
    assert (await page.look("/training/imports/imp_nowhere")).status_code == 404


@pytest.mark.parametrize(
    "path", ["/training", "/training/projects", "/training/import", "/training/new"]
)
async def test_pages_of_training_are_for_members(page: PageClient, path: str) -> None:
    await page.submit("/sign-out")
    answer = await page.look(path)
    assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/sign-in")


async def test_forms_of_one_page_have_keys_of_their_own(
    network: NetworkDouble, page: PageClient, me: UserId
) -> None:
    await network.project(me)
    run = await network.submit(me)
    await network.dispatch()
    [assignment] = await network.site.assignments()
    await network.site.train(assignment)
    assert (await network.run(me, run.id)).bill
    for path in ("/training/new?project=digits", "/training/import"):
        text = (await page.look(path)).text
        keys = [part.split('"')[0] for part in text.split('name="once" value="')[1:]]
        assert len(keys) == len(set(keys)) == 2
