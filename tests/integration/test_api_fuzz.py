"""Whatever comes in, malformed or not: no route answers with a server error or out of its schema.

The whole API runs over HTTP on a real PostgreSQL; schemathesis makes the calls from the OpenAPI.
"""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from factories.clusters import Cluster
from tesra.app.bootstrap import make_services
from tesra.kit.settings import Home, Settings
from tesra.web.api import create_api

pytestmark = pytest.mark.postgres

EXAMPLES = 12  # for each operation: all of them in about a minute
START_S = 30.0


class LiveApi:
    """The API on a free port of this machine, in a thread with its own event loop."""

    def __init__(self, home: Path, database_url: str) -> None:
        made = Settings(
            home=Home(home),
            cache=home / "cache",
            database_url=database_url,
            registrations_per_hour=100_000,
        )
        made.home.create()
        self._services = make_services(made)
        self.operator_token = ""
        self.url = ""
        app = create_api(self._services, lifespan=self._lifespan)
        config = uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self.site_token = (made.home.keys / "site.token").read_text().strip()

    def start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not self._server.started:
            assert self._thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(START_S)
        assert not self._thread.is_alive()

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with self._services.database.begin() as tx:
            _, self.operator_token = await self._services.identity.bootstrap_operator(tx)
        yield
        await self._services.database.close()


@pytest.fixture(scope="module")
def live(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApi]:
    live = LiveApi(tmp_path_factory.mktemp("fuzz"), cluster.create())
    live.start()
    yield live
    live.stop()


# The document needs no services. To end the session of all the other calls proves nothing; a
# user's live stream has no end.
document = create_api(cast(Any, None)).openapi()
schema = (
    schemathesis.openapi.from_dict(document)
    .exclude(path="/api/v1/logout")
    .exclude(path="/api/v1/live")
)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_call_is_answered_with_a_server_error(case: schemathesis.Case, live: LiveApi) -> None:
    of_site = case.path.startswith("/site/")
    token = live.site_token if of_site else live.operator_token
    if case.query and "wait_s" in case.query:
        case.query["wait_s"] = 0
    answer = case.call(base_url=live.url, headers={"Authorization": f"Bearer {token}"})
    if answer.status_code == 503:  # nothing is offered in this network, and that is what it says
        assert answer.json()["detail"] == "No device is online now."
        return
    case.validate_response(
        answer, checks=[not_a_server_error, content_type_conformance, response_schema_conformance]
    )
