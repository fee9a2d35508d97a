"""Live pages over real HTTP: no line lost, none twice, whatever happens to the stream or the server."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from factories.live import (
    LiveServer,
    Person,
    Source,
    live_server,
    person,
    training,
    until,
    watching,
)
from factories.network import NetworkDouble, network_on
from tesra.kit.ids import RunId
from tesra.wire.site import Started

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def network(fresh_database) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(4)
        yield network


@pytest_asyncio.fixture
async def server(network: NetworkDouble) -> AsyncIterator[LiveServer]:
    async with live_server(network) as server:
        yield server


@pytest_asyncio.fixture
async def ann(server: LiveServer) -> Person:
    return await person(server)


def source_of(server: LiveServer, who: Person, run: str, **query: object) -> Source:
    return Source(who, server.url, f"/api/v1/runs/{run}/live", query=query)


def numbered(start: int, end: int) -> list[str]:
    return [f"line {number}" for number in range(start, end)]


def text_of(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


async def test_a_viewer_sees_what_was_what_comes_and_the_end(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    await job.say(text_of(numbered(0, 50)))
    async with watching(source_of(server, ann, job.run)) as source:
        await until(lambda: len(source.lines()) == 50, "what was stored")
        for start in range(50, 100, 5):
            await job.say(text_of(numbered(start, start + 5)))
        await until(lambda: len(source.lines()) == 100, "what came")
        await network.site.say(job.assignment, Started(at=datetime.now(UTC)))
        await until(lambda: source.named("state")[-1]["state"] == "running", "that it runs")
        await job.say(text_of(numbered(100, 101)))
        await job.end()
        await until(lambda: bool(source.named("end")), "the end")
    assert source.lines() == numbered(0, 101)
    names = [name for name, _ in source.events]
    assert names[0] == "begin"
    assert names[-1] == "end"
    last = source.named("state")[-1]
    assert (last["state"], last["run"]) == ("succeeded", job.run)
    assert last["bill"] is not None
    assert last["cost_cny"] == "0.01"
    await until(lambda: len(server.api.state.hubs) == 0, "no hub is left")  # type: ignore[union-attr]


async def test_reconnects_lose_and_double_no_line(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    async with watching(source_of(server, ann, job.run)) as source:
        for start in range(0, 300, 10):
            await job.say(text_of(numbered(start, start + 10)))
            if start % 50 == 0:
                source.cut.set()
        await job.end()
        await until(lambda: bool(source.named("end")), "the end")
    assert source.visits > 2
    assert source.lines() == numbered(0, 300)


async def test_a_server_that_is_started_again_loses_and_doubles_no_line(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    async with watching(source_of(server, ann, job.run)) as source:
        await job.say(text_of(numbered(0, 100)))
        await until(lambda: len(source.lines()) == 100, "the first lines")
        await server.stop()
        await job.say(text_of(numbered(100, 200)))
        await server.start()
        await job.say(text_of(numbered(200, 300)))
        await job.end()
        await until(lambda: bool(source.named("end")), "the end")
    assert source.visits >= 2
    assert source.lines() == numbered(0, 300)


async def test_a_cursor_goes_on_at_another_server(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    async with live_server(network) as other:
        async with watching(source_of(server, ann, job.run)) as source:
            await job.say(text_of(numbered(0, 10)))
            await until(lambda: len(source.lines()) == 10, "the first lines")
        last = source.last_id
        async with (
            watching(source_of(other, ann, job.run, after=last)) as there,
            watching(source_of(server, ann, job.run, after=last)) as here,
        ):
            await until(lambda: bool(there.named("state") and here.named("state")), "both live")
            await job.say(text_of(numbered(10, 20)))
            await until(lambda: len(there.lines()) == len(here.lines()) == 10, "both hear it")
    assert there.lines() == here.lines() == numbered(10, 20)


async def test_who_joins_while_lines_come_misses_none(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    sources = [source_of(server, ann, job.run) for _ in range(8)]
    tasks = []
    for number in range(80):
        if number % 10 == 0:
            tasks.append(asyncio.create_task(sources[number // 10].run()))
        await job.say(text_of(numbered(number * 5, number * 5 + 5)))
    await job.end()
    await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert all(source.lines() == numbered(0, 400) for source in sources)


async def test_a_rank_is_shown_alone_with_what_tesra_says(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id, devices=2)
    await job.say("tesra: begins\n", rank=-1)
    await job.say("zero\n")
    await job.say("one\n", rank=1)
    async with watching(source_of(server, ann, job.run, rank=1)) as source:
        await until(lambda: bool(source.named("state")), "it is live")
        await job.say("zero again\n")
        await job.say("one again\n", rank=1)
        await job.end()
        await until(lambda: bool(source.named("end")), "the end")
    assert source.lines(1) == ["one", "one again"]
    assert source.lines(0) == []
    assert source.lines(-1) == ["tesra: begins"]


async def test_a_tail_begins_near_the_end_and_says_where(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    for start in range(0, 1000, 10):
        await job.say(text_of(numbered(start, start + 10)))
    async with watching(source_of(server, ann, job.run, tail=25)) as source:
        await until(lambda: bool(source.named("state")), "it is live")
    assert source.lines() == numbered(970, 1000)
    (begin,) = source.named("begin")
    async with ann.client(server.url) as client:
        query = {"before": begin["after"] + 1, "lines": 20}
        part = (await client.get(f"/api/v1/runs/{job.run}/logs/part", params=query)).json()
    assert "".join(one["text"] for one in part["parts"]) == text_of(numbered(950, 970))
    assert part["more"]


async def test_an_ended_run_is_told_whole_and_not_again(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    await job.say(text_of(numbered(0, 3)))
    await job.end()
    source = source_of(server, ann, job.run)
    await asyncio.wait_for(source.run(), 30)
    assert source.lines() == numbered(0, 3)
    assert source.named("end") == [{"state": "succeeded"}]
    assert (source.last_id or "").endswith(".end")
    await asyncio.wait_for(source.run(), 30)
    assert source.status == 204
    async with ann.client(server.url) as client:
        headers = {"Last-Event-ID": "1"}
        answer = await client.get(f"/api/v1/runs/{job.run}/live", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text.startswith("retry: 1000\n\n")
    assert "event: log" not in answer.text


async def test_a_cursor_beyond_the_end_hears_what_comes(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    await job.say("old\n")
    async with watching(source_of(server, ann, job.run, after=10**9)) as source:
        await until(lambda: bool(source.named("state")), "it is live")
        await job.say("new\n")
        await until(lambda: source.lines() == ["new"], "the line")


async def test_what_is_another_persons_or_nowhere_is_not_found(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    bob = await person(server)
    paths = ("live", "logs.txt", "logs/part", "logs/search?q=a")
    async with bob.client(server.url) as client:
        for path in paths:
            assert (await client.get(f"/api/v1/runs/{job.run}/{path}")).status_code == 404
    async with ann.client(server.url) as client:
        assert (await client.get(f"/api/v1/runs/{job.run}/live?rank=3")).status_code == 404
        assert (await client.get("/api/v1/runs/run_none/live")).status_code == 404
        client.headers.pop("Authorization")
        assert (await client.get(f"/api/v1/runs/{job.run}/live")).status_code == 401
        assert (await client.get("/api/v1/live")).status_code == 401


async def test_a_change_of_a_parameter_is_heard(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id, params={"lr": 0.1})
    async with watching(source_of(server, ann, job.run)) as source:
        await until(lambda: bool(source.named("tune")), "what can be changed")
        async with network.services.database.begin() as tx:
            await network.services.tuning.tune(tx, ann.id, RunId(job.run), {"lr": 0.2})
        await until(lambda: bool(source.named("tune")[-1]["changes"]), "the change")
    assert source.named("tune")[-1]["changes"][0]["values"] == {"lr": 0.2}


async def test_metrics_and_device_use_are_heard_as_they_come_and_whole_at_first(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    device = job.assignment.devices[0].device
    sample = {"k": "d", "d": device, "t": 1.7e9, "v": {"use": 0.5, "memory_bytes": 1024}}

    def point(step: int, **values: float | str) -> dict[str, Any]:
        return {"k": "m", "r": 0, "o": "log", "t": 1.7e9 + step, "s": step, "v": values}

    await job.log(point(1, loss=0.5, acc=0.1), sample)
    async with watching(source_of(server, ann, job.run)) as source:
        await until(lambda: bool(source.named("use")), "what was known")
        values = source.named("metrics")[0]["values"]
        assert {one["name"]: (one["step"], one["value"]) for one in values} == {
            "loss": (1, 0.5),
            "acc": (1, 0.1),
        }
        assert [
            (one["device"], one["use"], one["memory_bytes"])
            for one in source.named("use")[0]["devices"]
        ] == [(device, 0.5, 1024)]
        await job.log(point(2, loss="nan"))
        await until(lambda: len(source.named("metrics")) == 2, "what came")
        (value,) = source.named("metrics")[1]["values"]
        assert (value["name"], value["step"], value["value"]) == ("loss", 2, "nan")


async def test_the_log_is_a_file_and_can_be_searched(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id, devices=2)
    for number in range(30):
        await job.say(f"<b>step</b> {number}\nLoss {number}\n", rank=number % 2)
    await job.say("损失 0.1 STRASSE\n", rank=-1)
    async with ann.client(server.url) as client:
        base = f"/api/v1/runs/{job.run}"
        whole = await client.get(f"{base}/logs.txt")
        one = await client.get(f"{base}/logs.txt", params={"rank": 1})
        found = (await client.get(f"{base}/logs/search", params={"q": "LOSS 1"})).json()
        chinese = (await client.get(f"{base}/logs/search", params={"q": "损失"})).json()
        hits, after, asked = [], 0, 0
        while after is not None:
            query = {"q": "loss", "limit": 7, "after": after}
            page = (await client.get(f"{base}/logs/search", params=query)).json()
            hits.extend(page["hits"])
            after, asked = page["next"], asked + 1
        wrong = await client.get(f"{base}/logs/part", params={"after": 1, "before": 2})
        first = (await client.get(f"{base}/logs/part", params={"after": 0, "lines": 4})).json()
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["content-disposition"].startswith("attachment; filename=")
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.text.splitlines()[:4] == [
        "[0] <b>step</b> 0",
        "[0] Loss 0",
        "[1] <b>step</b> 1",
        "[1] Loss 1",
    ]
    assert whole.text.splitlines()[-1] == "[tesra] 损失 0.1 STRASSE"
    assert one.text.splitlines()[:2] == ["<b>step</b> 1", "Loss 1"]
    assert [hit["text"] for hit in found["hits"]] == [
        "Loss 1",
        *(f"Loss {n}" for n in range(10, 20)),
    ]
    assert found["hits"][0] | {"attempt": 1} == {
        "cursor": 2,
        "line": 1,
        "attempt": 1,
        "rank": 1,
        "text": "Loss 1",
    }
    assert [hit["rank"] for hit in chinese["hits"]] == [-1]
    assert [hit["text"] for hit in hits] == [f"Loss {number}" for number in range(30)]
    assert asked > 4
    assert wrong.status_code == 422
    assert (len(first["parts"]), first["last"], first["more"]) == (2, 2, True)


async def test_a_user_hears_of_runs_bills_and_payments(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    bob = await person(server)
    async with (
        watching(Source(ann, server.url, "/api/v1/live")) as mine,
        watching(Source(bob, server.url, "/api/v1/live")) as his,
    ):
        await until(lambda: bool(mine.named("refresh") and his.named("refresh")), "both listen")
        job = await training(network, ann.id)
        await until(lambda: bool(mine.named("runs")), "the run")
        await job.end()
        await until(lambda: bool(mine.named("bill")), "the bill")
        await until(lambda: bool(mine.named("notice")), "the notice")
        bill = mine.named("bill")[-1]
        assert (bill["run"], bill["state"]) == (job.run, "unpaid")
        async with ann.client(server.url) as client:
            paid = await client.post(
                f"/api/v1/bills/{bill['id']}/pay", json={}, headers={"Idempotency-Key": "once"}
            )
            assert paid.status_code == 200, paid.text
        await until(lambda: mine.named("bill")[-1]["state"] == "paid", "the payment")
    last = mine.named("runs")[-1]
    assert (last["id"], last["state"], last["bill"]) == (job.run, "succeeded", bill["id"])
    assert mine.named("notice")[0]["event"] == "ended"
    assert {name for name, _ in his.events} == {"refresh"}


async def test_a_slow_viewer_is_told_exactly_what_it_did_not_see(
    network: NetworkDouble, server: LiveServer, ann: Person
) -> None:
    job = await training(network, ann.id)
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**13)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", server.port))
    reader, writer = await asyncio.open_connection(sock=plug, limit=2**16)
    head = f"GET /api/v1/runs/{job.run}/live HTTP/1.1\r\nHost: test\r\n"
    writer.write(f"{head}Authorization: Bearer {ann.token}\r\n\r\n".encode())
    await reader.readuntil(b"event: state")  # live: from here on it reads nothing for a while
    async with watching(source_of(server, ann, job.run)) as quick:
        lines = [f"{number:06d} {'x' * 2000}" for number in range(4000)]
        for start in range(0, len(lines), 400):
            await job.say(text_of(lines[start : start + 400]))
            await until(lambda s=start: len(quick.lines()) >= s + 400, "the quick one keeps up")
        await job.end()
        await until(lambda: bool(quick.named("end")), "the end")
    stream = b""
    while not stream.endswith(b"0\r\n\r\n"):
        stream += await asyncio.wait_for(reader.read(2**16), 30)
    writer.close()
    assert quick.lines() == lines
    at, lost = 0, 0
    for name, data in events_in(unchunked(stream)):
        if name == "dropped":
            lost += data["lines"]
            at += data["lines"]
        for part in data.get("parts", []):
            for line in part["text"].splitlines():
                assert line == lines[at]
                at += 1
    assert at == len(lines)
    assert lost > 0


def unchunked(stream: bytes) -> bytes:
    """The bodies of chunks; the first one may have lost its head."""
    whole, rest = b"", stream
    first = rest.find(b"\r\n")
    whole, rest = rest[:first], rest[first + 2 :]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        whole += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return whole


def events_in(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in stream.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields and "data" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found
