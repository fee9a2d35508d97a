"""Notices reach a real mail server and a real receiver, by a real worker, exactly when they should."""

import base64
import hashlib
import hmac
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import pytest_asyncio
from aiosmtpd.controller import Controller
from sqlalchemy import text

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from factories.sweeping import SweepDouble
from tesra.app.jobs import declare_tasks
from tesra.kit.errors import Conflict, Invalid, NotFound, TooMany
from tesra.kit.ids import BillId, RunId, UserId
from tesra.training.model import RunState, StopCause
from tesra.training.transitions import RunChange
from tesra.wire.notices import Channel, ChannelRequest
from tesra.wire.site import Ended, Started, Usage

pytestmark = pytest.mark.postgres


@dataclass
class Mailbox:
    """What the mail server was given; ``answer`` is what it says to the next mails."""

    mails: list[EmailMessage] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    url: str = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            made = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(made, EmailMessage)
            self.mails.append(made)
        return answer

    def code(self) -> str:
        found = re.search(r"\b\d{6}\b", str(self.mails[-1].get_content()))
        assert found
        return found[0]


@dataclass
class Receiver:
    """What the webhook was given; ``answers`` are its next statuses."""

    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    url: str = ""

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(content) for _, content in self.calls]


@pytest.fixture(scope="module")
def mail_server() -> Iterator[Mailbox]:
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    box.url = f"smtp://127.0.0.1:{port}/?from=tesra@example.org"
    yield box
    controller.stop()


@pytest.fixture(scope="module")
def hook_server() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.calls.append(({k.lower(): v for k, v in self.headers.items()}, content))
            self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield receiver
    server.shutdown()
    server.server_close()


@pytest.fixture
def box(mail_server: Mailbox) -> Mailbox:
    mail_server.mails.clear()
    mail_server.answers.clear()
    return mail_server


@pytest.fixture
def receiver(hook_server: Receiver) -> Receiver:
    hook_server.calls.clear()
    hook_server.answers.clear()
    return hook_server


@pytest_asyncio.fixture
async def network(fresh_database: FreshDatabase, box: Mailbox) -> AsyncIterator[NetworkDouble]:
    database = await fresh_database()
    async with network_on(database, smtp_url=box.url, webhook_private=True) as network:
        declare_tasks(network.services)
        async with network.services.jobs.open_async():
            yield network


async def work_off(network: NetworkDouble) -> None:
    """All jobs of notices, those that wait for another try too."""
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE procrastinate_jobs SET scheduled_at = NULL"))
    await network.services.jobs.run_worker_async(wait=False, install_signal_handlers=False)


async def jobs(network: NetworkDouble, status: str = "todo") -> int:
    counted = text(
        "SELECT count(*) FROM procrastinate_jobs WHERE task_name LIKE 'notices:%'"
        " AND task_name <> 'notices:take_up' AND status::text = :status"
    )
    async with network.services.database.begin() as tx:
        return int(await tx.scalar(counted, {"status": status}) or 0)


async def add(
    network: NetworkDouble, owner: UserId, kind: str, address: str, **more: Any
) -> Channel:
    request = ChannelRequest.model_validate({"kind": kind, "address": address, **more})
    async with network.services.database.begin() as tx:
        return await network.services.notices.add(tx, owner, request)


async def confirm(network: NetworkDouble, owner: UserId, code: str) -> Channel | None:
    async with network.services.database.begin() as tx:
        return await network.services.notices.confirm(tx, owner, code)


async def listed(network: NetworkDouble, owner: UserId) -> list[Channel]:
    async with network.services.database.begin() as tx:
        return await network.services.notices.channels(tx, owner)


async def mailed(network: NetworkDouble, owner: UserId, box: Mailbox, **more: Any) -> Channel:
    """A mailbox that is confirmed."""
    await add(network, owner, "email", "me@example.org", **more)
    await work_off(network)
    found = await confirm(network, owner, box.code())
    assert found is not None
    box.mails.clear()
    return found


