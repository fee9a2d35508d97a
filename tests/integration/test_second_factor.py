"""Second factor, sessions, password and the bound on registrations, on a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pyotp
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from factories.billing import SteppedClock
from factories.identity import (
    PASSWORD,
    client_of,
    identity_service,
    register,
    services_on,
    unique_name,
)
from tesra.crypto.aead import Sealer
from tesra.db.engine import Database
from tesra.identity.factors import SecondFactors
from tesra.identity.second_factor import code_of, step_at
from tesra.identity.service import LoginLimits, RegistrationLimits
from tesra.web.api import create_api
from tesra.web.routes import account, identity

pytestmark = pytest.mark.postgres

ROUTERS = [identity.router, account.router, account.operator_router]


class Network:
    """The API with a clock that is set by hand, from which codes are taken."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.clock = SteppedClock(datetime.now(UTC))
        factors = SecondFactors(Sealer(bytes(32)), self.clock)
        people = identity_service(factors=factors, **options)
        self.services = services_on(database, identity=people, factors=factors)
        self.api: FastAPI = create_api(self.services, routers=ROUTERS)

    def code(self, secret: str, steps: int = 0) -> str:
        return code_of(secret, step_at(self.clock.now()) + steps)

    def pass_step(self, steps: int = 1) -> None:
        self.clock.at += timedelta(seconds=30 * steps)

    async def login(self, name: str, password: str = PASSWORD, **more: Any) -> httpx.Response:
        async with client_of(self.api) as client:
            said = {"name": name, "password": password} | more
            return await client.post("/api/v1/login", json=said)

    async def operator(self) -> httpx.AsyncClient:
        async with self.services.database.begin() as tx:
            _, token = await self.services.identity.bootstrap_operator(tx)
        return client_of(self.api, token=token)


class Member:
    """A signed-in person with a second factor that is on."""

    def __init__(self, network: Network, name: str, client: httpx.AsyncClient) -> None:
        self.network, self.name, self.client = network, name, client
        self.secret = ""
        self.recovery: list[str] = []

    @classmethod
    async def of(cls, network: Network, *, factor: bool = True) -> "Member":
        async with client_of(network.api) as anonymous:
            session = await register(anonymous)
        member = cls(
            network, session["user"]["name"], client_of(network.api, token=session["token"])
        )
        if factor:
            await member.turn_on()
        return member

    async def turn_on(self) -> None:
        begun = await self.ask("POST", "second-factor/begin", password=PASSWORD)
        self.secret = begun.json()["secret"]
        confirmed = await self.ask("POST", "second-factor/confirm", code=self.code())
        assert confirmed.status_code == 200, confirmed.text
        self.recovery = confirmed.json()["recovery_codes"]
        self.network.pass_step(2)

    def code(self, steps: int = 0) -> str:
        return self.network.code(self.secret, steps)

    async def ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        return await self.client.request(method, f"/api/v1/me/{path}", json=body or None)

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.ask("GET", "second-factor")).json()
        return found

    async def login(self, code: str | None = None, **more: Any) -> tuple[int, str]:
        answer = await self.network.login(self.name, **({"code": code} if code else {}), **more)
        return answer.status_code, answer.json().get("code", "")


@pytest.fixture
def network(database: Database) -> Network:
    return Network(database)


async def test_it_is_on_only_after_a_code_was_confirmed(network: Network) -> None:
    member = await Member.of(network, factor=False)
    assert await member.state() == {
        "on": False, "begun": False, "since": None, "recovery_codes_left": 0,
    }  # fmt: skip
    begun = (await member.ask("POST", "second-factor/begin", password=PASSWORD)).json()
    read = pyotp.parse_uri(begun["uri"])
    assert (read.secret, read.name) == (begun["secret"], member.name)
    assert (await member.state())["begun"]
    assert await member.login() == (200, "")
    wrong = await member.ask("POST", "second-factor/confirm", code="000 00")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "second_factor_wrong")
    assert not (await member.state())["on"]
    code = network.code(begun["secret"])
    done = await member.ask("POST", "second-factor/confirm", code=code)
    assert len(done.json()["recovery_codes"]) == 10
    state = await member.state()
    assert (state["on"], state["begun"], state["recovery_codes_left"]) == (True, False, 10)
    assert await member.login(code) == (401, "second_factor_wrong")  # it confirmed already
    again = await member.ask("POST", "second-factor/begin", password=PASSWORD)
    assert (again.status_code, again.json()["code"]) == (401, "second_factor_needed")
    network.pass_step()
    proof = {"password": PASSWORD, "code": network.code(begun["secret"])}
    again = await member.ask("POST", "second-factor/begin", **proof)
    assert (again.status_code, again.json()["code"]) == (409, "second_factor_on")


