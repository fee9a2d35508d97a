"""The API over a real PostgreSQL: sign-in, tokens, pages, idempotency, errors, reference."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
from fastapi import APIRouter, FastAPI
from pydantic import Field
from sqlalchemy import text

from factories.identity import (
    PASSWORD,
    client_of,
    identity_service,
    register,
    services_on,
    unique_name,
)
from tesra.db.engine import Database, Tx
from tesra.identity.service import LoginLimits
from tesra.kit.errors import Unavailable
from tesra.web.api import create_api
from tesra.web.auth import Writer
from tesra.web.context import ServicesDep
from tesra.web.idempotency import IdempotencyKey, once
from tesra.web.routes import identity
from tesra.wire.common import Answer, Wire

pytestmark = pytest.mark.postgres


class Order(Wire):
    goods: str
    fail: bool = False


class Receipt(Answer):
    number: int
    goods: str = Field(default="")


counting = APIRouter(prefix="/api/v1", tags=["test"])


@counting.post("/orders/{shop}")
async def order(
    shop: str, body: Order, caller: Writer, services: ServicesDep, key: IdempotencyKey = None
) -> Receipt:
    async def act(tx: Tx) -> Receipt:
        number = await tx.scalar(text("SELECT nextval('test_orders')"))
        if body.fail:
            raise Unavailable
        return Receipt(number=int(number or 0), goods=body.goods)

    return await once(services, caller, key, body, act)


@pytest_asyncio.fixture(scope="module")
async def api(database: Database) -> FastAPI:
    async with database.begin() as tx:
        await tx.execute(text("CREATE SEQUENCE IF NOT EXISTS test_orders"))
    return create_api(services_on(database), routers=[identity.router, counting])


@pytest_asyncio.fixture
async def client(api: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(api) as client:
        yield client


@pytest_asyncio.fixture
async def ada(api: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a fresh user."""
    session = await register(client)
    async with client_of(api, token=session["token"]) as signed_in:
        yield signed_in


async def operator_of(api: FastAPI) -> httpx.AsyncClient:
    services = api.state.services
    async with services.database.begin() as tx:
        _, token = await services.identity.bootstrap_operator(tx)
    return client_of(api, token=token)


