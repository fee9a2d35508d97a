"""Share links and downloads on a real database and a real disk, over HTTP within the process."""

import asyncio
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from factories.identity import cheap_passwords, client_of, register, services_on, settings_in
from tesra.crypto.aead import Sealer
from tesra.db.engine import Database
from tesra.drive.collection_repository import CollectionRepository
from tesra.drive.files.service import FileService
from tesra.drive.pack_store import PackStore
from tesra.drive.service import DriveService
from tesra.drive.shares.model import secret_hash
from tesra.drive.shares.service import ShareService
from tesra.kit.ids import EpochId
from tesra.web.api import create_api
from tesra.web.routes import drive as drive_routes
from tesra.web.routes import files as file_routes
from tesra.web.routes import identity as identity_routes
from tesra.web.routes import shares as share_routes
from tesra.wire.shares import ShareRequest

pytestmark = pytest.mark.postgres

PREFIX = "/api/v1/drive"


@dataclass
class Doors:
    """``owner`` is signed in; ``visitor`` has no account."""

    owner: httpx.AsyncClient
    visitor: httpx.AsyncClient
    database: Database

    async def put(self, path: str, content: bytes) -> None:
        answer = await self.owner.put(f"{PREFIX}/content", params={"path": path}, content=content)
        assert answer.status_code == 200, answer.text

    async def share(self, path: str, **wishes: Any) -> dict[str, Any]:
        answer = await self.owner.post(f"{PREFIX}/shares", json={"path": path, **wishes})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def listed(self) -> list[dict[str, Any]]:
        return list((await self.owner.get(f"{PREFIX}/shares")).json()["items"])

    async def change(self, statement: str, **values: Any) -> None:
        async with self.database.begin() as tx:
            await tx.execute(text(statement), values)


@pytest.fixture
async def doors(database: Database, tmp_path: Path) -> AsyncIterator[Doors]:
    drive = DriveService(
        database, PackStore(tmp_path / "packs"), Sealer(bytes(32)), quota_bytes=40_000_000
    )
    files = FileService(database, drive)
    shares = ShareService(database, drive, files, passwords=cheap_passwords())
    settings = settings_in(tmp_path)
    services = services_on(database, settings=settings, drive=drive, files=files, shares=shares)
    modules = (identity_routes, drive_routes, file_routes, share_routes)
    api = create_api(services, routers=[*(one.router for one in modules), share_routes.links])
    async with client_of(api) as visitor:
        token = (await register(visitor))["token"]
        async with client_of(api, token=token) as owner:
            yield Doors(owner, visitor, database)


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.json()["code"]