async def test_to_begin_needs_the_password(network: Network) -> None:
    member = await Member.of(network, factor=False)
    refused = await member.ask("POST", "second-factor/begin", password="not my password")
    assert (refused.status_code, refused.json()["code"]) == (401, "password_wrong")
    nothing = await member.ask("POST", "second-factor/confirm", code="123456")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "enrolment_missing")


async def test_signing_in_needs_a_code_and_says_which_part_is_wrong(network: Network) -> None:
    member = await Member.of(network)
    assert await member.login() == (401, "second_factor_needed")
    assert await member.login("") == (401, "second_factor_needed")
    assert await member.login("abcdef") == (401, "second_factor_wrong")
    assert await member.login(member.code(), password="not my password") == (
        401,
        "wrong_credentials",
    )
    assert await member.login(member.code()) == (200, "")


async def test_a_code_is_accepted_once(network: Network) -> None:
    member = await Member.of(network)
    code = member.code()
    assert await member.login(code) == (200, "")
    assert await member.login(code) == (401, "second_factor_wrong")
    assert await member.login(member.code(-1)) == (401, "second_factor_wrong")
    assert await member.login(member.code(1)) == (200, "")


async def test_of_logins_at_once_with_one_code_one_gets_in(network: Network) -> None:
    member = await Member.of(network)
    code = member.code()
    answers = await asyncio.gather(*(member.login(code) for _ in range(5)))
    assert sorted(status for status, _ in answers) == [200, 401, 401, 401, 401]


async def test_a_recovery_code_works_once_however_it_is_typed(network: Network) -> None:
    member = await Member.of(network)
    typed = member.recovery[3].upper().replace("-", " ")
    assert await member.login(typed) == (200, "")
    assert await member.login(member.recovery[3]) == (401, "second_factor_wrong")
    assert (await member.state())["recovery_codes_left"] == 9
    other = await Member.of(network)
    assert await other.login(member.recovery[4]) == (401, "second_factor_wrong")


async def test_new_recovery_codes_end_the_old_ones(network: Network) -> None:
    member = await Member.of(network)
    proof = {"password": PASSWORD, "code": member.code()}
    made = (await member.ask("POST", "second-factor/recovery-codes", **proof)).json()
    assert await member.login(member.recovery[0]) == (401, "second_factor_wrong")
    assert await member.login(made["recovery_codes"][0]) == (200, "")


async def test_turning_it_off_needs_password_and_code(network: Network) -> None:
    member = await Member.of(network)
    for proof, code in (
        ({"password": PASSWORD}, "second_factor_needed"),
        ({"password": PASSWORD, "code": "000000x"}, "second_factor_wrong"),
        ({"password": "not my password", "code": member.code()}, "password_wrong"),
    ):
        refused = await member.ask("POST", "second-factor/off", **proof)
        assert (refused.status_code, refused.json()["code"]) == (401, code)
    proof = {"password": PASSWORD, "code": member.code()}
    assert (await member.ask("POST", "second-factor/off", **proof)).status_code == 204
    assert await member.login() == (200, "")
    gone = await member.ask("POST", "second-factor/recovery-codes", password=PASSWORD)
    assert (gone.status_code, gone.json()["code"]) == (409, "second_factor_off")


async def test_wrong_codes_close_the_door_like_wrong_passwords(database: Database) -> None:
    limited = Network(database, limits=LoginLimits(per_name=4, per_address=100_000))
    member = await Member.of(limited)
    for _ in range(4):
        assert await member.login("abcdef") == (401, "second_factor_wrong")
    assert await member.login(member.code()) == (429, "too_many_logins")
    refused = await member.ask("POST", "second-factor/off", password=PASSWORD, code=member.code())
    assert refused.status_code == 429