async def trained(network: NetworkDouble, owner: UserId, outcome: str = "succeeded") -> str:
    """A run of half an hour on two devices of 1 T: CNY 0.50."""
    await network.project(owner)
    run = await network.submit(owner, devices=2)
    assert await network.dispatch() == 1
    (assignment,) = await network.site.assignments()
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE attempts SET created_at = created_at - interval '9 hours'"))
    now = datetime.now(UTC)
    await network.site.say(assignment, Started(at=now))
    for number in (1, 2, 3):
        usage = Usage(number=number, started_at=now, duration_ms=600_000)
        await network.site.say(assignment, usage)
    await network.site.say(assignment, Ended(outcome=outcome, exit_code=0, reason="So it went."))
    return run.id


def check_signature(channel: Channel, call: tuple[dict[str, str], bytes]) -> None:
    headers, content = call
    assert channel.secret is not None
    key = base64.b64decode(channel.secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + content
    mac = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{mac}"


async def test_a_mailbox_is_told_only_after_its_code_came_back(
    network: NetworkDouble, box: Mailbox
) -> None:
    ann = await network.user()
    await network.site.enrol(2)
    made = await add(network, ann, "email", "me@example.org")
    assert (made.confirmed, made.secret) == (False, None)
    await work_off(network)
    (mail,) = box.mails
    assert (mail["To"], mail["From"]) == ("me@example.org", "tesra@example.org")
    await trained(network, ann)
    await work_off(network)
    assert len(box.mails) == 1
    wrong = f"{(int(box.code()) + 1) % 10**6:06}"
    assert await confirm(network, ann, wrong) is None
    assert await confirm(network, await network.user(), box.code()) is None
    found = await confirm(network, ann, box.code())
    assert found is not None
    assert found.confirmed


async def test_five_wrong_codes_end_a_code(network: NetworkDouble, box: Mailbox) -> None:
    ann = await network.user()
    await add(network, ann, "email", "me@example.org")
    await work_off(network)
    wrong = f"{(int(box.code()) + 1) % 10**6:06}"
    for _ in range(5):
        assert await confirm(network, ann, wrong) is None
    assert await confirm(network, ann, box.code()) is None


async def test_a_codes_mail_is_not_sent_twice_in_a_minute(
    network: NetworkDouble, box: Mailbox
) -> None:
    ann = await network.user()
    for _ in range(3):
        await add(network, ann, "email", "me@example.org")
    assert await jobs(network) == 1
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE notice_channels SET asked_at = now() - interval '2 min'"))
    await add(network, ann, "email", "me@example.org")
    await work_off(network)
    assert len({str(mail["Message-ID"]) for mail in box.mails}) == 2
    assert await confirm(network, ann, box.code()) is not None


async def test_the_end_of_a_run_is_told_once_to_each_channel_with_its_bill(
    network: NetworkDouble, box: Mailbox, receiver: Receiver
) -> None:
    ann = await network.user()
    await network.site.enrol(2)
    await mailed(network, ann, box, language="zh")
    hook = await add(network, ann, "webhook", receiver.url)
    run = await trained(network, ann)
    assert await jobs(network) == 3
    await work_off(network)
    (mail,) = box.mails
    assert str(mail["Subject"]) == f"Tesra: 训练 {run} (digits) 已顺利完成"
    bill = (await network.run(ann, run)).bill
    assert f"账单 {bill}：0.50 元，未支付。" in str(mail.get_content())
    assert {told["type"] for told in receiver.told()} == {"run.ended", "bill.made"}
    for told in receiver.told():
        assert (told["data"]["run"], told["data"]["bill"]) == (run, bill)
        assert told["data"]["amount_cny"] == "0.50"
    for call in receiver.calls:
        check_signature(hook, call)
    assert len({headers["webhook-id"] for headers, _ in receiver.calls}) == 2
    await work_off(network)
    assert (len(box.mails), len(receiver.calls)) == (1, 2)


async def test_what_was_rolled_back_is_told_to_nobody(
    network: NetworkDouble, receiver: Receiver
) -> None:
    ann = await network.user()
    await network.site.enrol(2)
    await add(network, ann, "webhook", receiver.url)
    await network.project(ann)
    run = await network.submit(ann)

    change = RunChange(
        run=RunId(run.id),
        owner=ann,
        before=RunState.RUNNING,
        after=RunState.STOPPED,
        reason=None,
        attempt=None,
        stop=StopCause.CAP,
        bill=BillId("bill_1"),
        amount_micros=0,
    )
    async with network.services.database.begin() as tx:
        await network.services.observers[0](tx, change)
        await tx.rollback()
    assert await jobs(network) == 0
    async with network.services.database.begin() as tx:
        await network.services.observers[0](tx, change)
    assert await jobs(network) == 1


async def test_only_chosen_events_are_told(network: NetworkDouble, receiver: Receiver) -> None:
    ann = await network.user()
    await network.site.enrol(2)
    await add(network, ann, "webhook", receiver.url, events=["failed", "again"])
    await trained(network, ann, "lost")
    await work_off(network)
    assert [told["type"] for told in receiver.told()] == ["run.queued_again"]
    again = await add(network, ann, "webhook", receiver.url, events=["ended"])
    assert (again.secret, again.events) == (None, ["ended"])
    assert len(await listed(network, ann)) == 1


async def test_a_sweep_speaks_once_for_all_its_trials(
    network: NetworkDouble, receiver: Receiver
) -> None:
    ann = await network.user()
    await network.site.enrol(2)
    await add(network, ann, "webhook", receiver.url)
    await network.project(ann)
    sweeping = SweepDouble(network, ann)
    sweep = await sweeping.begin(trials=2, parallel=2)
    assert await sweeping.step() == 2
    for trial in await sweeping.live():
        await sweeping.complete(trial, 0.5)
    await sweeping.step()
    await work_off(network)
    assert sorted(told["type"] for told in receiver.told()) == ["bill.made", "sweep.ended"]
    bill = (await sweeping.sweep(sweep.id)).bill
    assert {told["data"]["sweep"] for told in receiver.told()} == {sweep.id}
    assert {told["data"]["bill"] for told in receiver.told()} == {bill}


async def test_a_refusing_hook_is_tried_again_under_the_same_id_and_says_why_meanwhile(
    network: NetworkDouble, receiver: Receiver
) -> None:
    ann = await network.user()
    hook = await add(network, ann, "webhook", receiver.url)
    receiver.answers += [500, 302]
    async with network.services.database.begin() as tx:
        await network.services.notices.test(tx, ann, hook.id)
    for status in (500, 302):
        await work_off(network)
        (found,) = await listed(network, ann)
        assert found.problem == f"It answered with {status}."
        assert found.told_at is None
    async with network.services.database.begin() as tx:
        later = text(
            "SELECT scheduled_at > now() + interval '10 s' FROM procrastinate_jobs"
            " WHERE task_name = 'notices:deliver'"
        )
        assert await tx.scalar(later)
    await work_off(network)
    (found,) = await listed(network, ann)
    assert found.problem is None
    assert found.told_at is not None
    assert len(receiver.calls) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.calls}) == 1
    for call in receiver.calls:
        check_signature(hook, call)


