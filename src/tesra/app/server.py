"""``tesra server``: the control plane as one process; all its state is in PostgreSQL."""

import gc
import socket
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from tesra.app.bootstrap import create_app
from tesra.db.embedded import EmbeddedPostgres
from tesra.kit.settings import Settings

END_S = 1  # open streams (live logs) get this long when the server is told to end
FAILED = 3
_GARBAGE_AFTER = 20_000  # a request makes thousands of objects, nearly none of them in cycles


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then end within a few seconds, whatever is still open."""
    url = settings.database_url or EmbeddedPostgres(settings.home).start()
    app = create_app(replace(settings, database_url=url))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=END_S,
        timeout_keep_alive=75,
    )
    gc.set_threshold(_GARBAGE_AFTER)
    server = _Server(config, app)
    server.run()
    if not server.started:
        raise SystemExit(FAILED)


class _Server(uvicorn.Server):
    """Answers those who wait for news before it ends, so that no connection is cut off."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is there now stays: collections need not look at it again

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.services.listener.end()
        await super().shutdown(sockets)
