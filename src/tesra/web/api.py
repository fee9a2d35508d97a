"""The HTTP API and the pages: routers, errors, headers, over services made elsewhere."""

import warnings
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse
from pydantic.warnings import UnsupportedFieldAttributeWarning
from sqlalchemy import text

from tesra.web import docs, problems
from tesra.web.context import Services, ServicesDep
from tesra.web.headers import Guard, refuse_no_text
from tesra.web.live.hubs import Hubs
from tesra.web.routes import (
    account,
    billing,
    browsing,
    checkpoints,
    compute,
    data,
    deliveries,
    doctor,
    drive,
    files,
    identity,
    live,
    metrics,
    notices,
    operator,
    peer,
    previews,
    private,
    records,
    search,
    shares,
    site,
    storage,
    sweeps,
    training,
    tuning,
    uploads,
)
from tesra.web.ui.problem_pages import page_of
from tesra.web.ui.routers import PAGES
from tesra.wire.common import Answer, Problem

# FastAPI ignores this one itself, but a message that is built when it first comes tells it later.
warnings.filterwarnings("ignore", category=UnsupportedFieldAttributeWarning)

OPENAPI_URL = "/api/openapi.json"
DOCS_URL = "/api/docs"
DESCRIPTION = (
    "Train on other people's GPUs, pay after, keep your work.\n\n"
    "Send a token as 'Authorization: Bearer tsr_…'. Errors are RFC 9457 problem documents. "
    "Lists come in pages: pass 'next' as '?cursor='. A POST that creates or pays takes an "
    "'Idempotency-Key', so that a repeated call happens once."
)

ROUTERS: Sequence[APIRouter] = (  # searched in this order: what is asked most comes first
    site.router,
    deliveries.router,
    peer.router,
    identity.router,
    account.router,
    account.operator_router,
    uploads.tus,
    uploads.plain,
    drive.router,
    files.router,
    browsing.router,
    search.router,
    shares.router,
    shares.links,
    previews.router,
    private.router,
    training.router,
    live.router,
    tuning.router,
    checkpoints.router,
    doctor.router,
    sweeps.router,
    records.router,
    billing.router,
    operator.router,
    compute.router,
    notices.router,
    notices.inbox,
    metrics.router,
    storage.router,
    data.router,
    *PAGES,
)

_PROBLEM_CONTENT = {
    problems.MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
}
_PROBLEM: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Problem", "content": _PROBLEM_CONTENT},
    "5XX": {"description": "Problem", "content": _PROBLEM_CONTENT},
}

_own = APIRouter()


class Api(FastAPI):
    """FastAPI, with the problem document in its OpenAPI."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault(Problem.__name__, Problem.model_json_schema())
        return document


class Health(Answer):
    status: str


def create_api(
    services: Services, *, routers: Sequence[APIRouter] = ROUTERS, **options: Any
) -> FastAPI:
    """The API over ``services``; ``options`` (say, ``lifespan``) go to FastAPI as they are."""
    api = Api(
        title="Tesra",
        description=DESCRIPTION,
        openapi_url=OPENAPI_URL,
        docs_url=None,
        redoc_url=None,
        responses=_PROBLEM,
        dependencies=[Depends(refuse_no_text)],
        redirect_slashes=False,
        **options,
    )
    api.state.services = services
    api.state.hubs = Hubs()
    problems.install(api, page_of=page_of)
    api.add_middleware(Guard)
    for router in (_own, *routers):
        api.include_router(router)
    return api


@_own.get("/api/v1/health", tags=["site"])
async def health(services: ServicesDep) -> Health:
    """Ready: the server runs and its database answers (503 when it does not)."""
    async with services.database.begin() as tx:
        await tx.execute(text("SELECT 1"))
    return Health(status="ok")


@_own.get(DOCS_URL, include_in_schema=False)
async def reference(request: Request) -> HTMLResponse:
    """The reference, without any script."""
    page = docs.render(request.app.openapi(), openapi_url=OPENAPI_URL)
    return HTMLResponse(page, headers={"Content-Security-Policy": docs.CONTENT_SECURITY_POLICY})
