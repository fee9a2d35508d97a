"""Uploads by tus 1.0.0 over a real socket: what its clients say and hear, and what becomes of it."""

import asyncio
import base64
import hashlib
import io
import os
import socket
import tarfile
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import text

from factories.clusters import FreshDatabase
from factories.identity import register
from factories.network import NetworkDouble, network_on
from factories.tus import TUS, TusClient, live_api, metadata
from tesra.db.engine import Database

pytestmark = pytest.mark.postgres

QUOTA = 40_000_000
UPLOADS = "/api/v1/uploads"


@dataclass
class Live:
    network: NetworkDouble
    url: str
    tus: TusClient
    other: TusClient

    @property
    def http(self) -> httpx.AsyncClient:
        return self.tus.http

    def spooled(self) -> list[str]:
        return sorted(path.name for path in self.network.services.settings.home.uploads.iterdir())

    async def set(self, statement: str, **values: Any) -> None:
        async with self.network.services.database.begin() as tx:
            await tx.execute(text(statement), values)


@pytest.fixture(scope="module")
async def live(database: Database) -> AsyncIterator[Live]:
    """Two users of a server whose drives have 40 MB each."""
    async with (
        network_on(database, quota_bytes=QUOTA) as network,
        live_api(network.services) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as first,
        httpx.AsyncClient(base_url=url, timeout=60) as second,
    ):
        for client in (first, second):
            client.headers["Authorization"] = f"Bearer {(await register(client))['token']}"
        yield Live(network, url, TusClient(first), TusClient(second))


@pytest.fixture
async def fresh(live: Live) -> AsyncIterator[Live]:
    """The same with a first user whose drive is empty."""
    async with httpx.AsyncClient(base_url=live.url, timeout=60) as client:
        client.headers["Authorization"] = f"Bearer {(await register(client))['token']}"
        yield Live(live.network, live.url, TusClient(client), live.other)


async def shown(live: Live, address: str) -> dict[str, Any]:
    answer = await live.http.get(address)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_the_server_says_what_of_tus_it_speaks(live: Live) -> None:
    async with httpx.AsyncClient(base_url=live.url) as anybody:
        answer = await anybody.options(UPLOADS)
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "termination",
        "expiration",
        "checksum",
    }
    assert answer.headers["tus-max-size"] == str(QUOTA)
    assert {"sha1", "sha256"} <= set(answer.headers["tus-checksum-algorithm"].split(","))


async def test_an_upload_in_parts_becomes_a_version_of_its_file(fresh: Live) -> None:
    data = os.urandom(3_000_000)
    made = await fresh.tus.create(
        len(data), path="/films/", filename="日落 🌅.bin", filetype="video/mp4"
    )
    assert made.status_code == 201
    assert made.headers["tus-resumable"] == "1.0.0"
    assert "upload-expires" in made.headers
    address = made.headers["location"]
    assert await fresh.tus.offset(address) == 0
    for start in range(0, len(data), 1_000_000):
        answer = await fresh.tus.patch(address, start, data[start : start + 1_000_000])
        assert answer.status_code == 204, answer.text
        assert int(answer.headers["upload-offset"]) == start + 1_000_000
    assert answer.headers["tesra-upload-state"] == "landed"
    assert await fresh.tus.read("/films/日落 🌅.bin") == data
    found = await shown(fresh, address)
    assert (found["state"], found["path"]) == ("landed", "/films/日落 🌅.bin")
    assert found["version"] == (await fresh.http.get("/api/v1/drive/head")).json()["version"]
    head = await fresh.tus.head(address)
    assert head.headers["upload-length"] == head.headers["upload-offset"] == str(len(data))
    assert head.headers["cache-control"] == "no-store"
    assert address.rsplit("/", 1)[1] not in fresh.spooled()


async def test_the_version_before_stays(fresh: Live) -> None:
    for content in (b"first", b"second"):
        address = await fresh.tus.begin(len(content), path="/a.txt")
        assert (await fresh.tus.patch(address, 0, content)).status_code == 204
    assert await fresh.tus.read("/a.txt") == b"second"
    query = {"path": "/a.txt", "version": 2}
    assert (await fresh.http.get("/api/v1/drive/content", params=query)).content == b"first"


