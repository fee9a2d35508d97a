"""Accounts, sign-in and tokens."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from tesra.wire.common import Answer, Wire

Role = Literal["user", "provider", "operator"]
Scope = Literal["read", "write", "operate"]
UserName = Annotated[str, Field(min_length=1, max_length=64)]
Password = Annotated[str, Field(min_length=1, max_length=1024)]


class Credentials(Wire):
    """What register and login take."""

    name: UserName
    password: Password


class User(Answer):
    id: str
    name: str
    role: Role
    created_at: datetime


class Session(Answer):
    """The token is shown once; only its hash is kept."""

    token: str
    expires_at: datetime | None
    user: User


class TokenRequest(Wire):
    name: str = Field(default="token", min_length=1, max_length=64)
    scopes: list[Scope] = ["read", "write"]
    expires_in_days: int | None = Field(default=90, ge=0, le=3650)


class Token(Answer):
    id: str
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewToken(Token):
    token: str
