"""The API on a real socket, in this process and this event loop."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn

from tesra.web.api import create_api
from tesra.web.context import Services

TUS = {"Tus-Resumable": "1.0.0"}


@asynccontextmanager
async def live_api(services: Services) -> AsyncIterator[str]:
    """The URL."""
    config = uvicorn.Config(
        create_api(services), port=0, log_level="warning", lifespan="off", http="httptools"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        while not server.started:
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


def metadata(**pairs: str) -> str:
    """As tus sends it."""
    return ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}".strip() for key, value in pairs.items()
    )


class TusClient:
    """Says just what tus 1.0.0 says."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def create(self, length: int, **pairs: str) -> httpx.Response:
        headers = {**TUS, "Upload-Length": str(length), "Upload-Metadata": metadata(**pairs)}
        return await self.http.post("/api/v1/uploads", headers=headers)

    async def begin(self, length: int, **pairs: str) -> str:
        answer = await self.create(length, **pairs)
        assert answer.status_code == 201, answer.text
        return answer.headers["location"]

    async def patch(
        self,
        address: str,
        offset: int,
        content: bytes | AsyncIterator[bytes],
        **headers: str,
    ) -> httpx.Response:
        said = {
            **TUS,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return await self.http.patch(address, headers=said, content=content)

    async def head(self, address: str) -> httpx.Response:
        return await self.http.head(address, headers=TUS)

    async def offset(self, address: str) -> int:
        answer = await self.head(address)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["upload-offset"])

    async def read(self, path: str) -> bytes:
        answer = await self.http.get("/api/v1/drive/content", params={"path": path})
        assert answer.status_code == 200, answer.text
        return answer.content