async def test_a_download_by_path_goes_on_where_it_was_cut_off(doors: Doors) -> None:
    content = os.urandom(3_000_000)
    await doors.put("/数据 1.bin", content)
    ask = {"path": "/数据 1.bin"}
    whole = await doors.owner.get(f"{PREFIX}/content", params=ask)
    etag = whole.headers["etag"]
    assert whole.content == content
    assert "filename*=UTF-8''%E6%95%B0%E6%8D%AE%201.bin" in whole.headers["content-disposition"]

    async def get(**headers: str) -> httpx.Response:
        return await doors.owner.get(
            f"{PREFIX}/content",
            params=ask,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    rest = await get(Range="bytes=1000000-", If_Range=etag)
    assert (rest.status_code, rest.content) == (206, content[1_000_000:])
    assert rest.headers["content-range"] == "bytes 1000000-2999999/3000000"
    known = await get(If_None_Match=etag)
    assert (known.status_code, known.content) == (304, b"")
    await doors.put("/数据 1.bin", b"another content")
    other = await get(Range="bytes=5-", If_Range=etag)
    assert (other.status_code, other.content) == (200, b"another content")
    beyond = await get(Range="bytes=15-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */15")


async def test_a_folder_comes_as_a_zip_or_a_tar(doors: Doors) -> None:
    large = os.urandom(1_500_000)
    await doors.put("/work/a.txt", b"a")
    await doors.put("/work/deep/名.bin", large)
    ask = {"path": "/work"}
    zipped = await doors.owner.get(f"{PREFIX}/archive", params=ask)
    assert 'filename="work.zip"' in zipped.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as packed:
        assert packed.testzip() is None
        assert packed.read("deep/名.bin") == large
    tarred = await doors.owner.get(f"{PREFIX}/archive", params={**ask, "kind": "tar"})
    with tarfile.open(fileobj=io.BytesIO(tarred.content)) as unpacked:
        assert unpacked.getnames() == ["a.txt", "deep", "deep/名.bin"]
        member = unpacked.extractfile("deep/名.bin")
        assert member is not None
        assert member.read() == large
    file = await doors.owner.get(f"{PREFIX}/archive", params={"path": "/work/a.txt"})
    assert said(file) == (422, "not_a_folder")


async def test_a_link_shows_what_stood_there_and_a_live_one_what_stands_there(doors: Doors) -> None:
    await doors.put("/report.txt", b"first")
    fixed, live = await doors.share("/report.txt"), await doors.share("/report.txt", live=True)
    await doors.put("/report.txt", b"second")
    assert (await doors.visitor.get(fixed["address"])).content == b"first"
    shown = await doors.visitor.get(live["address"])
    assert shown.content == b"second"
    assert 'filename="report.txt"' in shown.headers["content-disposition"]
    body = {"changes": [{"op": "remove", "path": "/report.txt"}]}
    assert (await doors.owner.post(f"{PREFIX}/changes", json=body)).status_code == 200
    assert (await doors.visitor.get(fixed["address"])).content == b"first"
    assert said(await doors.visitor.get(live["address"])) == (410, "share_empty")


async def test_a_shared_folder_is_an_archive_and_its_files_can_be_had_one_by_one(
    doors: Doors,
) -> None:
    await doors.put("/out/a.txt", b"a")
    await doors.put("/out/in/b.txt", b"bb")
    link = (await doors.share("/out"))["address"]
    with zipfile.ZipFile(io.BytesIO((await doors.visitor.get(link)).content)) as packed:
        assert packed.read("in/b.txt") == b"bb"
    one = await doors.visitor.get(link, params={"path": "in/b.txt"})
    assert one.content == b"bb"
    assert (await doors.visitor.get(link, params={"path": "../out/a.txt"})).status_code == 422
    assert (await doors.visitor.get(link, params={"path": "none"})).status_code == 404


async def test_only_the_hash_of_a_links_secret_is_kept(doors: Doors) -> None:
    await doors.put("/a", b"1")
    made = await doors.share("/a")
    secret = made["address"].removeprefix("/s/")
    assert made["url"] == f"http://tesra.test/s/{secret}"
    assert "address" not in (await doors.listed())[0]
    async with doors.database.begin() as tx:
        row = (await tx.execute(text("SELECT * FROM drive_shares WHERE id = :id"), made)).one()
    assert bytes(row.secret_hash) == secret_hash(secret)
    assert secret not in str(tuple(row))


async def test_as_many_downloads_as_are_allowed_however_many_ask_at_once(doors: Doors) -> None:
    await doors.put("/a.bin", b"x" * 50_000)
    link = (await doors.share("/a.bin", max_downloads=3))["address"]
    answers = await asyncio.gather(*(doors.visitor.get(link) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [410] * 17
    refused = next(answer for answer in answers if answer.status_code == 410)
    assert refused.json()["code"] == "share_used_up"
    listed = (await doors.listed())[0]
    assert (listed["state"], listed["downloads"]) == ("used_up", 3)


async def test_going_on_with_a_download_is_not_counted_again(doors: Doors) -> None:
    content = os.urandom(50_000)
    await doors.put("/a.bin", content)
    link = (await doors.share("/a.bin", max_downloads=1))["address"]
    rest = {"Range": "bytes=20000-"}
    assert said(await doors.visitor.get(link, headers=rest)) == (403, "download_not_begun")
    begun = await doors.visitor.get(link, headers={"Range": "bytes=0-19999"})
    gone_on = await doors.visitor.get(link, headers=rest)
    assert (begun.status_code, gone_on.status_code) == (206, 206)
    assert begun.content + gone_on.content == content
    assert said(await doors.visitor.get(link)) == (410, "share_used_up")
    await doors.change("UPDATE share_downloads SET address = 'elsewhere'")
    assert said(await doors.visitor.get(link, headers=rest)) == (410, "share_used_up")


async def test_a_password_is_taken_in_three_ways_and_guesses_are_few(doors: Doors) -> None:
    await doors.put("/a", b"secret")
    link = (await doors.share("/a", password="芝麻 open"))["address"]
    asked = await doors.visitor.get(link)
    assert said(asked) == (401, "share_password_needed")
    assert asked.headers["www-authenticate"].startswith("Basic ")
    header = {"Tesra-Share-Password": "芝麻 open".encode()}
    good = (
        await doors.visitor.get(link, headers=header),
        await doors.visitor.get(link, auth=("", "芝麻 open")),
        await doors.visitor.post(link, data={"password": "芝麻 open"}),
    )
    assert [one.content for one in good] == [b"secret"] * 3
    wrong = [await doors.visitor.get(link, auth=("", f"no {n}")) for n in range(11)]
    assert [said(one) for one in wrong[:10]] == [(401, "share_password_wrong")] * 10
    assert said(wrong[10]) == (429, "too_many_guesses")
    assert (await doors.visitor.get(link, headers=header)).status_code == 429
    await doors.change("UPDATE drive_shares SET guesses_from = now() - interval '6 min'")
    assert (await doors.visitor.get(link, headers=header)).content == b"secret"
    assert (await doors.listed())[0]["downloads"] == 4


async def test_why_a_link_opens_nothing_is_told(doors: Doors) -> None:
    await doors.put("/a", b"1")
    expired, revoked = await doors.share("/a", expires_s=60), await doors.share("/a")
    await doors.change(
        "UPDATE drive_shares SET expires_at = now() - interval '1 s' WHERE id = :id",
        id=expired["id"],
    )
    answer = await doors.owner.delete(f"{PREFIX}/shares/{revoked['id']}")
    assert answer.status_code == 204
    assert said(await doors.visitor.get(expired["address"])) == (410, "share_expired")
    assert said(await doors.visitor.get(revoked["address"])) == (410, "share_revoked")
    assert said(await doors.visitor.get("/s/nothing")) == (404, "share_unknown")
    assert [one["state"] for one in await doors.listed()] == ["revoked", "expired"]
    nothing = await doors.owner.delete(f"{PREFIX}/shares/shr_none")
    assert said(nothing) == (404, "share_unknown")


async def test_links_of_others_and_of_private_drives_are_refused(doors: Doors) -> None:
    await doors.put("/a", b"1")
    made = await doors.share("/a")
    token = (await register(doors.visitor))["token"]
    other = {"Authorization": f"Bearer {token}"}
    answer = await doors.visitor.delete(f"{PREFIX}/shares/{made['id']}", headers=other)
    assert said(answer) == (404, "share_unknown")
    private = await doors.owner.post(f"{PREFIX}/shares", json={"path": "diary:/today"})
    assert said(private) == (403, "key_not_here")
    missing = await doors.owner.post(f"{PREFIX}/shares", json={"path": "/none"})
    assert said(missing) == (404, "nothing_there")


async def test_the_same_call_under_its_key_makes_one_link(doors: Doors) -> None:
    await doors.put("/a", b"1")
    headers = {"Idempotency-Key": "share-a"}
    made = [
        (await doors.owner.post(f"{PREFIX}/shares", json={"path": "/a"}, headers=headers)).json()
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert len(await doors.listed()) == 1


async def test_the_collector_keeps_what_a_link_leads_to_until_it_ends(doors: Doors) -> None:
    await doors.put("/a", os.urandom(100_000))
    made = await doors.share("/a")
    async with doors.database.begin() as tx:
        query = text("SELECT epoch_id, root FROM drive_shares WHERE id = :id")
        row = (await tx.execute(query, made)).one()
        roots = await CollectionRepository().snapshot_roots(tx, EpochId(row.epoch_id))
    assert bytes(row.root) in roots
    await doors.owner.delete(f"{PREFIX}/shares/{made['id']}")
    async with doors.database.begin() as tx:
        assert await CollectionRepository().snapshot_roots(tx, EpochId(row.epoch_id)) == []


async def test_many_parts_at_once_with_the_right_password_are_no_guesses(doors: Doors) -> None:
    await doors.put("/a.bin", bytes(100_000))
    address = (await doors.share("/a.bin", password="right"))["address"]

    async def part(number: int) -> int:
        headers = {"Tesra-Share-Password": "right", "Range": f"bytes={number * 1000}-"}
        return (await doors.visitor.get(address, headers=headers)).status_code

    assert await asyncio.gather(*(part(number) for number in range(24))) == [206] * 24


async def test_going_on_is_for_the_file_that_was_begun(doors: Doors) -> None:
    await doors.put("/out/small", b"small")
    await doors.put("/out/large", os.urandom(50_000))
    address = (await doors.share("/out", max_downloads=1))["address"]
    assert (await doors.visitor.get(address, params={"path": "small"})).status_code == 200
    rest = {"Range": "bytes=1-"}
    same = await doors.visitor.get(address, params={"path": "small"}, headers=rest)
    assert (same.status_code, same.content) == (206, b"mall")
    other = await doors.visitor.get(address, params={"path": "large"}, headers=rest)
    assert said(other)[1] in {"share_used_up", "download_not_begun"}


async def test_no_quick_hash_of_a_links_password_is_kept_with_its_key(doors: Doors) -> None:
    await doors.put("/a", b"a")
    key = {"Idempotency-Key": os.urandom(8).hex()}
    first = {"path": "/a", "password": "1234"}
    made = await doors.owner.post(f"{PREFIX}/shares", json=first, headers=key)
    async with doors.database.begin() as tx:
        statement = "SELECT request_hash FROM idempotency_keys WHERE key = :key"
        kept = (await tx.execute(text(statement), {"key": key["Idempotency-Key"]})).scalar_one()
    call = f"POST {PREFIX}/shares\ntesra.wire.shares:ShareRequest\n"
    guessed = hashlib.sha256((call + ShareRequest(**first).model_dump_json()).encode()).digest()
    assert bytes(kept) != guessed
    again = await doors.owner.post(f"{PREFIX}/shares", json=first, headers=key)
    assert again.json() == made.json()
    for other in ({"path": "/a"}, {"path": "/a", "password": "1234", "live": True}):
        refused = await doors.owner.post(f"{PREFIX}/shares", json=other, headers=key)
        assert said(refused) == (409, "key_reused")
