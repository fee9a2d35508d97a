"""``tesra.Client``: the verbs of the command line, for programs; wire models come back.

Creating and paying happen once, whatever the connection does: each such call carries its own
idempotency key and is repeated under it. Refusals raise the kinds of ``tesra.kit.errors``.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
from pydantic import PrivateAttr, ValidationError

from tesra.kit.errors import NotFound
from tesra.sdk.account import AccountVerbs
from tesra.sdk.billing import BillingVerbs
from tesra.sdk.checkpoints import CheckpointVerbs
from tesra.sdk.connection import PREFIX, Connection
from tesra.sdk.credentials import find_access
from tesra.sdk.finding import FindingVerbs
from tesra.sdk.follow import TERMINAL_STATES, Reconnection, follow_log
from tesra.sdk.metrics import MetricVerbs
from tesra.sdk.mistakes import RequestInvalid, mistake
from tesra.sdk.notices import NoticeVerbs
from tesra.sdk.queue import QueueVerbs
from tesra.sdk.shares import ShareVerbs
from tesra.sdk.sweeps import SweepVerbs
from tesra.sdk.tuning import TuningVerbs
from tesra.storage.progress import Report, silent
from tesra.wire.compute import DeviceClass
from tesra.wire.doctor import DoctorAnswer
from tesra.wire.drive import FileEntry, Project, ProjectCommit, ProjectRemoved
from tesra.wire.record import PublicKeys, SignedRecord
from tesra.wire.training import Engine, LogChunk, Run, RunEvent, RunRequest

POLL_S = 1.0


class NothingStored(NotFound):
    """This run stored no output."""


class LiveRun(Run):
    """A run that knows its client: what it says is as of when it was asked for."""

    _client: "Client" = PrivateAttr()

    @classmethod
    def of(cls, run: Run, client: "Client") -> "LiveRun":
        live = cls.model_validate(run.model_dump())
        live._client = client
        return live

    def follow(self, *, rank: int | None = None) -> Iterator[LogChunk]:
        """The log from its beginning until the run has ended; survives restarts of the server."""
        return self._client.follow(self.id, rank=rank)

    def refresh(self) -> "LiveRun":
        """The run as it is now."""
        return self._client.show(self.id)

    def wait(self, timeout_s: float | None = None) -> "LiveRun":
        """The run when it has ended; ``TimeoutError`` when it takes longer than that."""
        return self._client.wait(self.id, timeout_s)

    def stop(self) -> "LiveRun":
        """Ask the run to end; what it wrote so far is kept."""
        return self._client.stop(self.id)

    def download(self, dest: Path | str) -> Path:
        """Bring its output into the folder ``dest``."""
        return self._client.download(self, dest)


class Client(
    AccountVerbs,
    BillingVerbs,
    CheckpointVerbs,
    FindingVerbs,
    QueueVerbs,
    ShareVerbs,
    SweepVerbs,
    MetricVerbs,
    NoticeVerbs,
    TuningVerbs,
):
    """A signed-in user of one network.

    Address and token: arguments, else ``TESRA_URL``, ``TESRA_TOKEN``, ``TESRA_HOME`` (the network
    that runs there), else the login that ``tesra login`` stored.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        home: Path | str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        access = find_access(url=url, token=token, home=home)
        self.connection = Connection(access, timeout_s=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    @property
    def url(self) -> str:
        return self.connection.access.url

    @property
    def token(self) -> str | None:
        return self.connection.access.token

    # Projects

    def import_project(
        self, path: Path | str, name: str | None = None, *, report: Report = silent
    ) -> Project:
        """Store a folder, a zip or tar file, or a git repository as the newest snapshot of a project."""
        from tesra.sdk.importing import import_project  # brings the chunking and the ciphers

        return import_project(self.connection, str(path), name, report=report).project

    def commit_project(self, commit: ProjectCommit) -> Project:
        """Name an uploaded tree."""
        return self.connection.post("/projects", Project, commit, once=True)

    def projects(self, limit: int | None = None) -> list[Project]:
        return list(self.connection.pages("/projects", Project, limit=limit))

    def project(self, name_or_id: str) -> Project:
        return self.connection.get(f"/projects/{_step(name_or_id)}", Project)

    def remove_project(self, name_or_id: str) -> ProjectRemoved:
        """Refused while one of its runs is active; the records and bills of its runs stay."""
        at = f"/projects/{_step(name_or_id)}"
        return ProjectRemoved.model_validate_json(self.connection.send("DELETE", at).content)

    def files(self, snapshot: str) -> Iterator[FileEntry]:
        """All that a snapshot holds, each folder before its content; read as it is asked for."""
        return self.connection.pages(f"/drive/snapshots/{_step(snapshot)}/files", FileEntry)

    def read_file(self, snapshot: str, path: str) -> bytes:
        """The content of a file of a snapshot, whole in memory."""
        at = f"/drive/snapshots/{_step(snapshot)}/files/{quote(path)}"
        with self.connection.stream(at, {}) as parts:
            return b"".join(parts)

    def doctor(self, project: str, *, entry: str | None = None) -> DoctorAnswer:
        """What the code of a project's newest snapshot says about how to run it."""
        at = f"/projects/{_step(project)}/doctor"
        return self.connection.get(at, DoctorAnswer, query={"entry": entry})

    # What is on offer

    def devices(self) -> list[DeviceClass]:
        return list(self.connection.pages("/devices", DeviceClass))

    def engines(self) -> list[Engine]:
        return list(self.connection.pages("/engines", Engine))

    # Runs

    def run(self, project: str, entry: str | list[str] | None = None, **wishes: Any) -> LiveRun:
        """Train: ``wishes`` are the other fields of ``RunRequest`` (engine, devices, params, ...).

        What is left out of entry, engine, output and launch is read from the code.
        """
        try:
            request = RunRequest(project=project, entry=entry, **wishes)
        except ValidationError as error:
            raise RequestInvalid(mistake(error)) from error
        return LiveRun.of(self.connection.post("/runs", Run, request, once=True), self)

    def runs(
        self,
        *,
        state: str | None = None,
        project: str | None = None,
        sweep: str | None = None,
        trials: bool = True,
        limit: int | None = None,
    ) -> list[Run]:
        """Newest first; the trials of a ``sweep`` alone, or none of any."""
        query = {"state": state, "project": project, "sweep": sweep}
        if not trials:
            query["trials"] = "false"
        return list(self.connection.pages("/runs", Run, query=query, limit=limit))

    def show(self, run: str) -> LiveRun:
        return LiveRun.of(self.connection.get(f"/runs/{_step(run)}", Run), self)

    def stop(self, run: str) -> LiveRun:
        """Ask a run to end; stopping twice is stopping once."""
        return LiveRun.of(self.connection.post(f"/runs/{_step(run)}/stop", Run, once=True), self)

    def record(self, run: str) -> SignedRecord:
        """All that is known of a run, signed by the network; see ``sdk.records`` for what to do with it."""
        return self.connection.get(f"/runs/{_step(run)}/record", SignedRecord)

    def keys(self) -> PublicKeys:
        """What records are signed with here."""
        return self.connection.get("/keys", PublicKeys)

    def events(self, run: str) -> list[RunEvent]:
        """The run's timeline."""
        return list(self.connection.pages(f"/runs/{_step(run)}/events", RunEvent))

    def logs(
        self, run: str, *, rank: int | None = None, after: str | None = None
    ) -> Iterator[LogChunk]:
        """The log as far as it goes now."""
        return self._log(run, rank=rank, after=after, live=False)

    def follow(
        self,
        run: str,
        *,
        rank: int | None = None,
        after: str | None = None,
        again: Reconnection | None = None,
    ) -> Iterator[LogChunk]:
        """The log until the run has ended; no line is lost or doubled by a lost connection."""
        return self._log(run, rank=rank, after=after, live=True, again=again)

    def wait(self, run: str, timeout_s: float | None = None) -> LiveRun:
        """The run when it has ended; ``TimeoutError`` when it takes longer than that."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (found := self.show(run)).state not in TERMINAL_STATES:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{run} is still {found.state} after {timeout_s:g} s.")
            time.sleep(POLL_S)
        return found

    def download(self, run: Run | str, dest: Path | str, *, report: Report = silent) -> Path:
        """Bring a run's output into the folder ``dest``; each file appears whole or not at all."""
        from tesra.sdk.transfer import HttpDoor, fetch_snapshot  # brings the ciphers

        found = self.show(run) if isinstance(run, str) else run
        if found.output is None:
            raise NothingStored(
                f"{found.id} has stored no output; its state: {found.state}.", way_out=_why(found)
            )
        door = HttpDoor(self.connection.http, f"{PREFIX}/drive")
        fetch_snapshot(door, found.output, Path(dest), report)
        return Path(dest)

    def _log(
        self,
        run: str,
        *,
        rank: int | None,
        after: str | None,
        live: bool,
        again: Reconnection | None = None,
    ) -> Iterator[LogChunk]:
        path = f"/runs/{_step(run)}/logs"
        query: Mapping[str, Any] = {"follow": "true" if live else "false", "rank": rank}
        return follow_log(
            lambda cursor: self.connection.stream(path, {**query, "after": cursor}),
            live=live,
            after=after,
            again=again,
        )


def _step(text: str) -> str:
    """One step of an address, whatever is in it."""
    return quote(text, safe="")


def _why(run: Run) -> str:
    if run.state not in TERMINAL_STATES:
        return f"`tesra logs {run.id} --follow` shows how far it is."
    return f"`tesra logs {run.id}` shows what it did; it has to write to '{run.output_path}'."
