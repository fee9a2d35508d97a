"""``tesra server``: the control plane as one process; all its state is in PostgreSQL."""

import uvicorn

from tesra.app.bootstrap import create_app
from tesra.kit.settings import Settings

END_S = 1  # open streams (live logs) get this long when the server is told to end


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then end within a few seconds, whatever is still open."""
    config = uvicorn.Config(
        create_app(settings),
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
        backlog=2048,
    )
    uvicorn.Server(config).run()
