"""The operator's pages: sums that agree with the books, acts that happen once, no way in for others."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyotp
import pytest
import pytest_asyncio
from sqlalchemy import delete, text
from sqlalchemy.dialects.postgresql import insert

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from factories.pages import ADDRESS, PageClient, pages_over, words_of
from tesra.drive.peers.placement import Peer
from tesra.drive.peers.repository import pack_copies, pack_trees
from tesra.identity.model import Principal, Role, TokenKind
from tesra.kit.ids import PeerId, TokenId, UserId
from tesra.security.alarms import Kind

pytestmark = pytest.mark.postgres

ONCE = re.compile(r'name="once" value="([^"]+)"')
CODE = re.compile(r"TSR(?:-[2-9A-Z]{4}){4}")
PAGES = ("", "/users", "/prices", "/topups", "/vouchers", "/queue", "/storage", "/alarms", "/jobs")


@pytest_asyncio.fixture
async def network(fresh_database: FreshDatabase) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


@pytest_asyncio.fixture
async def desk(network: NetworkDouble) -> AsyncIterator[PageClient]:
    """The operator, signed in."""
    async with network.services.database.begin() as tx:
        _, token = await network.services.identity.bootstrap_operator(tx)
    async with pages_over(network.services) as client:
        answer = await client.submit("/sign-in", token=token)
        assert answer.status_code == 303
        yield client


@pytest_asyncio.fixture
async def ann(network: NetworkDouble) -> AsyncIterator[PageClient]:
    async with pages_over(network.services) as client:
        await client.register()
        yield client


async def id_of(client: PageClient) -> UserId:
    return UserId((await client.get("/api/v1/me")).json()["id"])


async def once_of(page: PageClient, path: str) -> str:
    return ONCE.findall((await page.look(path)).text)[0]


async def wallet_of(page: PageClient) -> Any:
    return (await page.get("/api/v1/wallet")).json()


async def peers_join(network: NetworkDouble, *names: str) -> None:
    async with network.services.database.begin() as tx:
        for number, name in enumerate(names):
            peer = Peer(
                id=PeerId(f"peer-{number}"),
                owner="operator",
                machine=f"machine-{number}",
                host="127.0.0.1",
                port=7000 + number,
                capacity_bytes=2**30,
                gateway=number == 0,
                name=name,
            )
            await network.services.peers.enrol(tx, peer, holds=[])


@pytest.mark.parametrize("path", PAGES)
async def test_who_is_no_operator_is_refused(ann: PageClient, path: str) -> None:
    answer = await ann.look(f"/operator{path}")
    assert answer.status_code == 403
    assert "operator" in words_of(answer)


async def test_who_is_no_operator_can_do_nothing_by_form(
    network: NetworkDouble, ann: PageClient
) -> None:
    mine = await id_of(ann)
    for path, fields in (
        ("/topups", {"user": ann.name, "amount": "5"}),
        ("/vouchers", {"amount": "5", "days": "9"}),
        ("/prices", {"price": "0.01"}),
        (f"/users/{mine}/limit", {"limit": "1000"}),
        (f"/users/{mine}/second-factor-off", {"note": "me"}),
        ("/storage/survey", {}),
        ("/jobs/1/retry", {}),
    ):
        assert (await ann.submit(f"/operator{path}", fields)).status_code == 403, path
    assert (await wallet_of(ann))["balance_cny"] == "0.00"


@pytest.mark.parametrize("path", PAGES)
async def test_signed_out_asks_to_sign_in_and_comes_back(network: NetworkDouble, path: str) -> None:
    async with pages_over(network.services) as nobody:
        answer = await nobody.look(f"/operator{path}")
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in?next=%2Foperator")


async def test_the_map_says_what_is_busy_and_names_nothing_private(
    network: NetworkDouble, desk: PageClient, ann: PageClient
) -> None:
    owner = await id_of(ann)
    await peers_join(network, "peer-1", "<b>peer</b>")
    await network.project(owner, "secret-project")
    run = await network.submit(owner, project="secret-project", devices=1)
    await network.dispatch()
    for path in ("/operator", "/operator/map", "/provider"):
        answer = await desk.look(path)
        words = words_of(answer)
        assert "node-1" in words
        assert "<b>peer</b>" not in answer.text
        assert "&lt;b&gt;peer&lt;/b&gt;" in answer.text
        assert "secret-project" not in answer.text
        assert run.id not in answer.text
    assert "1 of 2 devices free, 1 busy, 0 offline; 2.000 T in all." in words_of(
        await desk.look("/operator/map")
    )


async def test_the_figures_agree_with_the_books(
    network: NetworkDouble, desk: PageClient, ann: PageClient
) -> None:
    owner = await id_of(ann)
    await network.project(owner)
    await network.submit(owner, devices=2)
    await network.dispatch()
    [assignment] = await network.site.assignments()
    await network.site.train(assignment, ms=600_000)
    bill = (await ann.get("/api/v1/bills")).json()["items"][0]
    for amount in ("10.10", "0.20"):
        key = await once_of(desk, "/operator/topups")
        await desk.submit("/operator/topups", user=ann.name, amount=amount, once=key)
    words = words_of(await desk.look("/operator"))
    assert f"Unpaid ¥{bill['amount_cny']} 1 bill" in words
    assert f"Billed within a day ¥{bill['amount_cny']}" in words
    assert "In wallets ¥10.30" in words
    row = words_of(await desk.look(f"/operator/users?q={ann.name[-6:]}"))
    assert f"{ann.name} user ¥{bill['amount_cny']} ¥10.30" in row


async def test_a_top_up_that_is_sent_twice_comes_once(desk: PageClient, ann: PageClient) -> None:
    key = await once_of(desk, "/operator/topups")
    fields = {"user": ann.name, "amount": "12.34", "once": key}
    answers = await asyncio.gather(*(desk.submit("/operator/topups", fields) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {303}
    assert (await wallet_of(ann))["balance_cny"] == "12.34"
    words = words_of(await desk.look("/operator/topups"))
    assert f"{ann.name} ¥12.34 operator" in words


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"user": "nobody-<b>", "amount": "5"}, 404),
        ({"user": "", "amount": "5"}, 404),
        ({"amount": "-5"}, 422),
        ({"amount": "0.001"}, 422),
        ({"amount": "many"}, 422),
        ({"user": "x" * 65, "amount": "1"}, 422),
        ({"amount": "9" * 40}, 422),
    ],
)
async def test_a_wrong_top_up_moves_nothing_and_keeps_what_was_typed(
    desk: PageClient, ann: PageClient, fields: dict[str, str], status: int
) -> None:
    sent = {"user": ann.name, **fields}
    answer = await desk.submit("/operator/topups", sent)
    assert answer.status_code == status
    assert 'role="alert"' in answer.text
    if fields.get("user", "").startswith("nobody"):
        assert "nobody-&lt;b&gt;" in answer.text
        assert "nobody-<b>" not in answer.text
    assert (await wallet_of(ann))["balance_cny"] == "0.00"


async def test_a_top_up_is_taken_back_until_it_is_spent(desk: PageClient, ann: PageClient) -> None:
    await desk.submit("/operator/topups", user=ann.name, amount="3", once="k1")
    [key] = re.findall(r'name="id" value="([^"]+)"', (await desk.look("/operator/topups")).text)
    assert (await desk.submit("/operator/topups/take-back", id=key)).status_code == 303
    assert (await wallet_of(ann))["balance_cny"] == "0.00"
    again = await desk.submit("/operator/topups/take-back", id=key)
    assert again.status_code == 409
    assert "taken back" in words_of(again)


async def test_a_voucher_that_is_sent_twice_is_one_and_its_code_is_shown_this_once(
    desk: PageClient, ann: PageClient
) -> None:
    key = await once_of(desk, "/operator/vouchers")
    fields = {"amount": "8", "for_user": ann.name, "days": "30", "once": key}
    answers = [await desk.submit("/operator/vouchers", fields) for _ in range(2)]
    codes = {CODE.findall(answer.text)[0] for answer in answers}
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(codes) == 1
    [code] = codes
    listed = await desk.look("/operator/vouchers")
    assert code not in listed.text
    assert words_of(listed).count("not redeemed") == 1
    before = float((await wallet_of(ann))["vouchers_cny"])
    assert (await ann.submit("/bills/vouchers", code=code)).status_code == 303
    assert float((await wallet_of(ann))["vouchers_cny"]) == before + 8
    assert f"redeemed ¥8.00 {ann.name}" in words_of(await desk.look("/operator/vouchers"))


@pytest.mark.parametrize(
    "fields", [{"amount": ""}, {"days": "0"}, {"days": "soon"}, {"for_user": "no-such-user"}]
)
async def test_a_wrong_voucher_is_not_issued(desk: PageClient, fields: dict[str, str]) -> None:
    answer = await desk.submit(
        "/operator/vouchers", {"amount": "5", "days": "30", "for_user": "", **fields}
    )
    assert answer.status_code in {404, 422}
    assert not CODE.search(answer.text)
    assert "No vouchers yet" in words_of(await desk.look("/operator/vouchers"))


async def test_a_price_is_set_from_a_time_in_the_readers_own_zone(desk: PageClient) -> None:
    start = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(days=3)
    typed = (start + timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M")  # as Shanghai's clocks show it
    key = await once_of(desk, "/operator/prices")
    fields = {"price": "0.65", "from": typed, "zone_minutes": "-480", "once": key}
    for _ in range(2):
        assert (await desk.submit("/operator/prices", fields)).status_code == 303
    words = words_of(await desk.look("/operator/prices"))
    assert words.count(f"¥0.65 {start:%Y-%m-%d %H:%M}:00 UTC planned") == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"price": "free"},
        {"price": "-1"},
        {"price": "1", "from": "2020-01-01T00:00"},
        {"price": "1", "from": "tomorrow"},
        {"price": "1", "from": "2030-01-01T00:00", "zone_minutes": "a lot"},
        {"price": "1", "from": "9999-12-31T23:59", "zone_minutes": "1440"},
    ],
)
async def test_a_wrong_price_is_refused_and_stays_typed(
    desk: PageClient, fields: dict[str, str]
) -> None:
    answer = await desk.submit("/operator/prices", fields)
    assert answer.status_code == 422
    assert f'value="{fields["price"]}"' in answer.text
    assert len((await desk.get("/api/v1/prices")).json()["items"]) == 1


async def test_the_limit_of_a_user_is_set_and_given_back(desk: PageClient, ann: PageClient) -> None:
    path = f"/operator/users/{await id_of(ann)}"
    assert (await desk.submit(f"{path}/limit", limit="250")).status_code == 303
    assert 'value="250.00"' in (await desk.look(path)).text
    wrong = await desk.submit(f"{path}/limit", limit="a lot")
    assert (wrong.status_code, 'value="a lot"' in wrong.text) == (422, True)
    assert (await desk.submit(f"{path}/limit", limit="")).status_code == 303
    assert 'value="100.00"' in (await desk.look(path)).text


async def test_a_lost_phones_second_factor_is_turned_off_with_a_note(
    network: NetworkDouble, desk: PageClient, ann: PageClient
) -> None:
    owner = await id_of(ann)
    everything = frozenset({"read", "write"})
    caller = Principal(owner, ann.name, Role.USER, everything, TokenId("tok"), TokenKind.SESSION)
    async with network.services.database.begin() as tx:
        enrolment = await network.services.factors.begin(tx, caller)
    async with network.services.database.begin() as tx:
        code = pyotp.TOTP(enrolment.secret).now()
        await network.services.factors.confirm(tx, caller, code)
    path = f"/operator/users/{owner}"
    without = await desk.submit(f"{path}/second-factor-off", note="")
    assert without.status_code == 422
    done = await desk.submit(f"{path}/second-factor-off", note="called <b>back</b>")
    assert done.status_code == 303
    seen = await desk.look(path)
    assert "called &lt;b&gt;back&lt;/b&gt;" in seen.text
    assert "Off: the password alone" in words_of(seen)
    assert (await desk.submit(f"{path}/second-factor-off", note="again")).status_code == 409


async def test_users_are_found_and_paged(network: NetworkDouble, desk: PageClient) -> None:
    async with network.services.database.begin() as tx:
        await tx.execute(
            text(
                "INSERT INTO users (id, name, name_key, role) "
                "SELECT 'usr_zz' || lpad(n::text, 8, '0'), 'many' || n, 'many' || n, 'user' "
                "FROM generate_series(1, 120) n"
            )
        )
    seen, path = 0, "/operator/users?q=MANY"
    while path:
        page = await desk.look(path)
        seen += len(re.findall(r'href="/operator/users/usr_zz', page.text))
        found = re.search(r'rel="next" href="([^"]+)"', page.text)
        path = found[1].replace("&amp;", "&") if found else ""
    assert seen == 120
    assert "Nobody is called so" in words_of(await desk.look("/operator/users?q=%3Cb%3E"))


async def test_the_queue_says_who_waits_and_why(
    network: NetworkDouble, desk: PageClient, ann: PageClient
) -> None:
    owner = await id_of(ann)
    assert "Nobody waits" in words_of(await desk.look("/operator/queue"))
    await network.project(owner)
    await network.submit(owner, devices=2)
    await network.dispatch()
    await network.submit(owner, devices=1)
    words = words_of(await desk.look("/operator/queue"))
    assert "1 wait, 1 run" in words
    assert "Waits for devices Needs 1: 0 of 2 devices free." in words


async def test_a_peer_is_emptied_and_kept_after_all(
    network: NetworkDouble, desk: PageClient
) -> None:
    await peers_join(network, "gate", "other")
    path = "/operator/storage/peers/peer-1/drain"
    assert (await desk.submit(path)).status_code == 303
    assert "being emptied" in words_of(await desk.look("/operator/storage"))
    assert (await desk.submit(path, undo="1")).status_code == 303
    assert "being emptied" not in words_of(await desk.look("/operator/storage"))
    gateway = await desk.submit("/operator/storage/peers/peer-0/drain")
    assert gateway.status_code == 409
    assert 'role="alert"' in gateway.text


async def test_a_peer_is_shut_out_after_a_question_and_let_in_again(
    network: NetworkDouble, desk: PageClient
) -> None:
    await peers_join(network, "gate", "other")
    path = "/operator/storage/peers/peer-1/revoke"
    seen = await desk.look("/operator/storage")
    assert 'data-ask="Shut this peer out at once?' in seen.text
    assert "/peers/peer-0/revoke" not in seen.text  # the gateway stays
    before = network.services.authority.certificate
    assert (await desk.submit(path)).status_code == 303
    assert network.services.authority.certificate != before
    words = words_of(await desk.look("/operator/storage"))
    assert "other is shut out: its copies do not count any more." in words
    assert "shut out" in words
    assert "Let it in again" in words
    assert (await desk.submit(path, undo="1")).status_code == 303
    assert "Let it in again" not in words_of(await desk.look("/operator/storage"))
    gateway = await desk.submit("/operator/storage/peers/peer-0/revoke")
    assert gateway.status_code == 409


async def test_what_only_one_peer_has_is_asked_about_before_it_is_shut_out(
    network: NetworkDouble, desk: PageClient, ann: PageClient
) -> None:
    await peers_join(network, "gate", "other")
    await network.project(await id_of(ann))
    async with network.services.database.begin() as tx:
        pack = await tx.scalar(text("SELECT id FROM packs LIMIT 1"))
        tree = insert(pack_trees).values(pack_id=pack, size_bytes=1, root=b"r", layer=b"l")
        await tx.execute(tree.on_conflict_do_nothing())
        await tx.execute(delete(pack_copies).where(pack_copies.c.pack_id == pack))
        held = insert(pack_copies).values(pack_id=pack, peer_id="peer-1", state="held")
        await tx.execute(held)
    path = "/operator/storage/peers/peer-1/revoke"
    refused = await desk.submit(path)
    assert refused.status_code == 409
    words = words_of(refused)
    assert "other has the only good copy of 1 packs" in words
    assert "Give up what only other has?" in words
    assert (await desk.submit(path, force="1")).status_code == 303
    assert "Let it in again" in words_of(await desk.look("/operator/storage"))


async def test_garbage_is_told_and_left(
    network: NetworkDouble, desk: PageClient, ann: PageClient
) -> None:
    await network.project(await id_of(ann))
    words = words_of(await desk.submit("/operator/storage/survey"))
    assert "0 packs, 0 B, are not needed" in words


async def test_an_alarm_is_acknowledged(network: NetworkDouble, desk: PageClient) -> None:
    async with network.services.database.begin() as tx:
        await network.services.alarms.sound(tx, Kind.LOST, "p", "Pack <i>x</i> was lost.")
    overview = await desk.look("/operator")
    assert "Pack &lt;i&gt;x&lt;/i&gt; was lost." in overview.text
    [step] = re.findall(
        r'action="(/operator/alarms/alm_\w+/acknowledge)"',
        (await desk.look("/operator/alarms")).text,
    )
    assert (await desk.submit(step)).status_code == 303
    assert "No alarms" in words_of(await desk.look("/operator/alarms"))
    assert "acknowledged" in words_of(await desk.look("/operator/alarms?all=true"))


async def test_a_failed_job_is_told_and_done_again(
    network: NetworkDouble, desk: PageClient
) -> None:
    async with network.services.database.begin() as tx:
        job = await tx.scalar(
            text(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
                "VALUES ('default', 'notices:deliver', 'failed') RETURNING id"
            )
        )
        await tx.execute(
            text("INSERT INTO job_failures (job_id, words) VALUES (:job, 'Error: <b>no</b>')"),
            {"job": job},
        )
    answer = await desk.look("/operator/jobs")
    assert "Error: &lt;b&gt;no&lt;/b&gt;" in answer.text
    assert (await desk.submit(f"/operator/jobs/{job}/retry")).status_code == 303
    assert "Nothing has failed" in words_of(await desk.look("/operator/jobs"))
    assert (await desk.submit(f"/operator/jobs/{job}/retry")).status_code == 409


async def test_the_pages_speak_chinese(desk: PageClient) -> None:
    await desk.submit("/language", to="zh-CN")
    for path, word in zip(
        PAGES,
        ("网络图", "用户", "价目表", "充值", "抵扣券", "队列", "存储节点", "告警", "后台任务"),
        strict=True,
    ):
        assert word in words_of(await desk.look(f"/operator{path}")), path
    assert "我的节点" in words_of(await desk.look("/provider"))


async def test_who_shares_nothing_is_told_how_a_node_is_started(ann: PageClient) -> None:
    words = words_of(await ann.look("/provider"))
    assert "You share no nodes yet" in words
    assert f"tesra node start --server {ADDRESS}/ --token-file site.token" in words
    assert "node-1" not in words