async def test_a_healthy_server_says_so(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/health")).json() == {"status": "ok"}


async def test_a_server_without_its_database_is_unavailable() -> None:
    away = Database("postgresql:///tesra?host=/nonexistent&connect_timeout=1")
    async with client_of(create_api(services_on(away))) as client:
        answer = await client.get("/api/v1/health")
    await away.close()
    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"


async def test_register_then_login_then_me(client: httpx.AsyncClient) -> None:
    name = unique_name("小明")
    session = await register(client, name)
    assert session["user"]["name"] == name
    answer = await client.post("/api/v1/login", json={"name": name, "password": PASSWORD})
    token = answer.json()["token"]
    me = await client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json() == session["user"]


async def test_a_short_password_and_a_bad_name_are_refused(client: httpx.AsyncClient) -> None:
    for body, code in (
        ({"name": unique_name(), "password": "short"}, "password_too_short"),
        ({"name": "a/b", "password": PASSWORD}, "name_invalid"),
        ({"name": "a\u0007b", "password": PASSWORD}, "name_invalid"),
    ):
        answer = await client.post("/api/v1/register", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_taken_name_is_a_conflict(client: httpx.AsyncClient) -> None:
    name = unique_name()
    await register(client, name)
    answer = await client.post(
        "/api/v1/register", json={"name": name.upper(), "password": PASSWORD}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")


async def test_nobody_can_register_as_the_operator(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/register", json={"name": "Operator", "password": PASSWORD})
    assert answer.status_code == 409


async def test_a_wrong_password_is_told_apart_from_nothing(client: httpx.AsyncClient) -> None:
    session = await register(client)
    answers = [
        await client.post("/api/v1/login", json={"name": name, "password": "wrong password"})
        for name in (session["user"]["name"], unique_name("nobody"))
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content == answers[1].content
    assert "www-authenticate" in answers[0].headers


async def test_failed_logins_are_counted_although_they_fail(database: Database) -> None:
    limited = identity_service(limits=LoginLimits(per_name=3, per_address=100_000))
    name = unique_name()
    async with client_of(create_api(services_on(database, identity=limited))) as client:
        await register(client, name)
        wrong = {"name": name, "password": "wrong password"}
        codes = [(await client.post("/api/v1/login", json=wrong)).status_code for _ in range(4)]
        right = await client.post("/api/v1/login", json={"name": name, "password": PASSWORD})
    assert codes == [401, 401, 401, 429]
    assert right.status_code == 429
    assert 0 < int(right.headers["retry-after"]) <= 300


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic YTpi", "Bearer tsr_\u00e4"])
async def test_without_a_token_nothing_is_told(client: httpx.AsyncClient, header: str) -> None:
    answer = await client.get("/api/v1/me", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_logging_out_ends_this_token(ada: httpx.AsyncClient) -> None:
    assert (await ada.post("/api/v1/logout")).status_code == 204
    answer = await ada.get("/api/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_revoked")


async def test_a_token_is_made_listed_and_revoked(api: FastAPI, ada: httpx.AsyncClient) -> None:
    made = (await ada.post("/api/v1/tokens", json={"name": "robot", "scopes": ["read"]})).json()
    listed = (await ada.get("/api/v1/tokens")).json()["items"]
    assert [token["name"] for token in listed] == ["robot", "session"]
    assert "token" not in listed[0]
    async with client_of(api, token=made["token"]) as robot:
        assert (await robot.get("/api/v1/me")).status_code == 200
        refused = await robot.post("/api/v1/tokens", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
        assert (await ada.delete(f"/api/v1/tokens/{made['id']}")).status_code == 204
        assert (await robot.get("/api/v1/me")).status_code == 401


async def test_an_expired_token_is_told_so(api: FastAPI, ada: httpx.AsyncClient) -> None:
    made = (await ada.post("/api/v1/tokens", json={"expires_in_days": 0})).json()
    async with client_of(api, token=made["token"]) as late:
        answer = await late.get("/api/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


async def test_a_user_cannot_make_an_operators_token(ada: httpx.AsyncClient) -> None:
    answer = await ada.post("/api/v1/tokens", json={"scopes": ["operate"]})
    assert answer.status_code == 403


async def test_users_are_listed_page_by_page_to_operators_alone(
    api: FastAPI, client: httpx.AsyncClient, ada: httpx.AsyncClient
) -> None:
    made = {(await register(client))["user"]["id"] for _ in range(3)}
    assert (await ada.get("/api/v1/operator/users")).status_code == 403
    seen: list[str] = []
    cursor = None
    async with await operator_of(api) as boss:
        while True:
            params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await boss.get("/api/v1/operator/users", params=params)).json()
            seen += [user["id"] for user in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
    assert made <= set(seen)
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=%00", "cursor=!"])
async def test_a_bad_page_is_refused(ada: httpx.AsyncClient, query: str) -> None:
    assert (await ada.get(f"/api/v1/tokens?{query}")).status_code == 422


async def test_a_repeated_call_with_a_key_happens_once(ada: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await ada.post("/api/v1/orders/a", json={"goods": "tea"}, headers=headers)
    again = await ada.post("/api/v1/orders/a", json={"goods": "tea"}, headers=headers)
    assert first.status_code == 200
    assert first.content == again.content


async def test_calls_at_once_with_a_key_happen_once(ada: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    calls = [ada.post("/api/v1/orders/a", json={"goods": "tea"}, headers=headers) for _ in range(8)]
    answers = await asyncio.gather(*calls)
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].status_code == 200


async def test_without_a_key_every_call_happens(ada: httpx.AsyncClient) -> None:
    answers = [await ada.post("/api/v1/orders/a", json={"goods": "tea"}) for _ in range(2)]
    assert answers[0].json()["number"] != answers[1].json()["number"]


@pytest.mark.parametrize(
    ("path", "body"), [("/orders/a", {"goods": "milk"}), ("/orders/b", {"goods": "tea"})]
)
async def test_a_key_cannot_serve_another_request(
    ada: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "k1"}
    await ada.post("/api/v1/orders/a", json={"goods": "tea"}, headers=headers)
    answer = await ada.post(f"/api/v1{path}", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "key_reused")


async def test_a_failed_call_leaves_its_key_free(ada: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    failing = {"goods": "tea", "fail": True}
    for _ in range(2):
        answer = await ada.post("/api/v1/orders/a", json=failing, headers=headers)
        assert answer.status_code == 503
    answer = await ada.post("/api/v1/orders/a", json={"goods": "tea"}, headers=headers)
    assert answer.status_code == 200


async def test_two_people_may_use_the_same_key(
    api: FastAPI, client: httpx.AsyncClient, ada: httpx.AsyncClient
) -> None:
    headers = {"Idempotency-Key": "k1"}
    mine = await ada.post("/api/v1/orders/a", json={"goods": "tea"}, headers=headers)
    async with client_of(api, token=(await register(client))["token"]) as bob:
        his = await bob.post("/api/v1/orders/a", json={"goods": "tea"}, headers=headers)
    assert mine.json()["number"] != his.json()["number"]


async def test_a_repeated_token_is_the_same_and_sealed_at_rest(
    ada: httpx.AsyncClient, postgres_url: str
) -> None:
    headers = {"Idempotency-Key": "t1"}
    first = (await ada.post("/api/v1/tokens", json={"name": "robot"}, headers=headers)).json()
    again = (await ada.post("/api/v1/tokens", json={"name": "robot"}, headers=headers)).json()
    assert first == again
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        rows = await (await connection.execute("SELECT answer FROM idempotency_keys")).fetchall()
    assert rows
    assert not any(first["token"].encode() in bytes(row[0]) for row in rows)


@pytest.mark.parametrize("key", ["", "x" * 129])
async def test_a_bad_key_is_refused(ada: httpx.AsyncClient, key: str) -> None:
    headers = {"Idempotency-Key": key}
    answer = await ada.post("/api/v1/orders/a", json={"goods": "tea"}, headers=headers)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "content",
    [
        b'{"name": "a\\u0000b", "password": "12345678"}',
        b'{"name": "a\\ud800b", "password": "12345678"}',
        b'{"name": "ab", "password": "1234567\\u0000"}',
        b'{"name": "ab", "password": "1234567\\udfff"}',
        b'{"\\ud800": "ab"}',
        b"{",
        b"[]",
        b"\xff",
    ],
)
@pytest.mark.parametrize("path", ["register", "login"])
async def test_what_the_database_cannot_hold_is_the_callers_mistake(
    client: httpx.AsyncClient, path: str, content: bytes
) -> None:
    headers = {"content-type": "application/json"}
    answer = await client.post(f"/api/v1/{path}", content=content, headers=headers)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


async def test_nul_in_an_address_is_refused(ada: httpx.AsyncClient) -> None:
    for address in ("/api/v1/tokens/a%00b", "/api/v1/tokens?cursor=a%00b"):
        answer = await ada.request("DELETE" if "?" not in address else "GET", address)
        assert answer.status_code == 422


async def test_a_body_that_is_too_large_is_refused(client: httpx.AsyncClient) -> None:
    body = {"name": "x" * (11 * 2**20), "password": PASSWORD}
    answer = await client.post("/api/v1/register", json=body)
    assert answer.status_code == 413


async def test_the_reference_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/api/docs")
    assert page.status_code == 200
    assert "/api/v1/register" in page.text
    assert "Credentials" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "<script" not in page.text
    assert "style-src 'sha256-" in page.headers["content-security-policy"]


async def test_the_openapi_document_names_the_problem(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/openapi.json")).json()
    assert document["info"]["title"] == "Tesra"
    assert "Problem" in document["components"]["schemas"]
    responses = document["paths"]["/api/v1/register"]["post"]["responses"]
    assert "application/problem+json" in responses["4XX"]["content"]
