"""People and an API for them, on a real database; passwords are hashed cheaply."""

import secrets
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import httpx
from argon2 import PasswordHasher
from fastapi import FastAPI

from tesra.crypto.aead import Sealer
from tesra.db.engine import Database, Tx
from tesra.identity.account import AccountService
from tesra.identity.factors import SecondFactors
from tesra.identity.passwords import Passwords
from tesra.identity.service import IdentityService, LoginLimits, RegistrationLimits
from tesra.kit.clock import SystemClock
from tesra.kit.ids import UserId
from tesra.kit.settings import Home, Settings
from tesra.web.context import Services

PASSWORD = "correct horse 电池"


def cheap_passwords() -> Passwords:
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def unique_name(stem: str = "ada") -> str:
    return f"{stem}-{secrets.token_hex(6)}"


async def no_welcome(tx: Tx, user_id: UserId) -> None:
    """For tests in which nothing happens to a new user."""


def identity_service(**options: Any) -> IdentityService:
    options.setdefault("on_registered", no_welcome)
    options.setdefault("passwords", cheap_passwords())
    # All tests come from one address: let no test close the door for the others.
    options.setdefault("limits", LoginLimits(per_address=100_000))
    options.setdefault("registrations", RegistrationLimits(per_address=100_000))
    options.setdefault("factors", SecondFactors(Sealer(bytes(32)), SystemClock()))
    return IdentityService(**options)


def settings_in(folder: Path) -> Settings:
    """Of a home in this folder, which is made."""
    home = Home(folder / "home")
    home.create()
    return Settings(home=home, cache=folder / "cache")


def services_on(database: Database, **services: Any) -> Services:
    """Services: those given, identity, and what needs no other part; the rest are None."""
    made: dict[str, Any] = {field.name: None for field in fields(Services)}
    made |= {
        "settings": Settings(home=Home(Path("/nonexistent")), cache=Path("/nonexistent")),
        "clock": SystemClock(),
        "database": database,
        "sealer": Sealer(bytes(32)),
        "identity": identity_service(),
        "factors": SecondFactors(Sealer(bytes(32)), SystemClock()),
        "account": AccountService(),
    }
    return Services(**cast(Any, made | services))


def client_of(api: FastAPI, *, token: str | None = None) -> httpx.AsyncClient:
    """A client of the API in this process, signed in when a token is given."""
    transport = httpx.ASGITransport(app=api, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(transport=transport, base_url="http://tesra.test", headers=headers)


async def register(client: httpx.AsyncClient, name: str | None = None) -> dict[str, Any]:
    """A fresh user's session, as the API answers it."""
    body = {"name": name or unique_name(), "password": PASSWORD}
    answer = await client.post("/api/v1/register", json=body)
    assert answer.status_code == 201, answer.text
    return cast(dict[str, Any], answer.json())