async def test_the_first_bytes_may_come_with_the_creation(fresh: Live) -> None:
    headers = {
        **TUS,
        "Upload-Length": "10",
        "Upload-Metadata": metadata(path="/b.txt"),
        "Content-Type": "application/offset+octet-stream",
    }
    answer = await fresh.http.post(UPLOADS, headers=headers, content=b"01234")
    assert answer.status_code == 201
    assert answer.headers["upload-offset"] == "5"
    rest = await fresh.tus.patch(answer.headers["location"], 5, b"56789")
    assert rest.status_code == 204
    assert await fresh.tus.read("/b.txt") == b"0123456789"


async def test_an_empty_file_is_there_at_once(fresh: Live) -> None:
    answer = await fresh.tus.create(0, path="/empty")
    assert answer.status_code == 201
    assert answer.headers["tesra-upload-state"] == "landed"
    assert await fresh.tus.read("/empty") == b""


async def test_bytes_for_another_offset_are_refused(fresh: Live) -> None:
    address = await fresh.tus.begin(10, path="/c.txt")
    assert (await fresh.tus.patch(address, 0, b"01234")).status_code == 204
    for wrong in (0, 4, 6, 10):
        answer = await fresh.tus.patch(address, wrong, b"xx")
        assert answer.status_code == 409
        assert answer.json()["code"] == "offset_wrong"
        assert answer.headers["tus-resumable"] == "1.0.0"
    assert await fresh.tus.offset(address) == 5


@pytest.mark.parametrize("version", [None, "0.2.2", "2.0.0"])
async def test_another_version_of_tus_is_refused(live: Live, version: str | None) -> None:
    address = await live.tus.begin(10, path="/d.txt")
    headers = {"Upload-Length": "5"} | ({"Tus-Resumable": version} if version else {})
    answers = [
        await live.http.post(UPLOADS, headers=headers),
        await live.http.head(address, headers=headers),
        await live.http.patch(address, headers=headers),
        await live.http.delete(address, headers=headers),
    ]
    assert {answer.status_code for answer in answers} == {412}
    assert {answer.headers["tus-version"] for answer in answers} == {"1.0.0"}
    await live.tus.http.delete(address, headers=TUS)


async def test_what_is_malformed_is_told(live: Live) -> None:
    address = await live.tus.begin(10, path="/e.txt")
    kind = {"Content-Type": "application/offset+octet-stream"}
    patches = [
        ({"Upload-Offset": "0"}, 415),
        ({**kind}, 400),
        ({**kind, "Upload-Offset": "-1"}, 400),
        ({**kind, "Upload-Offset": "0", "Upload-Checksum": "crc32 AAAA"}, 400),
        ({**kind, "Upload-Offset": "0", "Upload-Checksum": "sha1 !!"}, 400),
    ]
    for headers, status in patches:
        answer = await live.http.patch(address, headers={**TUS, **headers}, content=b"xx")
        assert answer.status_code == status, headers
        assert answer.json()["detail"]
    assert await live.tus.offset(address) == 0
    for headers in (
        {},
        {"Upload-Length": "-5"},
        {"Upload-Length": "many"},
        {"Upload-Defer-Length": "1"},
        {"Upload-Length": "5", "Upload-Metadata": "path !!!"},
        {"Upload-Length": "5", "Upload-Metadata": "path L2E=,path L2E="},
        {"Upload-Length": "5", "Upload-Metadata": "path"},
        {"Upload-Length": "5", "Upload-Metadata": metadata(path="/a", become="x") + ",as eA=="},
    ):
        answer = await live.http.post(UPLOADS, headers={**TUS, **headers})
        assert answer.status_code == 400, (headers, answer.text)
    await live.http.delete(address, headers=TUS)


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ({"path": "/a/../b"}, "path_invalid"),
        ({"path": "/", "relativePath": "../../etc/passwd"}, "path_invalid"),
        ({"path": "/", "filename": "x" * 300}, "name_refused"),
        ({"path": "/a\0b"}, "metadata_invalid"),
        ({"path": "/", "filename": ""}, "metadata_invalid"),
        ({"path": "/x", "sha256": "12"}, "metadata_invalid"),
        ({"as": "project", "project": "a/b"}, "project_name_invalid"),
    ],
)
async def test_a_name_that_can_not_be_is_refused_at_once(
    live: Live, pairs: dict[str, str], code: str
) -> None:
    answer = await live.tus.create(5, **pairs)
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] == code


