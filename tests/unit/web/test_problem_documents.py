import json
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from sqlalchemy.exc import DataError, OperationalError

from tesra.kit import errors
from tesra.web import problems
from tesra.web.headers import Guard
from tesra.wire.common import Wire


class VoucherSpent(errors.Conflict):
    """This voucher has been used already."""


class Login(Wire):
    name: str
    password: int


def api_that_raises(error: Exception) -> FastAPI:
    api = FastAPI()
    problems.install(api)
    api.add_middleware(Guard, max_body_bytes=1000)

    @api.get("/raise")
    async def handler() -> None:
        raise error

    @api.post("/login")
    async def login(body: Login) -> None: ...

    @api.put("/stream")
    async def stream(request: Request) -> int:
        return len(await request.body())

    return api


async def call(
    error: Exception, method: str = "GET", path: str = "/raise", **options: Any
) -> httpx.Response:
    transport = httpx.ASGITransport(app=api_that_raises(error), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tesra.test") as client:
        return await client.request(method, path, **options)


NONE = RuntimeError()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFound(), 404),
        (errors.Conflict(), 409),
        (errors.Unauthenticated(), 401),
        (errors.Forbidden(), 403),
        (errors.Invalid(), 422),
        (errors.Unavailable(), 503),
        (errors.PaymentDue(), 402),
        (errors.QuotaExceeded(), 413),
        (errors.TooMany(), 429),
        (errors.TesraError(), 500),
    ],
)
async def test_every_kind_has_its_status(error: errors.TesraError, status: int) -> None:
    answer = await call(error)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


async def test_a_problem_names_the_error_and_the_way_out() -> None:
    answer = await call(VoucherSpent(way_out="Use another one.", voucher="vou_1"))
    assert answer.json() == {
        "type": "urn:tesra:problem:voucher_spent",
        "title": "Conflict",
        "status": 409,
        "detail": "This voucher has been used already.",
        "code": "voucher_spent",
        "way_out": "Use another one.",
        "fields": {"voucher": "vou_1"},
    }


async def test_an_unauthenticated_call_is_challenged() -> None:
    assert (await call(errors.Unauthenticated())).headers["www-authenticate"].startswith("Bearer")


async def test_too_many_calls_are_told_when_to_come_back() -> None:
    answer = await call(errors.TooMany(retry_after_s=17))
    assert answer.headers["retry-after"] == "17"


async def test_what_is_unavailable_may_be_tried_again() -> None:
    assert int((await call(errors.Unavailable())).headers["retry-after"]) > 0


async def test_an_unexpected_error_tells_an_id_that_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, "tesra.web"):
        answer = await call(RuntimeError("the password is hunter2"))
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.json()["fields"]["error_id"] in caplog.text
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_value_that_the_database_refuses_is_the_callers() -> None:
    assert (await call(DataError("SELECT", {}, ValueError("hunter2")))).status_code == 422


async def test_a_database_that_is_away_is_unavailable() -> None:
    answer = await call(OperationalError("SELECT", {}, ValueError("hunter2")))
    assert answer.status_code == 503
    assert "hunter2" not in answer.text
    assert answer.headers["retry-after"]


async def test_unknown_addresses_and_methods_are_problems() -> None:
    missing = await call(NONE, path="/nowhere")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await call(NONE, "DELETE")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert wrong.headers["content-type"] == "application/problem+json"


async def test_a_bad_field_is_named_and_its_value_is_not_echoed() -> None:
    answer = await call(NONE, "POST", "/login", json={"name": "ada", "password": "hunter2"})
    assert answer.status_code == 422
    assert "body.password" in answer.json()["fields"]
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    "body", [b"{", b"", b"\xff\xfe", b"[" * 1000, b'"\\ud800"', b"null", b'{"\\ud800": 1}', b"NaN"]
)
async def test_a_malformed_body_is_refused(body: bytes) -> None:
    answer = await call(
        NONE, "POST", "/login", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in {400, 422}
    assert json.loads(answer.content)["status"] == answer.status_code


async def test_a_parsed_body_is_bounded() -> None:
    body = {"name": "x" * 1000, "password": 1}
    answer = await call(NONE, "POST", "/login", json=body)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_stream_is_not_bounded() -> None:
    answer = await call(NONE, "PUT", "/stream", content=b"x" * 5000)
    assert answer.json() == 5000


async def test_every_answer_has_safe_headers() -> None:
    for answer in (await call(NONE, path="/nowhere"), await call(NONE, "PUT", "/stream")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_no_problem_is_lost_for_half_a_surrogate_pair() -> None:
    document = problems.problem(422, "bad \ud800", fields={"a\ud800": ["\udfff"]})
    assert json.loads(document.body)["detail"] == "bad ?"


def test_every_kind_of_the_kit_is_mapped() -> None:
    kinds = errors.TesraError.__subclasses__()
    ours = [kind for kind in kinds if kind.__module__ == "tesra.kit.errors"]
    assert all(problems.status_of(kind()) != 500 for kind in ours)