async def test_a_mail_server_that_is_busy_gets_the_mail_later(
    network: NetworkDouble, box: Mailbox
) -> None:
    ann = await network.user()
    channel = await mailed(network, ann, box)
    box.answers.append("451 Greylisted")
    async with network.services.database.begin() as tx:
        await network.services.notices.test(tx, ann, channel.id)
    await work_off(network)
    (found,) = await listed(network, ann)
    assert "451 Greylisted" in str(found.problem)
    await work_off(network)
    assert len(box.mails) == 1


async def test_a_removed_channel_is_told_nothing_more(
    network: NetworkDouble, receiver: Receiver
) -> None:
    ann, bob = await network.user(), await network.user()
    hook = await add(network, ann, "webhook", receiver.url)
    async with network.services.database.begin() as tx:
        await network.services.notices.test(tx, ann, hook.id)
        with pytest.raises(NotFound):
            await network.services.notices.remove(tx, bob, hook.id)
        await network.services.notices.remove(tx, ann, hook.id)
    await work_off(network)
    assert receiver.calls == []
    assert await listed(network, ann) == []


async def test_making_and_removing_has_a_limit(network: NetworkDouble, receiver: Receiver) -> None:
    ann = await network.user()
    for number in range(10):
        hook = await add(network, ann, "webhook", f"{receiver.url}?{number}")
        async with network.services.database.begin() as tx:
            await network.services.notices.remove(tx, ann, hook.id)
    with pytest.raises(TooMany):
        await add(network, ann, "webhook", receiver.url)