async def test_a_file_takes_the_place_of_no_folder_and_lies_below_no_file(fresh: Live) -> None:
    address = await fresh.tus.begin(1, path="/dir/file")
    await fresh.tus.patch(address, 0, b"x")
    onto_folder = await fresh.tus.create(5, path="/dir")
    assert (onto_folder.status_code, onto_folder.json()["code"]) == (409, "something_there")
    below_file = await fresh.tus.create(5, path="/dir/file/below")
    assert (below_file.status_code, below_file.json()["code"]) == (409, "not_a_folder")
    put = await fresh.http.put("/api/v1/drive/content", params={"path": "/dir"}, content=b"x")
    assert (put.status_code, put.json()["code"]) == (409, "something_there")


async def test_more_bytes_than_were_said_are_refused_and_not_kept(fresh: Live) -> None:
    address = await fresh.tus.begin(10, path="/long")
    assert (await fresh.tus.patch(address, 0, b"01234")).status_code == 204
    said = await fresh.tus.patch(address, 5, b"x" * 6)
    assert (said.status_code, said.json()["code"]) == (413, "length_exceeded")

    async def unsaid() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b"x"

    hidden = await fresh.tus.patch(address, 5, unsaid())
    assert (hidden.status_code, hidden.json()["code"]) == (413, "length_exceeded")
    assert await fresh.tus.offset(address) == 5


async def test_a_part_with_a_wrong_checksum_is_not_kept(fresh: Live) -> None:
    address, good = await fresh.tus.begin(10, path="/sum"), b"01234"
    for kind in ("sha1", "sha256", "md5"):
        wrong = base64.b64encode(hashlib.new(kind, b"another").digest()).decode()
        answer = await fresh.tus.patch(address, 0, good, Upload_Checksum=f"{kind} {wrong}")
        assert answer.status_code == 460
        assert answer.json()["code"] == "checksum_mismatch"
        assert await fresh.tus.offset(address) == 0
    right = base64.b64encode(hashlib.sha256(good).digest()).decode()
    answer = await fresh.tus.patch(address, 0, good, Upload_Checksum=f"sha256 {right}")
    assert answer.status_code == 204
    assert (await fresh.tus.patch(address, 5, b"56789")).status_code == 204
    assert await fresh.tus.read("/sum") == b"0123456789"


async def test_an_upload_that_is_not_what_its_sha256_says_does_not_land(fresh: Live) -> None:
    address = await fresh.tus.begin(5, path="/lie", sha256=hashlib.sha256(b"truth").hexdigest())
    answer = await fresh.tus.patch(address, 0, b"liar!")
    assert (answer.status_code, answer.json()["code"]) == (422, "content_untrue")
    assert (await shown(fresh, address))["state"] == "refused"
    assert (await fresh.tus.head(address)).status_code == 409
    listing = (await fresh.http.get("/api/v1/drive/tree", params={"path": "/"})).json()
    assert listing["items"] == []


async def test_what_came_before_the_connection_broke_is_kept(fresh: Live) -> None:
    data = os.urandom(5_000_000)
    address = await fresh.tus.begin(len(data), path="/broken")
    await asyncio.to_thread(_send_and_break, fresh, address, data, 2_500_000)
    async with asyncio.timeout(10):
        while (offset := await fresh.tus.offset(address)) < 2_500_000:
            await asyncio.sleep(0.02)
    assert offset == 2_500_000
    assert (await fresh.tus.patch(address, offset, data[offset:])).status_code == 204
    assert await fresh.tus.read("/broken") == data


async def test_of_two_clients_one_goes_on_and_nothing_is_mixed(fresh: Live) -> None:
    data = os.urandom(4_000_000)
    address = await fresh.tus.begin(len(data), path="/two")
    go = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]
            if start == 2_000_000:
                await go.wait()

    first = asyncio.create_task(fresh.tus.patch(address, 0, slowly()))
    async with asyncio.timeout(30):
        while await fresh.tus.offset(address) == 0:
            await asyncio.sleep(0.01)
    second = asyncio.create_task(fresh.tus.patch(address, 0, b"y" * 100))
    await asyncio.sleep(0)
    go.set()
    answers = [await first, await second]
    assert answers[0].status_code == 204, answers[0].text
    assert answers[1].status_code in {409, 423}
    assert await fresh.tus.read("/two") == data


