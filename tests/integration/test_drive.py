"""The drive on a real database and a real disk, through its service and through HTTP."""

import asyncio
import io
import socket
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from blake3 import blake3

from factories.identity import client_of, register, services_on, settings_in
from factories.storage import contents, pack_of, random_bytes, sample_folder
from tesra.crypto.aead import Sealer
from tesra.db.engine import Database, Tx
from tesra.drive.git_import import GitImports
from tesra.drive.intake import Intake
from tesra.drive.model import (
    DriveFull,
    EpochNotWritable,
    EpochUnknown,
    PackRefused,
    PackUnknown,
    ProjectNameInvalid,
    SnapshotIncomplete,
    SnapshotUnknown,
    SnapshotUntrue,
)
from tesra.drive.pack_store import PackStore
from tesra.drive.service import DriveService
from tesra.kit import errors
from tesra.kit.ids import EpochId, SnapshotId, UserId, new_id
from tesra.sdk.transfer import HttpDoor, fetch_snapshot, upload_tree
from tesra.storage.cloning import CloneLimits
from tesra.storage.format import EpochKeys
from tesra.storage.packing import PackBroken
from tesra.storage.progress import Progress
from tesra.web.api import create_api
from tesra.web.routes import drive as drive_routes
from tesra.web.routes import identity as identity_routes
from tesra.wire.drive import GitImport, Project, ProjectCommit, SnapshotCommit, UploadGrant

pytestmark = pytest.mark.postgres

QUOTA = 40_000_000


@pytest.fixture
def service(database: Database, tmp_path: Path) -> DriveService:
    store = PackStore(tmp_path / "packs")
    return DriveService(database, store, Sealer(bytes(32)), quota_bytes=QUOTA)


@pytest.fixture
def owner() -> UserId:
    return UserId(new_id("usr"))


