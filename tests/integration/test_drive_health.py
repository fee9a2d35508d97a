"""The health of many files: named page by page, counted once, read again only where it changed."""

from collections.abc import AsyncIterator, Collection

import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.network import network_on
from factories.pages import PageClient, pages_over
from tesra.drive.reach import Reaches
from tesra.drive.reading import EpochReader
from tesra.kit.ids import UserId
from tesra.storage.census import Census
from tesra.web.context import Services
from tesra.wire.storage import DriveHealth

pytestmark = pytest.mark.postgres

PREFIX = "/api/v1/drive"
NAMES = ["a.txt", "b/1.txt", "b/2.txt", "b/c/3.txt", "b.txt", "z/9.txt", "文/件.txt", "b/c.txt"]


class Owner(PageClient):
    async def put(self, path: str, content: bytes) -> None:  # type: ignore[override]
        proof = {"X-CSRF-Token": self.csrf}
        answer = await self.request(
            "PUT", f"{PREFIX}/content", params={"path": path}, content=content, headers=proof
        )
        assert answer.status_code == 200, answer.text

    async def health(self, path: str = "/", **asked: object) -> DriveHealth:
        answer = await self.get(f"{PREFIX}/health", params={"path": path, **asked})  # type: ignore[dict-item]
        assert answer.status_code == 200, answer.text
        return DriveHealth.model_validate_json(answer.content)


@pytest_asyncio.fixture
async def services(fresh_database: FreshDatabase) -> AsyncIterator[Services]:
    async with network_on(await fresh_database()) as network:
        yield network.services


@pytest_asyncio.fixture
async def owner(services: Services) -> AsyncIterator[Owner]:
    async with pages_over(services) as page:
        page.__class__ = Owner
        assert isinstance(page, Owner)
        await page.register()
        for number, name in enumerate(NAMES):
            await page.put(f"/{name}", f"{number}".encode() * 5000)
        yield page


async def _all(owner: Owner, limit: int, path: str = "/") -> list[str]:
    named: list[str] = []
    after = None
    while True:
        found = await owner.health(path, limit=limit, **({"after": after} if after else {}))
        named += [file.path for file in found.files]
        assert len(found.files) <= limit
        if found.next is None:
            return named
        after = found.next


@pytest.mark.parametrize("limit", [1, 2, 3, 8, 100])
async def test_each_file_is_named_once_in_the_order_of_its_path(owner: Owner, limit: int) -> None:
    ordered = sorted(NAMES, key=lambda name: [part.encode() for part in name.split("/")])
    assert await _all(owner, limit) == [f"/{name}" for name in ordered]
    below = [name for name in ordered if name.startswith("b/")]
    assert await _all(owner, limit, "/b") == [f"/{name}" for name in below]


async def test_all_files_are_counted_on_every_page(owner: Owner) -> None:
    found = await owner.health(limit=1, after="/z/9.txt")
    assert (found.total, found.copies, found.state) == (len(NAMES), 1, "degraded")
    await owner.put("/b/new.txt", b"new" * 5000)
    assert (await owner.health(limit=1)).total == len(NAMES) + 1
    assert (await owner.health("/b/c")).total == 1
    one = await owner.health("/b/c/3.txt")
    assert [file.path for file in one.files] == ["/b/c/3.txt"]
    assert one.total == 1


async def test_what_is_not_there_has_no_health(owner: Owner) -> None:
    answer = await owner.get(f"{PREFIX}/health", params={"path": "/none"})
    assert (answer.status_code, answer.json()["code"]) == (404, "nothing_there")
    assert (await owner.health("/", limit=5, after="/龥")).files == []


async def test_only_folders_that_changed_are_read_again(services: Services, owner: Owner) -> None:
    me = UserId((await owner.get("/api/v1/me")).json()["id"])
    reaches = Reaches()
    assert await _reads(services, reaches, me) == 5  # the drive, b, b/c, z, 文
    assert await _reads(services, reaches, me) == 0
    await owner.put("/z/10.txt", b"new" * 5000)
    assert await _reads(services, reaches, me) == 2  # the drive and z


async def _reads(services: Services, reaches: Reaches, owner: UserId) -> int:
    """How many folders are read to count all."""
    head = await services.files.head(owner)
    counting = _Counting(await services.drive.reader(owner, head.epoch))
    await reaches.of(counting, head.root)  # type: ignore[arg-type]  # as far as it is used here
    return counting.reads


class _Counting:
    """A reader that counts the folders that are read."""

    def __init__(self, reader: EpochReader) -> None:
        self._reader = reader
        self.reads = 0
        self.locate = reader.locate
        self.content_ids = reader.content_ids

    async def nodes(
        self, root: bytes, *, known: Collection[bytes]
    ) -> AsyncIterator[tuple[int, bytes, Census]]:
        async for found in self._reader.nodes(root, known=known):
            self.reads += 1
            yield found