async def test_who_is_silent_gives_way_to_who_comes_back(fresh: Live) -> None:
    data = os.urandom(300_000)
    address = await fresh.tus.begin(len(data), path="/back")
    silent = await asyncio.to_thread(_send, fresh, address, data, 100_000)
    try:
        async with asyncio.timeout(30):
            while (await fresh.tus.patch(address, 100_000, data[100_000:])).status_code != 204:
                await asyncio.sleep(0.05)
    finally:
        silent.close()
    assert await fresh.tus.read("/back") == data


async def test_a_cancelled_upload_leaves_nothing(fresh: Live) -> None:
    address = await fresh.tus.begin(10, path="/gone")
    await fresh.tus.patch(address, 0, b"0123")
    assert (await fresh.http.delete(address, headers=TUS)).status_code == 204
    assert (await fresh.tus.head(address)).status_code == 404
    assert (await fresh.tus.patch(address, 4, b"x")).status_code == 404
    assert address.rsplit("/", 1)[1] not in fresh.spooled()


async def test_one_that_is_being_sent_can_be_cancelled(fresh: Live) -> None:
    address = await fresh.tus.begin(1_000_000, path="/gone")
    sending = await asyncio.to_thread(_send, fresh, address, bytes(1_000_000), 100_000)
    try:
        assert (await fresh.http.delete(address, headers=TUS)).status_code == 204
    finally:
        sending.close()
    assert (await fresh.tus.head(address)).status_code == 404


async def test_clients_without_patch_say_so_in_a_header(fresh: Live) -> None:
    address = await fresh.tus.begin(5, path="/post")
    headers = {
        **TUS,
        "X-HTTP-Method-Override": "PATCH",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
    }
    assert (await fresh.http.post(address, headers=headers, content=b"01234")).status_code == 204
    assert await fresh.tus.read("/post") == b"01234"


async def test_an_upload_is_seen_by_its_owner_alone(live: Live) -> None:
    address = await live.tus.begin(5, path="/mine")
    assert (await live.other.head(address)).status_code == 404
    assert (await live.other.patch(address, 0, b"x")).status_code == 404
    assert (await live.other.http.delete(address, headers=TUS)).status_code == 404
    assert (await live.other.http.get(address)).status_code == 404
    mine = (await live.http.get(UPLOADS)).json()["items"]
    assert address.rsplit("/", 1)[1] in {one["id"] for one in mine}
    assert (await live.other.http.get(UPLOADS)).json()["items"] == []
    async with httpx.AsyncClient(base_url=live.url) as nobody:
        assert (await nobody.head(address, headers=TUS)).status_code == 401


async def test_the_quota_counts_what_is_begun(fresh: Live) -> None:
    too_much = await fresh.tus.create(QUOTA + 1, path="/all")
    assert (too_much.status_code, too_much.json()["code"]) == (413, "drive_full")
    address = await fresh.tus.begin(QUOTA - 10_000, path="/most")
    assert (await fresh.tus.create(10_001, path="/rest")).status_code == 413
    await fresh.http.delete(address, headers=TUS)
    assert (await fresh.tus.create(10_001, path="/rest")).status_code == 201


async def test_over_quota_in_the_middle_is_told_and_goes_on_when_there_is_room(
    fresh: Live,
) -> None:
    data = os.urandom(30_000_000)
    address = await fresh.tus.begin(len(data), path="/half")
    assert (await fresh.tus.patch(address, 0, data[:15_000_000])).status_code == 204
    other = os.urandom(20_000_000)
    put = await fresh.http.put("/api/v1/drive/content", params={"path": "/x"}, content=other)
    assert put.status_code == 200
    full = await fresh.tus.patch(address, 15_000_000, data[15_000_000:])
    assert (full.status_code, full.json()["code"]) == (413, "drive_full")
    assert full.json()["way_out"]
    assert await fresh.tus.offset(address) == 15_000_000
    drive = (await fresh.http.get("/api/v1/drive/head")).json()["drive"]
    await fresh.set("UPDATE drives SET used_bytes = 0 WHERE id = :id", id=drive)
    rest = await fresh.tus.patch(address, 15_000_000, data[15_000_000:])
    assert rest.status_code == 204
    assert await fresh.tus.read("/half") == data


