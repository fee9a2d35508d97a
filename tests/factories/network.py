"""A whole server in this process, on a real database, and a site that says what a test wants."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factories.identity import cheap_passwords, unique_name
from factories.leftovers import owned_prefix
from tesra.app.bootstrap import LOCAL_SITE, make_dispatcher, make_services
from tesra.db import leases
from tesra.db.engine import Database
from tesra.drive.intake import Intake, _ServiceSink
from tesra.kit.errors import TesraError
from tesra.kit.ids import AttemptId, EpochId, RunId, UserId, new_id
from tesra.kit.settings import Home, Settings
from tesra.storage.format import EpochKeys
from tesra.storage.uploading import upload_folder
from tesra.training.dispatcher import LEASE_NAME, Dispatcher
from tesra.training.logs import LogPiece
from tesra.training.metrics.service import MetricPiece
from tesra.web.context import Services
from tesra.wire.drive import Project, SnapshotCommit
from tesra.wire.site import Assignment, Ended, Message, Started, Usage
from tesra.wire.training import Run, RunRequest

MICRO_T = 1_000_000


@dataclass
class SiteDouble:
    """Speaks the site protocol to the services, without machines."""

    services: Services
    boot: str = field(default_factory=lambda: new_id("boot"))
    seq: int = 0

    async def enrol(self, devices: int, *, rating_micro_t: int = MICRO_T) -> None:
        node = {
            "id": "node-1",
            "site_id": LOCAL_SITE,
            "name": "node-1",
            "address": "127.0.0.1",
            "cores": 4,
            "memory_bytes": 2**30,
            "online": True,
        }
        cards = [
            {
                "id": f"dev-{index}",
                "site_id": LOCAL_SITE,
                "node_id": "node-1",
                "index": index,
                "device_class": "cpu",
                "name": "CPU slot",
                "measured_micro_t": rating_micro_t,
                "online": True,
            }
            for index in range(devices)
        ]
        async with self.services.database.begin() as tx:
            await self.services.compute.sites.enrol(
                tx, LOCAL_SITE, self.boot, machines=[node], cards=cards
            )

    async def assignments(self) -> list[Assignment]:
        async with self.services.database.begin() as tx:
            return (await self.services.attempts.assignments(tx, LOCAL_SITE)).assignments

    async def say(self, assignment: Assignment, body: Any, *, seq: int | None = None) -> bool:
        """Report one fact; ``seq`` repeats an earlier number."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        message = Message(seq=seq, attempt=assignment.attempt, fence=assignment.fence, body=body)
        return not await self.services.attempts.take(LOCAL_SITE, self.boot, [message])

    async def log(
        self, assignment: Assignment, data: bytes, *, rank: int = 0, offset: int = 0
    ) -> int:
        """Deliver a piece of a rank's log; how far it is held. Raises what it is refused with."""
        held = (AttemptId(assignment.attempt), assignment.fence)
        piece = LogPiece(*held, rank, offset, data)
        (end,) = await self.services.attempts.append_logs(LOCAL_SITE, [piece])
        return _held(end)

    async def points(self, assignment: Assignment, data: bytes, *, offset: int = 0) -> int:
        """Deliver spool lines of metrics; as ``log``."""
        held = (AttemptId(assignment.attempt), assignment.fence)
        async with self.services.database.begin() as tx:
            piece = MetricPiece(*held, 0, offset, data)
            (end,) = await self.services.metrics.take(tx, LOCAL_SITE, [piece])
        return _held(end)

    async def train(
        self, assignment: Assignment, *, ms: int = 1000, outcome: Any = "succeeded"
    ) -> None:
        """All of an attempt that goes well."""
        now = datetime.now(UTC)
        await self.say(assignment, Started(at=now))
        await self.say(assignment, Usage(number=1, started_at=now, duration_ms=ms))
        await self.say(assignment, Ended(outcome=outcome, exit_code=0))


def _held(end: int | TesraError) -> int:
    if isinstance(end, TesraError):
        raise end
    return end


@dataclass
class NetworkDouble:
    """A server's services, with a home of its own."""

    services: Services
    dispatcher: Dispatcher
    site: SiteDouble
    folder: Path

    async def user(self, stem: str = "ada") -> UserId:
        hashed = await cheap_passwords().hash("correct horse battery")
        async with self.services.database.begin() as tx:
            user, _ = await self.services.identity.register(
                tx, unique_name(stem), password_hash=hashed
            )
        return user.id

    async def project(self, owner: UserId, name: str = "digits", **files: str) -> Project:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for file, text in (files or {"train": "print('hello')\n"}).items():
            (folder / f"{file}.py").write_text(text)
        return await Intake(self.services.database, self.services.drive).folder(
            owner, folder, name=name
        )

    async def submit(self, owner: UserId, **request: Any) -> Run:
        said = {"project": "digits", "entry": "train.py", "engine": "pytorch", "output": "out"}
        wanted = RunRequest(**(said | {"launch": "gang"} | request))
        prepared = await self.services.training.check(owner, wanted)
        async with self.services.database.begin() as tx:
            return await self.services.training.submit(tx, owner, prepared)

    async def dispatch(self) -> int:
        """One round, by whoever holds the lease now."""
        async with self.services.database.begin() as tx:
            token = await leases.claim(tx, LEASE_NAME, "test", 600)
            if token is None:
                token = self._token
            self._token = token
        return await self.dispatcher.dispatch(token)

    _token: int = 0

    async def run(self, owner: UserId, run: str) -> Run:
        async with self.services.database.begin() as tx:
            return await self.services.training.run(tx, owner, RunId(run))

    async def store(self, owner: UserId, run: str, files: dict[str, str]) -> SnapshotCommit:
        """Put files into the drive, as the node of a run does."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        drive, database = self.services.drive, self.services.database
        async with database.begin() as tx:
            grant = await drive.open_upload(tx, owner, purpose=f"run:{run}")
        sink = _ServiceSink(
            database, drive, owner, EpochId(grant.epoch), asyncio.get_running_loop()
        )
        keys = EpochKeys(grant.epoch, bytes.fromhex(grant.id_key), bytes.fromhex(grant.data_key))
        tree = await asyncio.to_thread(upload_folder, sink, keys, folder)
        return SnapshotCommit(
            epoch=grant.epoch,
            root=tree.root.hex(),
            file_count=tree.file_count,
            size_bytes=tree.size_bytes,
        )

    async def stop(self, owner: UserId, run: str) -> Run:
        async with self.services.database.begin() as tx:
            return await self.services.training.stop(tx, owner, RunId(run))

    async def pay(self, owner: UserId, bill: str | None) -> None:
        async with self.services.database.begin() as tx:
            await self.services.billing.pay(tx, owner, bill)  # type: ignore[arg-type]


@asynccontextmanager
async def network_on(database: Database, **settings: Any) -> AsyncIterator[NetworkDouble]:
    """Services over an empty database of their own."""
    with tempfile.TemporaryDirectory(prefix=owned_prefix("net")) as name:
        folder = Path(name)
        home = Home(folder / "home")
        home.create()
        base = Settings(home=home, cache=folder / "cache", database_url=database.url)
        services = make_services(replace(base, **settings))
        try:
            yield NetworkDouble(services, make_dispatcher(services), SiteDouble(services), folder)
        finally:
            await services.database.close()