async def test_a_stolen_session_cannot_try_passwords_without_end(database: Database) -> None:
    limited = Network(database, limits=LoginLimits(per_name=3, per_address=100_000))
    member = await Member.of(limited, factor=False)
    guess = {"old_password": "not my password", "new_password": "another password"}
    codes = [(await member.ask("POST", "password", **guess)).status_code for _ in range(4)]
    assert codes == [401, 401, 401, 429]


async def test_a_wrong_password_is_told_alike_with_and_without_a_second_factor(
    network: Network,
) -> None:
    answers = [
        await network.login(name, "not my password", code="123456")
        for name in (
            (await Member.of(network)).name,
            (await Member.of(network, factor=False)).name,
            unique_name("nobody"),
        )
    ]
    assert len({answer.content for answer in answers}) == 1


async def test_no_secret_is_stored_in_the_clear(network: Network, database: Database) -> None:
    member = await Member.of(network)
    async with database.begin() as tx:
        for table in ("second_factors", "recovery_codes", "account_events"):
            query = text(f"SELECT row_to_json(t)::text FROM {table} t")
            rows = (await tx.execute(query)).scalars().all()
            assert rows
            for secret in (member.secret, *member.recovery):
                plain, squeezed = secret.encode().hex(), secret.replace("-", "").encode().hex()
                assert not any(s in row for row in rows for s in (secret, plain, squeezed))


async def test_an_operator_turns_it_off_with_a_note_that_stays(network: Network) -> None:
    member = await Member.of(network)
    note = {"note": "lost phone; called back"}
    path = f"/api/v1/operator/users/{member.name}/second-factor/off"
    assert (await member.client.post(path, json=note)).status_code == 403
    async with await network.operator() as operator:
        assert (await operator.post(path, json={"note": ""})).status_code == 422
        assert (await operator.post(path, json=note)).status_code == 204
        assert (await operator.post(path, json=note)).json()["code"] == "second_factor_off"
        seen = await operator.get(f"/api/v1/operator/users/{member.name}/events")
    assert await member.login() == (200, "")
    own = await member.ask("GET", "events")
    assert own.json() == seen.json()
    newest, first = own.json()["items"]
    assert (newest["kind"], newest["actor"]) == ("second_factor_off_by_operator", "operator")
    assert newest["note"] == note["note"]
    assert (first["kind"], first["actor"]) == ("second_factor_on", member.name)


async def test_sessions_say_where_they_were_begun_and_which_is_this_one(network: Network) -> None:
    member = await Member.of(network, factor=False)
    async with client_of(network.api) as client:
        said = {"name": member.name, "password": PASSWORD}
        agent = {"User-Agent": "Lynx/2.9 " + "x" * 500}
        await client.post("/api/v1/login", json=said, headers=agent)
    await member.client.post("/api/v1/tokens", json={"name": "robot"})
    newest, own = (await member.ask("GET", "sessions")).json()["items"]
    assert newest["user_agent"].startswith("Lynx/2.9 x")
    assert len(newest["user_agent"]) == 256
    assert newest["address"] == "127.0.0.1"
    assert (newest["current"], own["current"]) == (False, True)
    assert newest["last_used_at"] is None
    assert own["last_used_at"]
    listed = (await member.client.get("/api/v1/tokens")).json()["items"]
    assert [(one["kind"], one["current"]) for one in listed] == [
        ("token", False),
        ("session", False),
        ("session", True),
    ]
    only = (await member.client.get("/api/v1/tokens?kind=token")).json()["items"]
    assert [one["name"] for one in only] == ["robot"]


async def test_one_session_or_all_others_are_ended_and_api_tokens_go_on(network: Network) -> None:
    member = await Member.of(network, factor=False)
    robot = (await member.client.post("/api/v1/tokens", json={"name": "robot"})).json()
    others = [(await network.login(member.name)).json()["token"] for _ in range(3)]
    newest = (await member.ask("GET", "sessions")).json()["items"][0]["id"]
    assert (await member.ask("DELETE", f"sessions/{newest}")).status_code == 204
    refused = await member.ask("DELETE", f"sessions/{robot['id']}")
    assert (refused.status_code, refused.json()["code"]) == (404, "session_not_found")
    ended = await member.ask("POST", "sessions/revoke-others")
    assert ended.json() == {"revoked": 2}
    for token, status in ((others[0], 401), (others[2], 401), (robot["token"], 200)):
        async with client_of(network.api, token=token) as client:
            assert (await client.get("/api/v1/me")).status_code == status
    assert (await member.client.get("/api/v1/me")).status_code == 200