async def test_over_quota_at_the_end_keeps_the_bytes_for_another_try(fresh: Live) -> None:
    data = os.urandom(5_000_000)
    address = await fresh.tus.begin(len(data), path="/late")
    drive = (await fresh.http.get("/api/v1/drive/head")).json()["drive"]
    full = "UPDATE drives SET used_bytes = :used WHERE id = :id"

    async def slowly() -> AsyncIterator[bytes]:
        yield data[:2_000_000]
        async with asyncio.timeout(10):
            while await fresh.tus.offset(address) == 0:
                await asyncio.sleep(0.01)
        await fresh.set(full, used=QUOTA - 1000, id=drive)
        yield data[2_000_000:]

    answer = await fresh.tus.patch(address, 0, slowly())
    assert (answer.status_code, answer.json()["code"]) == (413, "drive_full")
    found = await shown(fresh, address)
    assert (found["state"], found["error"]["code"]) == ("refused", "drive_full")
    assert found["error"]["way_out"]
    await fresh.set(full, used=0, id=drive)
    again = await fresh.http.post(f"{address}/land")
    assert (again.status_code, again.json()["state"]) == (200, "landed")
    assert await fresh.tus.read("/late") == data


async def test_an_upload_that_nobody_goes_on_with_is_cleared_away(fresh: Live) -> None:
    old, young = [await fresh.tus.begin(10, path=f"/{name}") for name in ("old", "young")]
    await fresh.tus.patch(old, 0, b"0123")
    id_of = old.rsplit("/", 1)[1]
    past = "UPDATE uploads SET expires_at = now() - interval '1 s' WHERE id = :id"
    await fresh.set(past, id=id_of)
    await fresh.network.services.uploads.look_after()
    assert (await fresh.tus.head(old)).status_code == 404
    assert id_of not in fresh.spooled()
    assert await fresh.tus.offset(young) == 0


async def test_what_a_dead_server_left_complete_lands(fresh: Live) -> None:
    address = await fresh.tus.begin(10, path="/left")
    spool = fresh.network.services.settings.home.uploads
    (spool / address.rsplit("/", 1)[1]).write_bytes(b"0123456789")  # it died before it said so
    assert await fresh.tus.offset(address) == 10
    assert await fresh.tus.read("/left") == b"0123456789"


async def test_a_tar_lands_as_many_files_in_one_version(fresh: Live) -> None:
    before = (await fresh.http.get("/api/v1/drive/head")).json()["version"]
    packed = tar_of({f"photos/{n:03}/图 {n}.txt": b"x" * n for n in range(300)})
    address = await fresh.tus.begin(len(packed), **{"path": "/in", "as": "folder"})
    assert (await fresh.tus.patch(address, 0, packed)).status_code == 204
    after = (await fresh.http.get("/api/v1/drive/head")).json()["version"]
    assert after == before + 1
    use = (await fresh.http.get("/api/v1/drive/use", params={"path": "/in/photos"})).json()
    assert use["files"] == 300
    assert await fresh.tus.read("/in/photos/007/图 7.txt") == b"x" * 7


async def test_many_small_files_need_one_request(fresh: Live) -> None:
    packed = tar_of({"a/1.txt": b"1", "a/b/2.txt": b"2", ".gitignore": b"*"})
    answer = await fresh.http.post("/api/v1/drive/unpack", params={"path": "/w"}, content=packed)
    assert answer.status_code == 200, answer.text
    assert await fresh.tus.read("/w/a/b/2.txt") == b"2"
    assert await fresh.tus.read("/w/.gitignore") == b"*"
    more = await fresh.http.post(
        "/api/v1/drive/unpack", params={"path": "/w"}, content=zip_of({"a/3.txt": b"3"})
    )
    assert more.json()["version"] == answer.json()["version"] + 1
    assert await fresh.tus.read("/w/a/1.txt") == b"1"
    assert await fresh.tus.read("/w/a/3.txt") == b"3"


@pytest.mark.parametrize("content", [b"no archive", b"", b"PK\x03\x04 cut short"])
async def test_what_is_no_archive_changes_nothing(fresh: Live, content: bytes) -> None:
    before = (await fresh.http.get("/api/v1/drive/head")).json()
    answer = await fresh.http.post("/api/v1/drive/unpack", content=content)
    assert answer.status_code == 422
    assert answer.json()["code"] in {"archive_unknown", "archive_damaged"}
    assert (await fresh.http.get("/api/v1/drive/head")).json() == before