async def test_without_leave_no_hook_reaches_inside_not_even_by_a_name(
    fresh_database: FreshDatabase, receiver: Receiver
) -> None:
    async with network_on(await fresh_database()) as network:
        declare_tasks(network.services)
        ann = await network.user()
        with pytest.raises(Invalid, match="inside"):
            await add(network, ann, "webhook", receiver.url)
        with pytest.raises(Conflict, match="no e-mail"):
            await add(network, ann, "email", "me@example.org")
        hook = await add(network, ann, "webhook", "https://example.org/hook")
        inside = receiver.url.replace("127.0.0.1", "a-name-for-here")
        with pytest.MonkeyPatch.context() as patch:
            _resolve_to_loopback(patch)
            async with network.services.database.begin() as tx:
                await tx.execute(text("UPDATE notice_channels SET address = :a"), {"a": inside})
                await network.services.notices.test(tx, ann, hook.id)
            async with network.services.jobs.open_async():
                await work_off(network)
        (found,) = await listed(network, ann)
        assert "inside the server's own network" in str(found.problem)
        assert receiver.calls == []


async def test_a_hook_is_called_at_the_address_that_was_checked_by_its_name(
    network: NetworkDouble, receiver: Receiver
) -> None:
    ann = await network.user()
    named = receiver.url.replace("127.0.0.1", "a-name-for-here")
    hook = await add(network, ann, "webhook", named)
    with pytest.MonkeyPatch.context() as patch:
        asked = _resolve_to_loopback(patch)
        async with network.services.database.begin() as tx:
            await network.services.notices.test(tx, ann, hook.id)
        await work_off(network)
    ((headers, _),) = receiver.calls
    assert headers["host"] == named.split("/")[2]
    assert asked.count("a-name-for-here") == 1


async def test_what_a_server_did_when_it_died_is_done_again(
    network: NetworkDouble, receiver: Receiver
) -> None:
    ann = await network.user()
    hook = await add(network, ann, "webhook", receiver.url)
    async with network.services.database.begin() as tx:
        await network.services.notices.test(tx, ann, hook.id)
        dead = (
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES ('2020-01-01') RETURNING id"
        )
        worker = await tx.scalar(text(dead))
        taken = text("UPDATE procrastinate_jobs SET status = 'doing', worker_id = :w")
        await tx.execute(taken, {"w": worker})
    take_up = network.services.jobs.tasks["notices:take_up"]
    await take_up.func(timestamp=0)
    await work_off(network)
    assert len(receiver.calls) == 1


def _resolve_to_loopback(patch: pytest.MonkeyPatch) -> list[str]:
    """The name of the test's receiver, as a name server would have it; gives who was asked for."""
    real, asked = socket.getaddrinfo, []

    def resolve(host: Any, *arguments: Any, **more: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == "a-name-for-here" else host, *arguments, **more)

    patch.setattr(socket, "getaddrinfo", resolve)
    return asked