async def test_changing_the_password_ends_the_other_sessions(network: Network) -> None:
    member = await Member.of(network)
    await network.login(member.name, code=member.code())
    network.pass_step(2)
    change = {"old_password": PASSWORD, "new_password": "quite another 马"}
    refused = await member.ask("POST", "password", **change)
    assert refused.json()["code"] == "second_factor_needed"
    short = await member.ask("POST", "password", **change | {"new_password": "short"})
    assert short.json()["code"] == "password_too_short"
    done = await member.ask("POST", "password", **change, code=member.code())
    assert done.json() == {"revoked": 1}
    assert (await member.client.get("/api/v1/me")).status_code == 200
    network.pass_step(2)
    assert await member.login(member.code()) == (401, "wrong_credentials")
    assert await member.login(member.code(), password="quite another 马") == (200, "")


async def test_a_login_that_was_on_its_way_does_not_outlive_a_new_password(
    network: Network, database: Database
) -> None:
    member = await Member.of(network, factor=False)
    people = network.services.identity
    async with database.begin() as tx:
        attempt = await people.admit_login(tx, member.name, address="192.0.2.1")
    new_hash = await people.check_password(attempt, PASSWORD)
    change = {"old_password": PASSWORD, "new_password": "quite another 马"}
    assert (await member.ask("POST", "password", **change)).status_code == 200
    with pytest.raises(Exception, match="changed"):
        async with database.begin() as tx:
            await people.finish_login(tx, attempt, new_hash=new_hash)


async def test_an_account_without_a_password_says_so(network: Network) -> None:
    async with await network.operator() as operator:
        refused = await operator.post("/api/v1/me/second-factor/begin", json={"password": "x"})
    assert (refused.status_code, refused.json()["code"]) == (409, "password_missing")


async def test_preferences_are_changed_one_by_one(network: Network) -> None:
    member = await Member.of(network, factor=False)
    assert (await member.ask("GET", "preferences")).json() == {"locale": None, "theme": "auto"}
    await member.ask("PATCH", "preferences", locale="zh-CN")
    changed = await member.ask("PATCH", "preferences", theme="dark")
    assert changed.json() == {"locale": "zh-CN", "theme": "dark"}
    changed = await member.ask("PATCH", "preferences", locale=None)
    assert changed.json() == {"locale": None, "theme": "dark"}
    for wrong in ({"theme": None}, {"theme": "pink"}, {"locale": "fr"}, {"colour": "x"}):
        assert (await member.ask("PATCH", "preferences", **wrong)).status_code == 422
    assert (await member.ask("GET", "preferences")).json() == changed.json()


async def test_an_address_makes_so_many_accounts_an_hour(database: Database) -> None:
    limits = RegistrationLimits(per_address=3, window=timedelta(hours=1))
    limited = Network(database, registrations=limits)

    async def make(address: str, name: str | None = None) -> httpx.Response:
        transport = httpx.ASGITransport(app=limited.api, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://tesra.test") as client:
            body = {"name": name or unique_name(), "password": PASSWORD}
            return await client.post("/api/v1/register", json=body)

    taken = unique_name()
    assert (await make("198.51.100.1", taken)).status_code == 201
    assert (await make("203.0.113.9", taken)).status_code == 409  # nothing made, nothing counted
    codes = [r.status_code for r in await asyncio.gather(*(make("203.0.113.9") for _ in range(6)))]
    assert sorted(codes) == [201, 201, 201, 429, 429, 429]
    refused = await make("203.0.113.9")
    assert refused.json()["code"] == "too_many_registrations"
    assert "minutes" in refused.json()["way_out"]
    assert 3500 < int(refused.headers["retry-after"]) <= 3600
    assert (await make("203.0.113.10")).status_code == 201
    async with database.begin() as tx:
        await tx.execute(text("UPDATE registrations SET at = at - interval '61 minutes'"))
    assert (await make("203.0.113.9")).status_code == 201