async def test_an_archive_whose_names_lead_out_is_refused(fresh: Live) -> None:
    packed = tar_of({"../../evil": b"x"})
    address = await fresh.tus.begin(len(packed), **{"path": "/in", "as": "folder"})
    answer = await fresh.tus.patch(address, 0, packed)
    assert (answer.status_code, answer.json()["code"]) == (422, "archive_path_outside")


async def test_dropped_files_become_a_project(fresh: Live) -> None:
    packed = tar_of({"digits/train.py": b"print(1)\n", "digits/data/x.csv": b"1\n"})
    pairs = {"as": "project", "project": "手写数字", "filename": "digits.tar"}
    address = await fresh.tus.begin(len(packed), **pairs)
    assert (await fresh.tus.patch(address, 0, packed)).status_code == 204
    found = await shown(fresh, address)
    project = (await fresh.http.get(f"/api/v1/projects/{found['project']}")).json()
    assert (project["name"], project["file_count"]) == ("手写数字", 2)


async def test_a_folder_of_the_drive_becomes_a_project_and_no_content_moves(fresh: Live) -> None:
    content = {"train.py": b"print(1)\n", "weights.bin": os.urandom(2_000_000)}
    await fresh.http.post("/api/v1/drive/unpack", params={"path": "/code"}, content=tar_of(content))
    before = (await fresh.http.get("/api/v1/drive/quota")).json()["used_bytes"]
    made = await fresh.http.post("/api/v1/projects/from-drive", json={"path": "/code"})
    assert made.status_code == 201, made.text
    assert (made.json()["name"], made.json()["file_count"]) == ("code", 2)
    after = (await fresh.http.get("/api/v1/drive/quota")).json()["used_bytes"]
    assert after - before < 2_000
    again = await fresh.http.post("/api/v1/projects/from-drive", json={"path": "/code"})
    assert again.json()["unchanged"]
    files = await fresh.http.get(f"/api/v1/drive/snapshots/{made.json()['snapshot']}/files")
    assert [one["path"] for one in files.json()["items"]] == ["train.py", "weights.bin"]


async def test_an_archive_in_the_drive_becomes_a_project(fresh: Live) -> None:
    packed = zip_of({"app/train.py": b"print(1)\n"})
    await fresh.http.put("/api/v1/drive/content", params={"path": "/app.zip"}, content=packed)
    made = await fresh.http.post("/api/v1/projects/from-drive", json={"path": "/app.zip"})
    assert made.status_code == 201, made.text
    assert (made.json()["name"], made.json()["file_count"]) == ("app", 1)
    missing = await fresh.http.post("/api/v1/projects/from-drive", json={"path": "/none"})
    assert (missing.status_code, missing.json()["code"]) == (404, "nothing_there")


async def test_unfinished_uploads_of_one_user_are_bounded(
    fresh_database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tesra.drive.uploads.service.MAX_OPEN", 3)
    async with (
        network_on(await fresh_database()) as network,
        live_api(network.services) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        http.headers["Authorization"] = f"Bearer {(await register(http))['token']}"
        tus = TusClient(http)
        addresses = [await tus.begin(1, path=f"/{n}") for n in range(3)]
        refused = await tus.create(1, path="/4")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_uploads")
        assert (await tus.patch(addresses[0], 0, b"x")).status_code == 204
        assert (await tus.create(1, path="/4")).status_code == 201


def tar_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as opened:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return packed.getvalue()


def _send(live: Live, address: str, data: bytes, size: int) -> socket.socket:
    """Say that all comes, and send a part; the connection stays open."""
    host = urlsplit(live.url)
    connection = socket.create_connection((host.hostname, host.port), timeout=30)
    head = (
        f"PATCH {address} HTTP/1.1\r\nHost: {host.netloc}\r\nTus-Resumable: 1.0.0\r\n"
        f"Authorization: {live.http.headers['Authorization']}\r\nUpload-Offset: 0\r\n"
        "Content-Type: application/offset+octet-stream\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    connection.sendall(head.encode() + data[:size])
    return connection


def _send_and_break(live: Live, address: str, data: bytes, size: int) -> None:
    connection = _send(live, address, data, size)
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()
