"""The verbs of checkpoints."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from tesra.kit.errors import NotFound
from tesra.sdk.connection import PREFIX, Connection
from tesra.sdk.mistakes import RequestInvalid, mistake
from tesra.storage.progress import Report, silent
from tesra.wire.checkpoints import Checkpoint, ResumeRequest
from tesra.wire.training import Run


class NoSuchCheckpoint(NotFound):
    """The run has no such checkpoint."""


class CheckpointVerbs:
    """What ``Client`` can do with stored checkpoints."""

    connection: Connection

    def checkpoints(self, run: str, limit: int | None = None) -> list[Checkpoint]:
        """Of one run, the newest first."""
        path = f"/runs/{quote(run, safe='')}/checkpoints"
        return list(self.connection.pages(path, Checkpoint, limit=limit))

    def resume(self, run: str, *, checkpoint: int | None = None, **wishes: Any) -> Run:
        """A new run that goes on from a checkpoint (the last one) of a run that has ended.

        ``wishes`` are the other fields of ``ResumeRequest`` (params, devices, secrets, ...).
        """
        try:
            request = ResumeRequest(checkpoint=checkpoint, **wishes)
        except ValidationError as error:
            raise RequestInvalid(mistake(error)) from error
        return self.connection.post(f"/runs/{quote(run, safe='')}/resume", Run, request, once=True)

    def download_checkpoint(
        self, run: str, number: int, dest: Path | str, *, report: Report = silent
    ) -> Path:
        """Bring a checkpoint's files into the folder ``dest``; each appears whole or not at all."""
        from tesra.sdk.transfer import HttpDoor, fetch_snapshot  # brings the ciphers

        found = next((one for one in self.checkpoints(run) if one.number == number), None)
        if found is None:
            raise NoSuchCheckpoint(
                f"{run} has no checkpoint {number}.",
                way_out=f"`tesra checkpoints {run}` lists those it has.",
            )
        door = HttpDoor(self.connection.http, f"{PREFIX}/drive")
        fetch_snapshot(door, found.snapshot, Path(dest), report)
        return Path(dest)
