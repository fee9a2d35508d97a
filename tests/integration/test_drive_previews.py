"""Previews over HTTP within the process: real files in a real drive, hostile ones among them."""

import io
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from factories.identity import client_of, register, services_on, settings_in
from tesra.crypto.aead import Sealer
from tesra.db.engine import Database
from tesra.drive.files.service import FileService
from tesra.drive.pack_store import PackStore
from tesra.drive.previews import service as previewing
from tesra.drive.previews.service import PreviewService
from tesra.drive.service import DriveService
from tesra.web.api import create_api
from tesra.web.routes import files as file_routes
from tesra.web.routes import identity as identity_routes
from tesra.web.routes import previews as preview_routes

pytestmark = pytest.mark.postgres

PREFIX = "/api/v1/drive"


@pytest.fixture
async def client(database: Database, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    store = PackStore(tmp_path / "packs")
    drive = DriveService(database, store, Sealer(bytes(32)), quota_bytes=40_000_000)
    files = FileService(database, drive)
    services = services_on(
        database,
        settings=settings_in(tmp_path),
        drive=drive,
        files=files,
        previews=PreviewService(files),
    )
    api = create_api(
        services, routers=[identity_routes.router, file_routes.router, preview_routes.router]
    )
    async with client_of(api) as anonymous:
        token = (await register(anonymous))["token"]
    async with client_of(api, token=token) as signed_in:
        yield signed_in


async def put(client: httpx.AsyncClient, path: str, content: bytes) -> None:
    answer = await client.put(f"{PREFIX}/content", params={"path": path}, content=content)
    assert answer.status_code == 200, answer.text


async def seen(client: httpx.AsyncClient, path: str, *, status: int = 200) -> dict[str, Any]:
    answer = await client.get(f"{PREFIX}/preview", params={"path": path})
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def photo(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((width, height), 50).convert("RGB").save(out, "JPEG", quality=95)
    return out.getvalue()


async def test_an_image_is_seen_small_and_as_a_file_of_its_own(client: httpx.AsyncClient) -> None:
    await put(client, "/p/photo", photo(2000, 1500))
    found = await seen(client, "/p/photo")
    assert found["kind"] == "image"
    assert (found["image"]["width"], found["image"]["height"]) == (2000, 1500)
    answer = await client.get(f"{PREFIX}/thumbnail", params={"path": "/p/photo"})
    assert answer.headers["content-type"] == "image/jpeg"
    assert "sandbox" in answer.headers["content-security-policy"]
    with Image.open(io.BytesIO(answer.content)) as small:
        assert small.size == (512, 384)


async def test_texts_tables_and_markdown_are_seen(client: httpx.AsyncClient) -> None:
    await put(client, "/说明.txt", "你好\n".encode("gb18030") * 20)
    await put(client, "/a.csv", b"x,y\n1,2.5\n")
    await put(client, "/README.md", b"# Hi\n<script>1</script>\n")
    text = await seen(client, "/说明.txt")
    assert (text["kind"], text["encoding"], text["text"]) == ("text", "gb18030", "你好\n" * 20)
    rows = await seen(client, "/a.csv")
    assert rows["table"]["rows"] == [["1", "2.5"]]
    assert [one["type"] for one in rows["table"]["columns"]] == ["integer", "number"]
    page = await seen(client, "/README.md")
    assert "<h1>Hi</h1>" in page["html"]
    assert "<script" not in page["html"]
    assert page["text"].startswith("# Hi")


async def test_of_tensors_only_the_header_is_read(client: httpx.AsyncClient) -> None:
    header = json.dumps(
        {"w": {"dtype": "F16", "shape": [1000, 1000], "data_offsets": [0, 2_000_000]}}
    ).encode()
    whole = len(header).to_bytes(8, "little") + header + os.urandom(2_000_000)
    await put(client, "/m.safetensors", whole)
    found = (await seen(client, "/m.safetensors"))["tensors"]
    assert (found["count"], found["parameters"]) == (1, 1_000_000)
    await put(client, "/cut.safetensors", whole[:-1])
    assert "shorter" in (await seen(client, "/cut.safetensors", status=422))["detail"]


async def test_what_is_hostile_or_damaged_is_refused_or_shown_as_binary(
    client: httpx.AsyncClient,
) -> None:
    await put(client, "/huge.safetensors", (2**60).to_bytes(8, "little") + b"{}")
    refused = await seen(client, "/huge.safetensors", status=422)
    assert refused["code"] == "preview_refused"
    await put(client, "/empty.safetensors", b"")
    await seen(client, "/empty.safetensors", status=422)
    await put(client, "/program.txt", b"\x7fELF\x02\x01\x01\0" + os.urandom(5000))
    assert (await seen(client, "/program.txt"))["kind"] == "binary"
    await put(client, "/torn.png", photo(500, 500)[:-20_000])
    await seen(client, "/torn.png", status=422)
    await put(client, "/empty.csv", b"")
    assert (await seen(client, "/empty.csv"))["table"]["rows"] == []
    await seen(client, "/nowhere", status=404)


async def test_of_an_endless_line_the_beginning_is_seen(client: httpx.AsyncClient) -> None:
    await put(client, "/line.csv", b"x" * 20_000_000)  # a larger one is read no further either
    found = await seen(client, "/line.csv")
    assert found["truncated"]
    assert len(json.dumps(found)) < 2000


async def test_a_decoder_that_takes_too_long_is_ended(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(client, "/slow.jpg", photo(200, 200))
    monkeypatch.setattr(previewing, "TIMEOUT_S", 0.0)
    assert "more time" in (await seen(client, "/slow.jpg", status=422))["detail"]
