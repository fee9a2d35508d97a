"""The real server in a process of its own, which kills itself (SIGKILL) between two steps of a put.

Where is written into the file ``die`` of its home, one of ``BOUNDARIES`` or of
``UPLOAD_BOUNDARIES``; once a file. What started
it starts it again, as a supervisor does, and notes each death in the file ``deaths``. It is forked
from what has imported all already: that takes seconds.
"""

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import uvicorn

from tesra.app.bootstrap import make_services
from tesra.drive.files.repository import FileRepository
from tesra.drive.files.service import FileService
from tesra.drive.intake import Intake
from tesra.drive.pack_store import PackStore
from tesra.drive.peers.service import PeerService
from tesra.drive.repository import DriveRepository
from tesra.drive.service import DriveService
from tesra.drive.uploads.landing import Landing
from tesra.drive.uploads.repository import UploadRepository
from tesra.drive.uploads.service import UploadService
from tesra.drive.uploads.spool import Spool
from tesra.kit.settings import Home, Settings
from tesra.web.api import create_api

BOUNDARIES = {
    "pack on the disk": (PackStore, "keep"),
    "second copy": (PeerService, "secure"),
    "index in the transaction": (DriveRepository, "add_pack"),
    "index": (DriveService, "_take"),
    "tree": (FileService, "_writing"),
    "snapshot in the transaction": (DriveService, "commit_snapshot"),
    "pointer in the transaction": (FileRepository, "move_head"),
    "pointer": (FileService, "_land"),
}

UPLOAD_BOUNDARIES = {
    "bytes of an upload": (Spool, "append"),
    "all bytes in the transaction": (UploadRepository, "landing"),
    "all bytes": (UploadService, "_receive"),
    "file of the upload": (Intake, "entry"),
    "landed in the transaction": (UploadRepository, "landed"),
    "landed": (Landing, "land"),
}

Asked = ParamSpec("Asked")
Result = TypeVar("Result")


def dying_after(
    step: Callable[Asked, Awaitable[Result]], boundary: str, order: Path
) -> Callable[Asked, Awaitable[Result]]:
    @functools.wraps(step)
    async def cut(*asked: Asked.args, **named: Asked.kwargs) -> Result:
        done = await step(*asked, **named)
        if order.exists() and order.read_text() == boundary:
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return cut


async def serve(settings: Settings, port: int) -> None:
    services = make_services(settings)
    listening = asyncio.create_task(services.listener.run())
    config = uvicorn.Config(
        create_api(services), host="127.0.0.1", port=port, log_level="warning", lifespan="off"
    )
    await uvicorn.Server(config).serve()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await services.database.close()


def serve_for_ever(settings: Settings, port: int) -> None:
    deaths = settings.home.root / "deaths"
    while True:
        child = os.fork()
        if not child:
            asyncio.run(serve(settings, port))
            return
        (settings.home.root / "mortal.pid").write_text(str(child))
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            return  # it could not start
        with deaths.open("a") as file:
            file.write("x")


if __name__ == "__main__":
    home, url, port = Home(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    for boundary, (owner, name) in {**BOUNDARIES, **UPLOAD_BOUNDARIES}.items():
        whole: Any = getattr(owner, name)
        setattr(owner, name, dying_after(whole, boundary, home.root / "die"))
    chosen = Settings(home=home, cache=home.root / "cache", database_url=url)
    serve_for_ever(chosen, port)