async def whole(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def grant_of(
    service: DriveService, database: Database, owner: UserId, purpose: str | None = None
) -> tuple[UploadGrant, EpochKeys]:
    async with database.begin() as tx:
        grant = await service.open_upload(tx, owner, purpose=purpose)
    keys = EpochKeys(grant.epoch, bytes.fromhex(grant.id_key), bytes.fromhex(grant.data_key))
    return grant, keys


async def imported(
    service: DriveService, database: Database, owner: UserId, root: Path, name: str = "p"
) -> Project:
    return await Intake(database, service).folder(owner, root, name=name)


async def test_a_drive_has_one_main_epoch_and_one_for_each_run(
    service: DriveService, database: Database, owner: UserId
) -> None:
    grants = await asyncio.gather(*(grant_of(service, database, owner) for _ in range(5)))
    assert len({grant.model_dump_json() for grant, _ in grants}) == 1
    run, _ = await grant_of(service, database, owner, "run:run_1")
    assert (run.drive, run.epoch) != (grants[0][0].drive, grants[0][0].epoch)
    assert run.data_key != grants[0][0].data_key


async def test_a_pack_is_stored_once_and_counted_once(
    service: DriveService, database: Database, owner: UserId
) -> None:
    _, keys = await grant_of(service, database, owner)
    epoch, pack = EpochId(keys.id), pack_of(random_bytes(300_000), b"b", keys=keys)
    first, again = [
        await service.receive_pack(owner, epoch, pack.id, whole(pack.data)) for _ in range(2)
    ]
    assert (first.new_bytes, again.new_bytes) == (len(pack.data), 0)
    sealed_anew = pack_of(random_bytes(300_000), b"b", keys=keys)
    assert sealed_anew.id != pack.id
    third = await service.receive_pack(owner, epoch, sealed_anew.id, whole(sealed_anew.data))
    assert third.new_bytes == 0
    async with database.begin() as tx:
        assert (await service.quota(tx, owner)).used_bytes == len(pack.data)
        ids = [keys.chunk_id(b"b").hex(), "00" * 32]
        assert await service.missing(tx, owner, epoch, ids) == ["00" * 32]


async def test_packs_sent_at_once_are_counted_rightly(
    service: DriveService, database: Database, owner: UserId
) -> None:
    _, keys = await grant_of(service, database, owner)
    packs = [pack_of(random_bytes(50_000, seed), keys=keys) for seed in range(6)] * 2
    await asyncio.gather(
        *(service.receive_pack(owner, EpochId(keys.id), p.id, whole(p.data)) for p in packs)
    )
    async with database.begin() as tx:
        used = (await service.quota(tx, owner)).used_bytes
    assert used == sum(len(pack.data) for pack in packs[:6])


async def test_a_pack_that_is_not_what_it_says_is_refused_and_leaves_nothing(
    service: DriveService, database: Database, owner: UserId, tmp_path: Path
) -> None:
    _, keys = await grant_of(service, database, owner)
    epoch, pack = EpochId(keys.id), pack_of(b"a" * 100, keys=keys)
    with pytest.raises(PackRefused):
        await service.receive_pack(owner, epoch, pack.id, whole(pack.data[:-1]))
    junk = b"no pack" * 100
    with pytest.raises(PackBroken):
        await service.receive_pack(owner, epoch, blake3(junk).hexdigest(), whole(junk))
    assert not [path for path in (tmp_path / "packs").rglob("*") if path.is_file()]


async def test_a_full_drive_says_how_much_is_missing(
    service: DriveService, database: Database, owner: UserId
) -> None:
    _, keys = await grant_of(service, database, owner)
    epoch = EpochId(keys.id)
    for seed in range(2):
        chunks = [random_bytes(3_500_000, seed * 10 + i) for i in range(5)]
        pack = pack_of(*chunks, keys=keys)
        await service.receive_pack(owner, epoch, pack.id, whole(pack.data))
    last = pack_of(*[random_bytes(3_000_000, 90 + i) for i in range(2)], keys=keys)
    with pytest.raises(DriveFull) as refusal:
        await service.receive_pack(owner, epoch, last.id, whole(last.data))
    assert refusal.value.fields["quota_bytes"] == QUOTA
    assert refusal.value.fields["needed_bytes"] == len(last.data)
    assert refusal.value.way_out


async def test_strangers_and_other_purposes_cannot_write(
    service: DriveService, database: Database, owner: UserId
) -> None:
    _, keys = await grant_of(service, database, owner)
    epoch, pack = EpochId(keys.id), pack_of(b"x" * 50, keys=keys)
    stranger = UserId(new_id("usr"))
    with pytest.raises(EpochUnknown):
        await service.receive_pack(stranger, epoch, pack.id, whole(pack.data))
    with pytest.raises(EpochNotWritable):
        await service.receive_pack(owner, epoch, pack.id, whole(pack.data), purpose="run:r")
    commit = SnapshotCommit(epoch=epoch, root="00" * 32, file_count=0, size_bytes=0)
    with pytest.raises(EpochUnknown):
        await service.check_complete(stranger, commit)
    with pytest.raises(EpochNotWritable):
        await service.check_complete(owner, commit, purpose="run:r")


async def test_commits_that_lie_are_refused(
    service: DriveService, database: Database, owner: UserId, tmp_path: Path
) -> None:
    project = await imported(service, database, owner, sample_folder(tmp_path / "s"))
    grant, _ = await grant_of(service, database, owner)
    snapshot = await service.snapshot(SnapshotId(project.snapshot))
    true = SnapshotCommit(
        epoch=grant.epoch,
        root=snapshot.root.hex(),
        file_count=project.file_count,
        size_bytes=project.size_bytes,
    )
    await service.check_complete(owner, true)
    for lie in ({"file_count": 1}, {"size_bytes": 1}):
        with pytest.raises(SnapshotUntrue):
            await service.check_complete(owner, true.model_copy(update=lie))
    with pytest.raises(SnapshotIncomplete):
        await service.check_complete(owner, true.model_copy(update={"root": "00" * 32}))


async def test_importing_the_same_again_changes_nothing(
    service: DriveService, database: Database, owner: UserId, tmp_path: Path
) -> None:
    root = sample_folder(tmp_path / "s")
    first = await imported(service, database, owner, root)
    again = await imported(service, database, owner, root)
    assert again == first.model_copy(update={"unchanged": True})
    (root / "train.py").write_text("other")
    second = await imported(service, database, owner, root)
    assert (second.id, second.snapshots, second.unchanged) == (first.id, 2, False)
    assert second.snapshot != first.snapshot
    async with database.begin() as tx:
        assert await service.project(tx, owner, first.id) == second
        assert await service.projects(tx, owner) == [second]
        with pytest.raises(errors.NotFound):
            await service.project(tx, UserId("usr_other"), first.id)


@pytest.mark.parametrize("name", ["", "a/b", "prj_x", "a\nb", "..", "x" * 200])
async def test_names_that_no_project_can_have(
    service: DriveService, database: Database, owner: UserId, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ProjectNameInvalid):
        await imported(service, database, owner, tmp_path, name)


async def test_files_are_listed_and_read_in_any_range(
    service: DriveService, database: Database, owner: UserId, tmp_path: Path
) -> None:
    root = sample_folder(tmp_path / "s")
    snapshot = SnapshotId((await imported(service, database, owner, root)).snapshot)
    listed = await service.list_files(snapshot, owner=owner)
    assert [entry.path for entry in listed] == [
        "big.bin",
        "empty",
        "run.sh",
        "sub",
        "sub/deep",
        "sub/deep/zero",
        "sub/link",
        "sub/数据.txt",
        "train.py",
    ]
    paged = []
    after = None
    while page := await service.files_page(owner, snapshot, after=after, limit=2):
        paged += page
        after = page[-1].path
    assert paged == listed
    content = (root / "big.bin").read_bytes()
    for start, end in ((0, None), (2_500_000, 2_500_001), (4_999_990, 9_000_000)):
        stream = await service.open_file(snapshot, "big.bin", start=start, end=end)
        assert b"".join([piece async for piece in stream]) == content[start:end]
    for path in ("no", "sub", "sub/link", "train.py/x", "", "../x"):
        with pytest.raises(errors.NotFound):
            await service.find_file(snapshot, path)
    with pytest.raises(SnapshotUnknown):
        await service.list_files(snapshot, owner=UserId("usr_other"))


async def test_an_archive_holds_what_the_snapshot_holds(
    service: DriveService, database: Database, owner: UserId, tmp_path: Path
) -> None:
    root = sample_folder(tmp_path / "s")
    snapshot = SnapshotId((await imported(service, database, owner, root)).snapshot)
    data = b"".join([piece async for piece in await service.archive(snapshot)])
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        assert packed.testzip() is None
        assert packed.read("big.bin") == (root / "big.bin").read_bytes()
        assert packed.read("sub/link") == b"../train.py"


async def test_a_sites_plan_has_no_key_of_the_drive(
    service: DriveService, database: Database, owner: UserId, tmp_path: Path
) -> None:
    project = await imported(service, database, owner, sample_folder(tmp_path / "s"))
    grant, _ = await grant_of(service, database, owner)
    own = await service.plan(owner, SnapshotId(project.snapshot))
    sites = await service.plan_for_site(SnapshotId(project.snapshot))
    assert own.id_key == grant.id_key
    assert sites.id_key is None
    assert grant.data_key not in sites.model_dump_json()
    assert sites.chunks == own.chunks
    pack = next(iter(own.chunks.values())).pack
    readable = frozenset({SnapshotId(project.snapshot)})
    assert await service.pack_size(pack, owner=owner, readable=readable) > 0
    with pytest.raises(PackUnknown):
        await service.pack_size(pack, owner=owner, readable=frozenset())
    with pytest.raises(PackUnknown):
        await service.pack_size(pack, owner=UserId("usr_other"))


async def test_only_packs_that_no_index_names_are_swept(
    service: DriveService, database: Database, owner: UserId, tmp_path: Path
) -> None:
    await imported(service, database, owner, sample_folder(tmp_path / "s"))
    kept = {path for path in (tmp_path / "packs").rglob("*") if path.is_file()}
    store, orphan = PackStore(tmp_path / "packs"), pack_of(b"left by a crash")
    async with store.receive(orphan.id, whole(orphan.data)) as incoming:
        await store.keep(incoming)
    assert await service.sweep_orphans() == 0
    assert await service.sweep_orphans(age_s=-60) == 1
    assert {path for path in (tmp_path / "packs").rglob("*") if path.is_file()} == kept


async def not_deferred(tx: Tx, job: str) -> None:
    """The test does the job itself."""


async def test_an_import_that_fails_says_why(
    service: DriveService, database: Database, owner: UserId, tmp_path: Path
) -> None:
    limits = CloneLimits(private=True)
    imports = GitImports(database, service, defer=not_deferred, folder=tmp_path, limits=limits)
    async with database.begin() as tx:
        job = await imports.request(tx, owner, GitImport(url="http://127.0.0.1:9/x.git"))
        assert job.state == "waiting"
    await imports.run(job.id)
    await imports.run(job.id)  # it is over: nobody does it again
    async with database.begin() as tx:
        ended = await imports.job(tx, owner, job.id)
        with pytest.raises(errors.NotFound):
            await imports.job(tx, UserId("usr_other"), job.id)
    assert ended.state == "failed"
    assert "could not clone" in (ended.error or "")


@dataclass
class Running:
    url: str
    token: str
    folder: Path


@pytest.fixture
def running(postgres_url: str, tmp_path: Path) -> Iterator[Running]:
    """A real server on a port of its own, with a signed-in user."""
    database = Database(postgres_url)
    store = PackStore(tmp_path / "packs")
    drive = DriveService(database, store, Sealer(bytes(32)), quota_bytes=QUOTA)
    imports = GitImports(database, drive, defer=not_deferred, folder=tmp_path)
    settings = settings_in(tmp_path)
    services = services_on(database, settings=settings, drive=drive, git_imports=imports)
    api = create_api(services, routers=[identity_routes.router, drive_routes.router])
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(api, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"

    async def sign_in() -> str:
        async with httpx.AsyncClient(base_url=url) as client:
            return str((await register(client))["token"])

    try:
        yield Running(url, asyncio.run(sign_in()), tmp_path)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


def door_of(running: Running) -> tuple[httpx.Client, HttpDoor]:
    client = httpx.Client(
        base_url=running.url, headers={"Authorization": f"Bearer {running.token}"}, timeout=30
    )
    return client, HttpDoor(client, patience_s=5)


def test_a_project_goes_up_and_comes_down_over_http(running: Running, tmp_path: Path) -> None:
    source = sample_folder(tmp_path / "source")
    client, door = door_of(running)
    with client:
        seen: list[Progress] = []
        commit = upload_tree(door, source, report=seen.append)
        body = ProjectCommit(name="digits", snapshot=commit).model_dump(mode="json")
        key = {"Idempotency-Key": "k1"}
        first = client.post("/api/v1/projects", json=body, headers=key)
        assert first.status_code == 201
        assert client.post("/api/v1/projects", json=body, headers=key).json() == first.json()
        assert seen[-1].moved_bytes > 5_000_000
        upload_tree(door, source, report=seen.append)
        assert seen[-1].moved_bytes == 0
        snapshot = first.json()["snapshot"]
        fetch_snapshot(door, snapshot, tmp_path / "dest")
        assert contents(tmp_path / "dest") == contents(source)
        files = f"/api/v1/drive/snapshots/{snapshot}"
        part = client.get(f"{files}/files/big.bin", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, random_bytes(5_000_000)[10:20])
        assert part.headers["content-range"] == "bytes 10-19/5000000"
        assert part.headers["x-content-type-options"] == "nosniff"
        assert (
            client.get(f"{files}/files/big.bin")
            .headers["content-disposition"]
            .startswith("attachment")
        )
        behind = client.get(f"{files}/files/big.bin", headers={"Range": "bytes=5000000-"})
        assert behind.status_code == 416
        assert client.get(f"{files}/files", params={"limit": 3}).json()["next"]
        packed = zipfile.ZipFile(io.BytesIO(client.get(f"{files}/archive.zip").content))
        assert packed.testzip() is None
        assert client.get("/api/v1/drive/quota").json()["used_bytes"] > 5_000_000
        assert client.get("/api/v1/projects/digits").json()["id"] == first.json()["id"]


def test_what_does_not_fit_is_refused_with_the_way_out(running: Running, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "x").write_bytes(random_bytes(QUOTA + 5_000_000))
    client, door = door_of(running)
    with client, pytest.raises(errors.QuotaExceeded) as refusal:
        upload_tree(door, tmp_path / "large")
    assert refusal.value.way_out


def test_an_archive_becomes_a_project(running: Running) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        packed.writestr("p/train.py", "print()")
        packed.writestr("p/__pycache__/x.pyc", "")
    client, _ = door_of(running)
    with client:
        made = client.post(
            "/api/v1/projects/upload",
            data={"name": "数字"},
            files={"file": ("p.zip", data.getvalue())},
        )
        assert (made.status_code, made.json()["file_count"]) == (201, 1)
        bad = client.post(
            "/api/v1/projects/upload", data={"name": "x"}, files={"file": ("p.zip", b"no zip")}
        )
        assert (bad.status_code, bad.json()["code"]) == (422, "archive_unknown")


def test_a_server_that_is_gone_is_told(tmp_path: Path) -> None:
    with httpx.Client(base_url="http://127.0.0.1:9") as client:
        door = HttpDoor(client, patience_s=0.5)
        with pytest.raises(errors.Unavailable):
            upload_tree(door, tmp_path)


async def test_others_see_nothing(
    database: Database, service: DriveService, tmp_path: Path
) -> None:
    api = create_api(
        services_on(
            database,
            drive=service,
            git_imports=GitImports(database, service, defer=not_deferred, folder=tmp_path),
        ),
        routers=[identity_routes.router, drive_routes.router],
    )
    async with client_of(api) as nobody:
        assert (await nobody.post("/api/v1/drive/uploads")).status_code == 401
        token = (await register(nobody))["token"]
    async with client_of(api, token=token) as client:
        for path in (
            "drive/snapshots/snp_x/plan",
            "drive/snapshots/snp_x/files",
            "drive/snapshots/snp_x/archive.zip",
            f"drive/packs/{'0' * 64}",
            "projects/none",
            "imports/imp_x",
        ):
            assert (await client.get(f"/api/v1/{path}")).status_code == 404, path
        refused = await client.post("/api/v1/projects/git", json={"url": "file:///etc"})
        assert refused.status_code == 422
